"""Section 3: an ancestral step beside a Langevin step, with the coefficients measured on the samplers' own code."""

import jax
import jax.numpy as jnp
import numpy as np
from markupsafe import Markup

from experiments.connection.page import Section
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.perturbations import DDPM, NCSN
from unified_diffusion.samplers import Ancestral, AnnealedLangevin, Row
from unified_diffusion.samplers.base import noise_like
from unified_diffusion.samplers.langevin import LangevinRow
from unified_diffusion.visualization import Curve, plot_panels

TITLE = "An ancestral step beside a Langevin step"
CHAIN = "DDPM, 1000 linear steps"
# With the step sizes of the papers' own code, a / sigma².
PROCESSES = {
    "NCSN, 10 levels": (NCSN(), 0.2),
    "NCSNv2, 232 levels": (NCSN(232, sigma_min=0.02, sigma_max=100.0), 0.062),
    CHAIN: (DDPM(), 0.2),
}
COLUMNS = {
    "sigma": Markup("σ<sub>t</sub>"),
    "ancestral_drift": "ancestral drift",
    "large_noise": "noise, large",
    "small_noise": "noise, small",
    "langevin_drift": "Langevin drift",
    "langevin_noise": "Langevin noise",
}


def section(workdir, quick):
    """The `Section`: a computation without training or data."""
    del workdir, quick
    numbers = {name: coefficients(*process) for name, process in PROCESSES.items()}
    sums = {name: float(found["sum_error"][1:].max()) for name, found in numbers.items() if name != CHAIN}
    same = as_ncsn(numbers[CHAIN], PROCESSES[CHAIN][0])
    first = numbers["NCSN, 10 levels"]
    rows = [[int(t), *(float(first[name][t - 1]) for name in COLUMNS)] for t in first["t"][::-1]]
    values = {
        "sums": sums,
        "same": same,
        "drifts": _drifts(numbers),
        "ratios": _ratios(numbers),
        "header": ["t", *COLUMNS.values()],
        "rows": rows,
    }
    lists = {name: {key: value.tolist() for key, value in found.items()} for name, found in numbers.items()}
    return Section("steps", TITLE, values, {"coefficients": lists, "sum_error": sums, "ddpm_as_ncsn": same})


def coefficients(process, step_size):
    """The coefficients `[num_steps]` of score and noise in a step from each level, in the variable x / alpha.

    Measured: the samplers' `step` is run with a score of 0 and of 1. "sum_error" is the relative difference between an
    ancestral step of large variance, and a Langevin step of half its drift and then that drift without noise.
    """

    @jax.jit
    @jax.vmap
    def measure(t):
        keys = jax.random.split(jax.random.key(0), 1)
        x, alpha, sigma = jnp.zeros((1, 1)), process.alpha(t), process.sigma(t)
        z = noise_like(keys, x)

        def ancestral(score, variance):
            step = Ancestral(variance=variance, clip_x0=False).step
            return step(constant(process, score), x, Row(t - 1, t), keys) / process.alpha(t - 1)

        def langevin(score, size):
            # From level t to level t, so without the rescaling that goes to the next.
            step = AnnealedLangevin(step_size=step_size).step
            return step(constant(process, score), x, LangevinRow(t, t, size, jnp.sqrt(2 * size)), keys) / alpha

        size = jnp.float32(step_size)
        drift = (ancestral(1.0, "small") - ancestral(0.0, "small")) / alpha
        half = jnp.squeeze(drift) * (alpha / sigma) ** 2 / 2
        both = langevin(1.0, half) + half * sigma**2 / alpha
        found = {
            "ancestral_drift": drift,
            "large_noise": ancestral(0.0, "large") / z,
            "small_noise": ancestral(0.0, "small") / z,
            "langevin_drift": (langevin(1.0, size) - langevin(0.0, size)) / alpha,
            "langevin_noise": langevin(0.0, size) / z,
            "sum_error": jnp.abs(both / ancestral(1.0, "large") - 1),
        }
        return jax.tree.map(jnp.squeeze, found)

    t = np.arange(1, process.num_steps + 1)
    found = {name: np.asarray(value, np.float64) for name, value in measure(jnp.asarray(t)).items()}
    level = process.exact(process.times)
    return {"t": t, "log_snr": level.log_snr, "sigma": level.noise_to_signal, **found}


def constant(process, score):
    """A denoiser whose score is the same everywhere."""
    return Denoiser(lambda x, *_, **__: jnp.full_like(x, score), process, "score")


def as_ncsn(chain, process):
    """The largest relative differences between DDPM's coefficients and those of the NCSN ladder sigma / alpha."""
    ladder = coefficients(NCSN(sigmas=chain["sigma"]), 0.2)
    scale = np.sqrt(1 - process.transition(np.arange(process.num_steps), np.arange(1, process.num_steps + 1))[1])
    pairs = {
        "drift": (chain["ancestral_drift"], ladder["ancestral_drift"]),
        "small_noise": (chain["small_noise"][1:], ladder["small_noise"][1:]),
        "large_noise": (chain["large_noise"][1:], (scale * ladder["large_noise"])[1:]),
    }
    return {name: float(np.max(np.abs(one / other - 1))) for name, (one, other) in pairs.items()}


def _drifts(numbers):
    panels = {}
    for name, found in numbers.items():
        log_snr, unit = found["log_snr"], found["sigma"] ** 2
        panels[name] = [
            Curve(log_snr, found["ancestral_drift"] / unit, "ancestral", 0),
            Curve(log_snr, found["langevin_drift"] / unit, "Langevin", 1, "--"),
        ]
    return plot_panels(panels, "log SNR", "drift / σ²", yscale="log", size=(3.3, 2.7))


def _ratios(numbers):
    panels = {}
    for name, found in numbers.items():
        inside = slice(1, None)  # the last step adds no noise
        log_snr, drift = found["log_snr"][inside], found["ancestral_drift"][inside]
        panels[name] = [
            Curve(log_snr, found["large_noise"][inside] ** 2 / drift, "ancestral, large", 0),
            Curve(log_snr, found["small_noise"][inside] ** 2 / drift, "ancestral, small", 2, ":"),
            Curve(log_snr, found["langevin_noise"][inside] ** 2 / found["langevin_drift"][inside], "Langevin", 1, "--"),
        ]
    return plot_panels(panels, "log SNR", "noise variance / drift", ylim=(-0.05, 2.4), size=(3.3, 2.7))
