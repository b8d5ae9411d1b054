"""Parameterizations: reading and target are inverse, and the gain is that of the error, at every level in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import UserError
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.parameterizations import PARAMETERIZATIONS, Eps, Parameterization, V, parameterization
from unified_diffusion.perturbations import DDPM, NCSN, VP

PROCESSES = {"ddpm": DDPM(50, beta_end=0.2), "ncsn": NCSN(20), "vp": VP(30)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaled(Parameterization):
    """The network predicts factor sigma x_0."""

    name = "scaled"
    factor: float = 2.0

    def read(self, output, x_t, level):
        x0 = output / (self.factor * level.sigma)
        return x0, (x_t - level.alpha * x0) / level.sigma

    def target(self, x0, eps, level):
        return self.factor * level.sigma * x0

    def log_gain(self, level):
        return level.log_snr / 2 - jnp.log(self.factor * level.sigma)


ALL = {**{name: kind() for name, kind in PARAMETERIZATIONS.items()}, "own": Scaled(factor=3.0)}


def at_every_level(kind, process):
    """(level with fields [T, 1], x0, eps, x_t), computed under float64."""
    t = process.times
    generator = np.random.default_rng(0)
    x0, eps = generator.normal(size=(2, len(t), 3))
    level = kind.level(process, t)
    exact = process.exact(t)
    level = level._replace(alpha=exact.alpha, sigma=exact.sigma, log_snr=exact.log_snr)
    level = jax.tree.map(lambda value: np.asarray(value, np.float64)[:, None], level)
    return level, x0, eps, level.alpha * x0 + level.sigma * eps


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", ALL)
def test_reading_the_target_gives_x0_and_eps(name, process):
    with jax.enable_x64(True):
        kind = ALL[name]
        level, x0, eps, x_t = at_every_level(kind, PROCESSES[process])
        found = kind.read(jnp.asarray(kind.target(x0, eps, level)), jnp.asarray(x_t), level)
        # The coefficients of the mean's step are float32, and x0 is a difference divided by a small one.
        atol = 1e-3 if name == "mean" else 1e-9
        np.testing.assert_allclose(level.alpha * found[0] + level.sigma * found[1], x_t, atol=1e-9)
        np.testing.assert_allclose(found[1], eps, atol=atol * np.exp(np.max(level.log_snr) / 2))
        np.testing.assert_allclose(found[0], x0, atol=atol * np.exp(-np.min(level.log_snr) / 2))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", ALL)
def test_the_error_in_eps_is_the_gain_times_the_error_of_the_output(name, process):
    with jax.enable_x64(True):
        kind = ALL[name]
        level, x0, eps, x_t = at_every_level(kind, PROCESSES[process])
        error = np.random.default_rng(1).normal(size=x0.shape)
        target = np.asarray(kind.target(x0, eps, level))
        moved = kind.read(jnp.asarray(target + error), jnp.asarray(x_t), level)[1]
        still = kind.read(jnp.asarray(target), jnp.asarray(x_t), level)[1]
        gain = np.exp(np.asarray(kind.log_gain(level)))
        np.testing.assert_allclose(np.abs(moved - still), gain * np.abs(error), rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("eps", "own")])
def test_every_parameterization_has_its_name(name):
    assert parameterization(name).name == name
    assert Denoiser(lambda x, *_, **__: x, DDPM(10), name).prediction == name


def test_options_and_objects():
    plain = Denoiser(lambda x, *_, **__: x, DDPM(10))
    assert plain.parameterization == Eps()
    assert Denoiser(plain.network, DDPM(10), V(scale_input=True)).scale_input
    assert Denoiser(plain.network, DDPM(10), V(), variance="learned").parameterization == V(variance="learned")
    assert parameterization("test_parameterizations:Scaled", factor=4.0) == Scaled(factor=4.0)
    with pytest.raises(UserError, match="no option 'facto'; did you mean 'factor'"):
        parameterization("test_parameterizations:Scaled", facto=4.0)
    with pytest.raises(UserError, match="unknown variance"):
        Eps(variance="large")
