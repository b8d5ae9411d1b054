"""The probability flow's log-likelihood over a dataset."""

import functools
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from unified_diffusion import data
from unified_diffusion.keys import named_key
from unified_diffusion.likelihood import flow_likelihood


class DatasetLikelihood(NamedTuple):
    """Means over examples.

    Attributes:
        bits_per_dim: as `FlowLikelihood` has it.
        standard_error: of that mean, over the examples and with them their draws; None for one example.
        num_examples: how many there were.
        mean_evaluations, max_evaluations: of the network, by an example.
    """

    bits_per_dim: float
    standard_error: float | None
    num_examples: int
    mean_evaluations: float
    max_evaluations: int


def dataset_likelihood(denoiser, dataset, *, num_examples=0, batch_size=250, seed=0, conditional=False, **options):
    """The flow's likelihood over a dataset: a `DatasetLikelihood`.

    The draws of an example come from (seed, example) alone.

    Args:
        denoiser: the model.
        dataset: in memory or streamed; its first `num_examples` examples, or all for 0.
        batch_size: examples at once.
        options: as in `flow_likelihood`.

    Raises:
        UserError: as `flow_likelihood` does.
    """
    key = named_key(seed, "probability flow")
    count = min(num_examples or len(dataset), len(dataset))
    batch_size = min(batch_size, count)
    bits, evaluations = [], []
    bar = tqdm(total=count, unit="example", desc="likelihood", disable=not sys.stderr.isatty())
    with bar:
        for start in range(0, count, batch_size):
            rows = np.resize(np.arange(start, min(start + batch_size, count)), batch_size)
            batch = dataset.gather(rows)
            keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.asarray(rows))
            label = batch["label"] if conditional else None
            found = flow_likelihood(denoiser, data.to_model(batch["x0"]), keys, label, **options)
            bits.append(np.asarray(found.bits_per_dim, np.float64))
            evaluations.append(np.asarray(found.evaluations))
            bar.update(min(batch_size, count - start))
    bits, evaluations = (np.concatenate(parts)[:count] for parts in (bits, evaluations))
    return DatasetLikelihood(
        bits_per_dim=float(bits.mean()),
        standard_error=float(bits.std(ddof=1) / np.sqrt(count)) if count > 1 else None,
        num_examples=count,
        mean_evaluations=float(evaluations.mean()),
        max_evaluations=int(evaluations.max()),
    )
