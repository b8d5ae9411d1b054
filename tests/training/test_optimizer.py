"""The learning rate and Adam's arithmetic."""

import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import UserError
from unified_diffusion.training import Optimizer


def test_warm_up_is_linear_then_constant():
    rate = Optimizer(learning_rate=2e-4, warmup_steps=100).rate(1000)
    np.testing.assert_allclose([rate(n) for n in (0, 25, 50, 100, 999)], [0, 5e-5, 1e-4, 2e-4, 2e-4], rtol=1e-6)


def test_cosine_ends_at_zero():
    rate = Optimizer(learning_rate=1e-3, warmup_steps=10, schedule="cosine").rate(110)
    np.testing.assert_allclose([rate(n) for n in (10, 60, 110)], [1e-3, 5e-4, 0], rtol=1e-6, atol=1e-10)


def test_adam_in_float64():
    optimizer = Optimizer(learning_rate=0.1, warmup_steps=0, gradient_clip=0.0, b1=0.8, b2=0.9, eps=1e-6)
    transformation = optimizer.transformation(10)
    parameter, m, v = jnp.asarray([1.0, -2.0]), np.zeros(2), np.zeros(2)
    state, expected = transformation.init(parameter), np.asarray([1.0, -2.0])
    for n in range(1, 6):
        gradient = np.asarray([0.3 * n, -0.1 / n])
        updates, state = transformation.update(jnp.asarray(gradient, jnp.float32), state, parameter)
        parameter = parameter + updates
        m, v = 0.8 * m + 0.2 * gradient, 0.9 * v + 0.1 * gradient**2
        expected = expected - 0.1 * (m / (1 - 0.8**n)) / (np.sqrt(v / (1 - 0.9**n)) + 1e-6)
    np.testing.assert_allclose(parameter, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"schedule": "cosin"}, {"learning_rate": 0.0}, {"warmup_steps": -1}, {"gradient_clip": -1.0}],
)
def test_wrong_settings_are_refused(options):
    with pytest.raises(UserError):
        Optimizer(**options)
