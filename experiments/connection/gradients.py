"""Section 4: where a trained network's loss and gradient come from, under each weighting."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.connection.page import Section, code
from experiments.connection.training import trained
from unified_diffusion.codecs import Images
from unified_diffusion.keys import named_key
from unified_diffusion.objectives import WEIGHTINGS, Denoising, weight
from unified_diffusion.visualization import Curve, plot_panels

TITLE = "Why L_simple trains more easily than the bound"
# DDPM's own chain; the cosine one's last betas, near 1, would add a few huge weights of the bound at the noisy end.
COMMON = {"perturbation.schedule": "linear", "training.sample_every": 0, "training.log_every": 100}
FULL = {"training.steps": 800}
MAIN = ("simple", "vlb")
QUICK = {
    "training.steps": 5,
    "training.batch_size": 8,
    "model.channels": 8,
    "model.multipliers": "(1,)",
    "model.attention_resolutions": "(8,)",
}


def run(workdir, quick):
    """The run of the U-Net on digits: (config's name, fields, folder)."""
    return "ddpm_digits.py", COMMON | (QUICK if quick else FULL), workdir / "digits"


def section(workdir, quick):
    """The `Section`; trains the U-Net."""
    experiment, dataset, denoiser = trained(*run(workdir, quick))
    process = denoiser.perturbation
    ends = [1, 2, 4, 8, 16] if not quick else [1]
    spread = np.linspace(1, process.num_steps, 4 if quick else 24)
    times = np.unique(np.concatenate([ends, np.rint(spread)]).astype(np.int32))
    losses, squares = measure(denoiser, dataset, times, 2 if quick else 24)
    everywhere = np.arange(1, process.num_steps + 1)
    loss = interpolate(everywhere, times, losses.mean(axis=1))
    moment = interpolate(everywhere, times, squares.mean(axis=1))
    log_snr = process.exact(process.times).log_snr
    weights = {name: np.asarray(weight(name, process, everywhere), np.float64) for name in WEIGHTINGS}
    report = {
        name: {
            "loss": summary(w * loss),
            "gradient": summary(w**2 * moment),
            "excess": float(np.mean(w**2 * moment) / np.mean(w * np.sqrt(moment)) ** 2),
        }
        for name, w in weights.items()
    }
    curves = {name: {"loss": w * loss, "second moment of the gradient": w**2 * moment} for name, w in weights.items()}
    values = {
        "steps": experiment.training.steps,
        "levels": len(times),
        "num_steps": process.num_steps,
        "digits": squares.shape[1],
        "simple": report["simple"],
        "vlb": report["vlb"],
        "few": _picture(log_snr, {name: curves[name] for name in MAIN}),
        "everything": _picture(log_snr, curves),
        "rows": [
            [
                code(name),
                f"{report[name]['loss']:.1%} of levels",
                f"{report[name]['gradient']:.1%} of levels",
                report[name]["excess"],
            ]
            for name in (*MAIN, *(name for name in WEIGHTINGS if name not in MAIN))
        ],
    }
    levels = {
        "t": times.tolist(),
        "log_snr": log_snr[times - 1].tolist(),
        "loss": losses.mean(axis=1).tolist(),
        "gradient_second_moment": squares.mean(axis=1).tolist(),
        "weight": {name: w[times - 1].tolist() for name, w in weights.items()},
    }
    numbers = {"levels": levels, "weightings": report, "steps": experiment.training.steps}
    return Section("gradients", TITLE, values, numbers)


def measure(denoiser, dataset, times, count):
    """Measures `count` examples at each level: (mean squared errors in eps, squared norms of their gradients).

    Each is `[L, count]`. It takes one example at a time, since XLA:CPU has no fast way to the gradients of each example
    of a batch.
    """
    objective = Denoising()

    @jax.jit
    def one(denoiser, x0, t, noise):
        def loss(denoiser):
            return jnp.squeeze(objective.at(denoiser, x0, t, noise)[0])

        value, gradient = jax.value_and_grad(loss)(denoiser)
        return value, sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient))

    x0 = Images().encode(dataset.examples[:count])
    key = named_key(0, "gradients")
    losses, squares = np.empty((2, len(times), count))
    with tqdm(total=losses.size, unit="gradient", desc="gradients", disable=not sys.stderr.isatty()) as bar:
        for row, t in enumerate(times):
            noise = jax.random.normal(jax.random.fold_in(key, t), x0.shape)
            for i in range(count):
                at = slice(i, i + 1)
                losses[row, i], squares[row, i] = one(denoiser, x0[at], jnp.full(1, t, jnp.int32), noise[at])
            bar.update(count)
    return losses, squares


def interpolate(everywhere, times, values):
    """Interpolates positive values between levels: their logarithms are linear in log t."""
    return np.exp(np.interp(np.log(everywhere), np.log(times), np.log(values)))


def summary(values):
    """The smallest fraction of the levels that holds half of the values' sum."""
    share = np.cumsum(np.sort(values)[::-1]) / np.sum(values)
    return float((np.searchsorted(share, 0.5) + 1) / len(values))


def _picture(log_snr, curves):
    """Panels of {weighting: {quantity: values at all levels}}, each curve over its own mean."""
    colors = {name: color for color, name in enumerate(WEIGHTINGS)}
    quantities = next(iter(curves.values()))
    panels = {
        quantity: [
            Curve(log_snr, values[quantity] / np.mean(values[quantity]), name, colors[name])
            for name, values in curves.items()
        ]
        for quantity in quantities
    }
    return plot_panels(
        panels,
        "log SNR    (noise on the left, clean data on the right)",
        "over its mean over the levels",
        yscale="log",
        ylim=(1e-4, 1e3),
        size=(4.2, 3.3),
        legend="right" if len(curves) > len(MAIN) else "each",
    )
