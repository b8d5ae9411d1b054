"""Names of 0.1 that stay for one release: each gives what its new name gives."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import unified_diffusion as ud
from unified_diffusion.data import to_model, to_uint8
from unified_diffusion.parameterizations import V
from unified_diffusion.perturbations import DDPM, VP


def test_the_levels_of_a_process():
    chain, process = DDPM(20), VP(30)
    for name, column in (("alphas", "alpha"), ("sigmas", "sigma"), ("log_snrs", "log_snr")):
        np.testing.assert_array_equal(getattr(chain.levels, name), getattr(chain.table, column))
    t = np.array([0.2, 0.7])
    for old, new in zip(process.levels.exact(t), process.exact(t)[1:4], strict=True):
        np.testing.assert_array_equal(old, new)
    assert process.levels.width == process.level_width
    assert process.levels.num_steps == 30
    np.testing.assert_array_equal(process.levels.number(t), process.level_number(t))
    np.testing.assert_array_equal(process.levels.label(t), process.noise_label(t))
    np.testing.assert_array_equal(process.levels.time_of(np.array([1.0])), process.time_of(np.array([1.0])))
    np.testing.assert_allclose(process.levels.change(0.2, 0.7), np.diff(process.exact(t).log_snr)[0], rtol=1e-12)


def test_modules():
    import unified_diffusion.latents

    assert ud.latents.interpolate is ud.inversion.interpolate
    assert unified_diffusion.latents.encode is ud.inversion.encode
    x = np.array([[[[0]], [[255]]]], np.uint8)
    np.testing.assert_array_equal(to_uint8(to_model(x)), x)


def test_the_reading_of_a_denoiser():
    def network(x, noise_label, label=None, *, rngs=None):
        return jnp.sin(x)

    old = ud.Denoiser(network, DDPM(10), prediction="v", scale_input=True, label=jnp.array([1, 2]))
    new = ud.Denoiser(network, DDPM(10), V(scale_input=True), condition=jnp.array([1, 2]))
    assert (old.prediction, old.scale_input, old.variance) == ("v", True, "fixed")
    assert old.parameterization == new.parameterization
    np.testing.assert_array_equal(old.label, new.condition)
    np.testing.assert_array_equal(old(jnp.ones((2, 3)), 4).eps, new(jnp.ones((2, 3)), 4).eps)


def test_a_prediction_that_is_a_function_says_what_it_lacks():
    denoiser = ud.Denoiser(lambda x, *_, **__: x, DDPM(10), "test_aliases:half_of_x0")
    pred = denoiser(jnp.ones((2, 3)), 4)
    np.testing.assert_allclose(pred.x0, 0.5)
    with pytest.raises(ud.UserError, match="write it as a Parameterization"):
        denoiser.parameterization.target(pred.x0, pred.eps, None)


def half_of_x0(output, reading):
    x0 = output / 2
    return x0, (reading.x_t - reading.alpha * x0) / reading.sigma


@pytest.mark.parametrize("name", ["data", "evaluation", "training", "visualization"])
def test_every_part_is_there_without_an_import_of_its_own(name):
    assert getattr(ud, name).__name__ == f"unified_diffusion.{name}"
    assert name in dir(ud)


def test_the_old_order_of_a_denoisers_arguments():
    def network(x, noise_label, label=None, *, rngs=None):
        return jnp.concatenate([x, x], axis=-1)

    old = ud.Denoiser(network, DDPM(10), "v", True, "learned", VP(20), jnp.array([1]))
    assert old.parameterization == V(scale_input=True, variance="learned")
    assert (old.native, old.dropout_key) == (VP(20), None)
    np.testing.assert_array_equal(old.label, [1])
    assert dataclasses.replace(old, label=jnp.array([3])).condition.tolist() == [3]
    assert ud.guidance.Guided(old, 2.0).label.tolist() == [1]
