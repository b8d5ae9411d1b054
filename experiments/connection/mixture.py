"""Section 5: two modes of unequal weight, and what each sampler makes of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.connection.page import Section
from experiments.connection.training import trained
from unified_diffusion import data
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.evaluation import fisher_divergence
from unified_diffusion.keys import named_key
from unified_diffusion.perturbations import NCSN
from unified_diffusion.samplers import Ancestral, AnnealedLangevin
from unified_diffusion.samplers.langevin import LangevinRow
from unified_diffusion.visualization import plot_clouds, plot_fields

TITLE = "Two modes of unequal weight"
DENSITY = "gaussians_unequal"
FULL = {"training.steps": 3000, "training.log_every": 500}
QUICK = {"training.steps": 20, "training.batch_size": 32, "model.width": 16, "model.depth": 1}
SMALL = NCSN(sigmas=(0.05,))
LADDER = NCSN(20, sigma_min=0.03, sigma_max=2.0)
LANGEVIN = AnnealedLangevin(steps_per_level=40, step_size=0.2)
ANCESTRAL = Ancestral(clip_x0=False)
SHOWN = (0.1, 0.5, 2.0)  # sigma / alpha of the fields


def run(workdir, quick):
    """The run of the MLP on the mixture: (config's name, fields, folder)."""
    fields = {"data.density": DENSITY, "training.sample_every": 0, **(QUICK if quick else FULL)}
    return "ddpm_toy.py", fields, workdir / "mixture"


def section(workdir, quick):
    """The `Section`; trains the MLP."""
    experiment, dataset, learned = trained(*run(workdir, quick))
    weights, means, std = data.toy.mixture(DENSITY)
    mixture = GaussianMixture(
        jnp.asarray(weights, jnp.float32), jnp.asarray(means, jnp.float32), jnp.full(2, std, jnp.float32)
    )
    process = learned.perturbation
    exact = mixture.denoiser(process)
    count = 200 if quick else 2000
    clouds, results = {}, {}
    clouds[f"data: {weights[0]:.2f}"] = dataset.examples[:count]
    for who, denoiser in (("exact", exact), ("learned", learned)):
        if who == "learned":
            clouds["where plain Langevin starts"] = start(named_key(0, "start"), count)
        for name, (draw, evaluations) in samplers(count).items():
            points = np.asarray(draw(denoiser, named_key(0, name)))
            share = weight_of_first(points, means)
            results.setdefault(name, {"evaluations": evaluations})[who] = share
            clouds[f"{name}, {who} score: {share:.2f}"] = points
    levels = [int(np.argmin(np.abs(process.exact(process.times).log_snr + 2 * np.log(ratio)))) + 1 for ratio in SHOWN]
    divergence = fisher_divergence(learned, mixture, levels, num_samples=1000 if quick else 10_000, batch_size=1000)
    error = np.sqrt(weights[0] * weights[1] / count)
    values = {
        "weights": weights,
        "std": std,
        "steps": experiment.training.steps,
        "count": count,
        "small_sigma": SMALL.prior_sigma,
        "error": error,
        "fields": _fields(process, levels, mixture, exact, learned),
        "clouds": plot_clouds(clouds, columns=4),
        "divergence": [
            [float(ratio), t, *(float(column[i]) for column in divergence)]
            for i, (ratio, t) in enumerate(zip(SHOWN, levels, strict=True))
        ],
        "shares": [
            [name, row["evaluations"], row["exact"], row["learned"], float(weights[0])] for name, row in results.items()
        ],
    }
    numbers = {
        "truth": float(weights[0]),
        "standard_error": float(error),
        "weights": results,
        "fisher": {"t": levels, **{name: list(map(float, column)) for name, column in divergence._asdict().items()}},
        "steps": experiment.training.steps,
    }
    return Section("mixture", TITLE, values, numbers)


def samplers(count):
    """Name -> (function of (denoiser, key) to points `[count, 2]`, network evaluations a point)."""
    evaluations = LANGEVIN.num_evaluations(LADDER)
    return {
        "plain Langevin": (lambda d, key: plain(d.under(SMALL), key, count, evaluations), evaluations),
        "annealed Langevin": (lambda d, key: LANGEVIN(d.under(LADDER), key, (count, 2)), evaluations),
        "ancestral": (lambda d, key: ANCESTRAL(d, key, (count, 2)), 200),
    }


def start(key, count):
    """Points uniform in the square."""
    return jax.random.uniform(key, (count, 2), minval=-1, maxval=1)


@functools.partial(jax.jit, static_argnames=("count", "steps"))
def plain(denoiser, key, count, steps):
    """Langevin dynamics at the one level of the denoiser's perturbation, from points uniform in the square."""
    size = jnp.float32(LANGEVIN.step_size)

    def body(x, number):
        keys = jax.random.split(jax.random.fold_in(key, number), count)
        row = LangevinRow(s=1, t=1, size=size, noise=jnp.sqrt(2 * size))
        return LANGEVIN.step(denoiser, x, row, keys), None

    return jax.lax.scan(body, start(key, count), jnp.arange(1, steps + 1))[0]


def weight_of_first(points, means):
    """The share of points that are nearest to the first mean."""
    distance = np.sum((np.asarray(points)[:, None] - means) ** 2, axis=-1)
    return float(np.mean(np.argmin(distance, axis=1) == 0))


def _fields(process, levels, mixture, exact, learned):
    columns, densities = [], []
    for ratio, t in zip(SHOWN, levels, strict=True):
        columns.append(
            {
                f"{who}, σ/α = {ratio:g}": functools.partial(_score, denoiser, t)
                for who, denoiser in (("exact", exact), ("learned", learned))
            }
        )
        densities.append(functools.partial(_density, mixture, process, t))
    return plot_fields(columns, densities)


def _score(denoiser, t, x):
    return denoiser(jnp.asarray(x), t).score


def _density(mixture, process, t, x):
    return mixture.log_prob(jnp.asarray(x), process, t)
