"""The log-likelihood of the probability flow over a dataset."""

from typing import NamedTuple

import numpy as np

from unified_diffusion.evaluation.batches import first_rows, over_batches, progress_bar
from unified_diffusion.keys import named_key
from unified_diffusion.likelihood import flow_likelihood


class DatasetLikelihood(NamedTuple):
    """The means of the likelihood over examples.

    Attributes:
        bits_per_dim: the mean of `FlowLikelihood.bits_per_dim`.
        standard_error: the standard error of that mean, over the examples and their draws; None for one example.
        num_examples: the number of examples.
        mean_evaluations, max_evaluations: the network evaluations that an example took, on average and at most.
    """

    bits_per_dim: float
    standard_error: float | None
    num_examples: int
    mean_evaluations: float
    max_evaluations: int


def dataset_likelihood(
    denoiser, dataset, *, num_examples=0, batch_size=250, seed=0, conditional=False, codec=None, **options
):
    """The likelihood of the flow over a dataset: a `DatasetLikelihood`.

        likelihood = dataset_likelihood(denoiser, dataset, num_examples=100, rtol=1e-4)
        likelihood.bits_per_dim

    The draws of an example come from (seed, example) alone.

    Args:
        denoiser: the model.
        dataset: a data set in memory or streamed.
        num_examples: how many examples are measured, from the first; 0 for all.
        batch_size: how many examples are measured at once.
        seed: the seed of the draws.
        conditional: whether the network is told the labels of the examples.
        codec: the codec that the model was trained with; None takes the built-in one for the shape of the examples.
        options: as in `flow_likelihood`.

    Raises:
        UserError: as `flow_likelihood` does.
    """
    key, rows = named_key(seed, "probability flow"), first_rows(dataset, num_examples)
    count = len(rows)

    def of_batch(batch):
        label = batch.label if conditional else None
        found = flow_likelihood(denoiser, batch.x0, batch.keys(key), label, **options)
        bar.update(batch.count)
        return found.bits_per_dim, found.evaluations

    with progress_bar(count, "example", "likelihood") as bar:
        bits, evaluations = over_batches(of_batch, dataset, rows, batch_size, codec)
    bits = bits.astype(np.float64)
    return DatasetLikelihood(
        bits_per_dim=float(bits.mean()),
        standard_error=float(bits.std(ddof=1) / np.sqrt(count)) if count > 1 else None,
        num_examples=count,
        mean_evaluations=float(evaluations.mean()),
        max_evaluations=int(evaluations.max()),
    )
