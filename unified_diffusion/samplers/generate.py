"""Any number of samples, in batches that fit into memory."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from unified_diffusion.samplers.base import Sampler


def generate(
    sampler: Sampler,
    denoiser,
    key,
    num_samples,
    shape,
    *,
    batch_size=250,
    labels=None,
    sharding=None,
    progress=None,
    evaluations=None,
):
    """Draws `num_samples` samples, float32 `[num_samples, *shape]` in data units, on the host.

    Sample i draws from fold_in(key, i) alone, so the samples of a key do not depend on the batch size.

        generate(DDIM(num_steps=50), denoiser, jax.random.key(0), 10_000, (32, 32, 3), batch_size=500)

    Args:
        sampler, denoiser: the sampler that is run, and the model.
        key: one random key, or one per sample, `[num_samples]`, which is then used as it is.
        num_samples: how many samples.
        shape: the shape of one sample.
        batch_size: how many samples at once. All batches have this size, so one compilation serves them all.
        labels: the condition of each sample, such as class labels `[num_samples]`, or None.
        sharding: how a batch is laid over devices, or None.
        progress: a function called now and then with the number of steps done; None shows a bar on the terminal.
        evaluations: a list, to which the network evaluations of each sample are appended, in order.
    """
    batch_size = min(batch_size, num_samples) if sharding is None else batch_size
    starts = range(0, num_samples, batch_size)
    # The last batch is filled up with samples that are dropped.
    filled = np.arange(len(starts) * batch_size)
    keys = key[filled % num_samples] if key.ndim else jax.vmap(functools.partial(jax.random.fold_in, key))(filled)
    samples = np.empty((num_samples, *shape), np.float32)
    steps = len(starts) * len(sampler.rows(denoiser.perturbation)[0])
    bar = tqdm(total=steps, unit="step", desc="sampling", disable=progress is not None or not sys.stderr.isatty())
    with bar:
        for start in starts:
            rows = filled[start : start + batch_size]
            batch_keys = keys[rows]
            label = jax.tree.map(lambda of_all, rows=rows: jnp.asarray(np.asarray(of_all)[rows % num_samples]), labels)
            if sharding is not None:
                batch_keys, label = jax.device_put((batch_keys, label), sharding)
            batch, taken = sampler.run(denoiser, batch_keys, (batch_size, *shape), label, progress or bar.update)
            samples[start : start + batch_size] = np.asarray(batch)[: num_samples - start]
            if evaluations is not None:
                evaluations.extend(taken[: num_samples - start].tolist())
    return samples
