"""Every sampler, on every perturbation, given exact denoisers, must give back the data: one table of them all.

`python tests/samplers/test_recovery_table.py` prints it in Markdown, or the rows that are named.
"""

import dataclasses
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.perturbations import DDPM, NCSN, VE, VP, Cosine, SubVP
from unified_diffusion.samplers import SAMPLERS

# The noisiest level has to drown the data, and the first one to be small beside the components' stds.
PERTURBATIONS = {
    "DDPM linear": DDPM(),
    "DDPM cosine": DDPM(schedule="cosine"),
    "NCSN": NCSN(500, sigma_min=0.02, sigma_max=20.0),
    "VP": VP(),
    "SubVP": SubVP(),
    "VE": VE(sigma_max=20.0),
    "Cosine": Cosine(),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A sampler's name and settings, its number of steps among them."""

    name: str
    settings: dict

    def sampler(self):
        """As registered; for points, which are not clipped to images' range."""
        target = SAMPLERS[self.name]
        fields = {field.name for field in dataclasses.fields(target)}
        points = {name: value for name, value in {"clip_x0": False, "last_noise": None}.items() if name in fields}
        return target(**points, **self.settings)


# With these steps a single Gaussian's std is about 1 % off, by the recursion of its variance; with more it is less.
# Langevin dynamics takes small steps to get the weights right, and many to forget the noise before.
ROWS = {
    "ancestral, large": Row("ancestral", {"num_steps": 350, "variance": "large"}),
    "ancestral, small": Row("ancestral", {"num_steps": 500, "variance": "small", "spacing": "quadratic"}),
    "analytic_dpm": Row("analytic_dpm", {"num_steps": 100, "spacing": "quadratic"}),
    "annealed_langevin": Row("annealed_langevin", {"num_levels": 250, "steps_per_level": 8, "step_size": 0.4}),
    "consistent_annealed": Row("consistent_annealed", {"num_steps": 400, "rate": 1.25, "spacing": "quadratic"}),
    "ddim": Row("ddim", {"num_steps": 300, "spacing": "quadratic"}),
    "dpm_solver, order 2": Row("dpm_solver", {"num_steps": 100}),
    "dpm_solver, order 3": Row("dpm_solver", {"num_steps": 80, "order": 3}),
    "dpm_solver, stochastic": Row("dpm_solver", {"num_steps": 60, "stochastic": True}),
    "euler": Row("euler", {"num_steps": 300, "spacing": "quadratic"}),
    "euler_maruyama": Row("euler_maruyama", {"num_steps": 150, "spacing": "quadratic"}),
    "heun": Row("heun", {"num_steps": 80, "spacing": "log_snr"}),
    "heun, churn": Row("heun", {"num_steps": 60, "churn": 10.0, "spacing": "quadratic"}),
    "pndm": Row("pndm", {"num_steps": 50}),
    "predictor_corrector": Row("predictor_corrector", {"num_steps": 150, "norms": "expected"}),
    "probability_flow": Row("probability_flow", {"rtol": 1e-3, "atol": 1e-3}),
    "reverse_diffusion": Row("reverse_diffusion", {"num_steps": 400}),
    "unipc": Row("unipc", {"num_steps": 80}),
}

# A sample is 14 independent points of the plane and one of 64 dimensions, side by side: one run, and 42,000 and 3,000
# points. Of so many true draws the weights are off by 0.002 and 0.009, the means by 0.2 % and 0.4 %, and the stds
# by 0.4 % and 0.3 % (standard errors): half of what is allowed and less. Both have mean 0, as the priors have.
PLANE = GaussianMixture(np.array([0.35, 0.65]), np.array([[-2.6, -1.3], [1.4, 0.7]]), np.array([0.4, 0.55]))
PATTERN = np.resize([0.7, -0.6, 0.3], 64)
WIDE = GaussianMixture(np.array([0.4, 0.6]), np.stack([-0.6 * PATTERN, 0.4 * PATTERN]), np.array([0.45, 0.45]))
POINTS, SAMPLES = 14, 3000
KEY = jax.random.key(5)
TOLERANCE = 0.02
# The perturbation on which each row runs always; on the others it is slow.
ALWAYS = {row: list(PERTURBATIONS)[number % len(PERTURBATIONS)] for number, row in enumerate(ROWS)}
# 2,001 evaluations are slow on any; tests/samplers/test_recovery.py has annealed Langevin dynamics of fewer.
ALWAYS["annealed_langevin"] = None


class Exact:
    """The exact denoiser of such samples, as a network."""

    def __init__(self, perturbation):
        self.perturbation = perturbation

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        alpha, sigma = self.perturbation.scales(self.perturbation.label_log_snr(noise_label))
        x0 = [x0_hat(mixture, part, alpha, sigma) for mixture, part in zip((PLANE, WIDE), split(x), strict=True)]
        return jnp.concatenate([part.reshape(len(x), -1) for part in x0], axis=1)


def x0_hat(mixture, x, alpha, sigma):
    """`GaussianMixture.posterior_mean` of two components, `[B, n, D]`, several times as fast for small D."""
    logits, x0 = [], []
    alpha, sigma = (jnp.reshape(level, (-1, 1, 1)) for level in (alpha, sigma))
    for weight, mean, std in zip(mixture.weights, jnp.asarray(mixture.means, jnp.float32), mixture.stds, strict=True):
        difference, variance = x - alpha * mean, (alpha * std) ** 2 + sigma**2
        squares = jnp.sum(difference**2, axis=2, keepdims=True)
        logits.append(np.log(weight) - squares / (2 * variance) - x.shape[2] / 2 * jnp.log(variance))
        x0.append(mean + alpha * std**2 / variance * difference)
    first = jax.nn.sigmoid(logits[0] - logits[1])
    return first * x0[0] + (1 - first) * x0[1]


def split(x):
    """Points of the plane `[B, POINTS, 2]`, and of 64 dimensions `[B, 1, 64]`."""
    return x[:, : 2 * POINTS].reshape(len(x), POINTS, 2), x[:, None, 2 * POINTS :]


def draw(key, count):
    """Samples of the truth."""
    plane_key, wide_key = jax.random.split(key)
    plane = PLANE.sample(plane_key, count * POINTS).reshape(count, -1)
    return jnp.concatenate([plane, WIDE.sample(wide_key, count)], axis=1)


def errors(mixture, x):
    """Of the weights, of the means over the data's scale, and of the stds over themselves: the worst component's."""
    weights, means, stds = mixture.weights, mixture.means, mixture.stds
    x = x.reshape(-1, means.shape[1])
    own = np.argmin([np.sum((x - mean) ** 2, axis=1) for mean in means], axis=0)
    groups = [x[own == k] for k in range(len(weights))]
    scale = np.sqrt(np.sum(weights * (np.sum(means**2, axis=1) + means.shape[1] * stds**2)))
    # Along the line that both means are on. Across it the truth is symmetric, and in 64 dimensions chance adds up.
    line = (means[0] - means[1]) / np.linalg.norm(means[0] - means[1])
    off = [(group.mean(0) - mean) @ line for group, mean in zip(groups, means, strict=True)]
    found = [np.sqrt(np.mean((group - group.mean(0)) ** 2)) for group in groups]
    return (
        np.max(np.abs([len(group) / len(x) for group in groups] - weights)),
        np.max(np.abs(off)) / scale,
        np.max(np.abs(found / stds - 1)),
    )


def run(row, name):
    """(mean evaluations of a sample, errors in the plane, errors in 64 dimensions)."""
    perturbation, sampler = PERTURBATIONS[name], ROWS[row].sampler()
    denoiser = Denoiser(Exact(perturbation), perturbation, "x0")
    data = draw(jax.random.fold_in(KEY, 1), 2000) if sampler.needs_data else None
    sampler = sampler.prepare(denoiser, data, KEY, batch_size=2000)
    x, evaluations = sampler.run(denoiser, KEY, (SAMPLES, 2 * POINTS + 64))
    parts = split(np.asarray(x, np.float64))
    return round(np.mean(evaluations)), *(errors(*pair) for pair in zip((PLANE, WIDE), parts, strict=True))


def cases():
    for row in ROWS:
        for name in PERTURBATIONS:
            marks = [] if name == ALWAYS[row] else [pytest.mark.slow]
            yield pytest.param(row, name, marks=marks, id=f"{row}-{name}")


@pytest.mark.parametrize(("row", "name"), list(cases()))
def test_the_mixtures_are_recovered(row, name):
    _, plane, wide = run(row, name)
    assert max(plane) < TOLERANCE, plane
    assert max(wide) < TOLERANCE, wide


def test_every_sampler_has_a_row():
    assert {row.name for row in ROWS.values()} == set(SAMPLERS)


@pytest.mark.parametrize("name", ["DDPM linear", "VE"])
def test_the_exact_denoiser_is_the_mixtures(name):
    perturbation = PERTURBATIONS[name]
    parts = split(draw(KEY, 20))
    for t in perturbation.times[[3, 200, -1]]:
        levels = perturbation.alpha(t), perturbation.sigma(t)
        for mixture, x in zip((PLANE, WIDE), parts, strict=True):
            points = x.reshape(-1, x.shape[-1])
            expected = mixture.posterior_mean(points, *levels).reshape(x.shape)
            np.testing.assert_allclose(x0_hat(mixture, x, *levels), expected, atol=1e-5)


def test_the_errors_are_those_of_the_samples():
    """Of true draws they are small; a wrong weight, mean or std is told apart from the others, at its size."""
    plane, wide = (np.asarray(part, np.float64) for part in split(draw(jax.random.key(3), SAMPLES)))
    for mixture, x in ((PLANE, plane), (WIDE, wide)):
        x = x.reshape(-1, x.shape[-1])
        assert max(errors(mixture, x)) < 0.75 * TOLERANCE
        weights, means, stds = mixture.weights, mixture.means, mixture.stds
        scale = np.sqrt(np.mean(np.sum(x**2, axis=1)))
        shift = 0.05 * scale * (means[0] - means[1]) / np.linalg.norm(means[0] - means[1])
        for wrong, expected in (
            (GaussianMixture(weights + [0.05, -0.05], means, stds), (0.05, 0, 0)),
            (GaussianMixture(weights, means + shift, stds), (0, 0.05, 0)),
            (GaussianMixture(weights, means, stds * 1.05), (0, 0, 1 - 1 / 1.05)),
        ):
            np.testing.assert_allclose(errors(wrong, x), expected, atol=0.015)


def print_table(rows):
    """Markdown: evaluations, then the worst errors in per cent, of weights / means / stds, in 2-D and in 64-D."""
    print(f"| sampler | {' | '.join(PERTURBATIONS)} |\n|---{'|---' * len(PERTURBATIONS)}|")
    for row in rows:
        cells, start = [], time.process_time()
        for name in PERTURBATIONS:
            evaluations, *found = run(row, name)
            parts = (" / ".join(f"{100 * error:.1f}" for error in part) for part in found)
            cells.append(f"{evaluations:,}: {'; '.join(parts)}")
        print(f"| {row} | {' | '.join(cells)} |", flush=True)
        print(f"{row}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print_table(sys.argv[1:] or ROWS)
