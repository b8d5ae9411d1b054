"""The variational bound over a dataset, and the rate-distortion curve that follows from its terms."""

from typing import NamedTuple

import numpy as np

from unified_diffusion.evaluation.batches import first_rows, over_batches, progress_bar
from unified_diffusion.keys import named_key
from unified_diffusion.likelihood import variational_bound


class DatasetBound(NamedTuple):
    """The means of the bound over examples, in bits per dimension; arrays have one entry per step, with rising t.

    Attributes:
        prior, diffusion, reconstruction, total: the bound and its three parts; `diffusion` is summed over the steps.
        standard_error: the standard error of `total` over the examples; 0 for one example.
        num_examples: the number of examples.
        t: the level that each step starts from, `[T]`.
        per_level: the bits of the step from t, `[T]`; the first entry is the reconstruction.
        rate: the bits that have been sent once x_t is known, which are those of the prior and of all steps from noisier
            levels, `[T]`.
        distortion: the root mean squared error of x0_hat at t, in data units, `[T]`.
    """

    prior: float
    diffusion: float
    reconstruction: float
    total: float
    standard_error: float
    num_examples: int
    t: np.ndarray
    per_level: np.ndarray
    rate: np.ndarray
    distortion: np.ndarray


def dataset_bound(
    denoiser,
    dataset,
    *,
    num_steps=None,
    num_examples=0,
    batch_size=250,
    seed=0,
    conditional=False,
    codec=None,
    **options,
):
    """The means of the bound over a dataset, and DDPM's progressive coding: a `DatasetBound`.

        bound = dataset_bound(denoiser, dataset, num_examples=1000)
        bound.total  # bits per dimension

    The noise of an example at a level is drawn from (seed, example, level) alone, so two models are measured on the
    same noise. The distortion at a rate is that of x0_hat(x_t) when x_T … x_t have been sent, and the terms of the
    bound are the rate. Ho et al. 2020, section 4.3 and figure 5.

    Args:
        denoiser: the model, under the perturbation whose chain it is.
        dataset: a data set in memory or streamed.
        num_examples: how many examples are measured, from the first; 0 for all.
        num_steps: the number of steps of the chain; None takes every level.
        batch_size: how many examples are measured at once.
        seed: the seed of the noise.
        conditional: whether the network is told the labels of the examples.
        codec: the codec that the model was trained with; None takes the built-in one for the shape of the examples.
        options: variance, clip_x0 and discretized, as in `variational_bound`.

    Raises:
        UserError: as `variational_bound` does.
    """
    key, rows = named_key(seed, "variational bound"), first_rows(dataset, num_examples)
    count, steps = len(rows), num_steps or denoiser.perturbation.num_steps

    def terms(batch):
        label = batch.label if conditional else None
        of_steps = {"num_steps": num_steps, "progress": bar.update}
        bound = variational_bound(denoiser, batch.x0, batch.keys(key), label, **of_steps, **options)
        return bound.prior, bound.diffusion, bound.reconstruction, bound.total, bound.x0_error

    with progress_bar(-(-count // min(batch_size, count)) * steps, "step", "bound") as bar:
        found = over_batches(terms, dataset, rows, batch_size, codec)
    prior, diffusion, decoder, total, x0_error = (part.astype(np.float64) for part in found)
    per_level = diffusion.mean(0)
    noisier = np.append(np.cumsum(per_level[:0:-1])[::-1], 0)
    per_level[0] = decoder.mean()
    return DatasetBound(
        prior=prior.mean(),
        diffusion=diffusion.sum(1).mean(),
        reconstruction=decoder.mean(),
        total=total.mean(),
        standard_error=total.std(ddof=1) / np.sqrt(count) if count > 1 else 0.0,
        num_examples=count,
        t=denoiser.perturbation.timesteps(steps)[:-1][::-1],
        per_level=per_level,
        rate=prior.mean() + noisier,
        distortion=np.sqrt(x0_error.mean(0)),
    )
