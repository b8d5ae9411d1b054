"""The variational bound over a dataset, and the rate-distortion curve that comes with it."""

import functools
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from unified_diffusion import data
from unified_diffusion.keys import named_key
from unified_diffusion.likelihood import variational_bound


class DatasetBound(NamedTuple):
    """Means over examples, in bits per dimension; arrays have one entry per step, t rising, as in `Bound`.

    Attributes:
        prior, diffusion, reconstruction, total: the bound and its three parts, of which `diffusion` is summed.
        standard_error: of `total`, over the examples; 0 for one example.
        num_examples: how many there were.
        t: the level that each step starts from, `[T]`.
        per_level: the bits of the step from t; the decoder's at t[0]. `[T]`
        rate: the bits that have been sent once x_t is known: the prior's and all steps' from noisier levels. `[T]`
        distortion: root mean squared error of x0_hat at t, in data units. `[T]`
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
    denoiser, dataset, *, num_steps=None, num_examples=0, batch_size=250, seed=0, conditional=False, **options
):
    """The bound's means over a dataset, and DDPM's progressive coding: a `DatasetBound`.

    The noise of an example at a level is drawn from (seed, example, level) alone: two models are measured on the same.
    The distortion at a rate is that of x0_hat(x_t) when x_T … x_t have been sent, at the price of the bound's terms.
    Ho et al. 2020, section 4.3 and figure 5.

    Args:
        denoiser: the model, under the perturbation whose chain it is.
        dataset: in memory or streamed; its first `num_examples` examples, or all for 0.
        num_steps: of the chain; None takes every level.
        batch_size: examples at once.
        options: variance, clip_x0 and discretized, as in `variational_bound`.

    Raises:
        UserError: as `variational_bound` does.
    """
    key = named_key(seed, "variational bound")
    count = min(num_examples or len(dataset), len(dataset))
    batch_size = min(batch_size, count)
    steps = num_steps or denoiser.perturbation.num_steps
    bounds = []
    bar = tqdm(total=-(-count // batch_size) * steps, unit="step", desc="bound", disable=not sys.stderr.isatty())
    with bar:
        for start in range(0, count, batch_size):
            rows = np.resize(np.arange(start, min(start + batch_size, count)), batch_size)
            batch = dataset.gather(rows)
            keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.asarray(rows))
            bound = variational_bound(
                denoiser,
                data.to_model(batch["x0"]),
                keys,
                batch["label"] if conditional else None,
                num_steps=num_steps,
                progress=bar.update,
                **options,
            )
            bounds.append(jax.tree.map(lambda part: np.asarray(part, np.float64), bound))
    prior, diffusion, decoder, total, x0_error = (
        np.concatenate([getattr(bound, name) for bound in bounds])[:count]
        for name in ("prior", "diffusion", "reconstruction", "total", "x0_error")
    )
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
