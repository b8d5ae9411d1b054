"""The classifier of noisy images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unified_diffusion.errors import UserError
from unified_diffusion.models import MODELS

SMALL = {"channels": 8, "multipliers": (1, 2), "num_blocks": 1, "attention_resolutions": (), "num_groups": 4}


def build(shape=(8, 8, 1), **options):
    return MODELS["classifier"](shape, **{"num_classes": 3, **SMALL, **options}, rngs=nnx.Rngs(0))


def test_logits_are_float32_and_zero_at_the_start():
    x, t = jnp.ones((5, 8, 8, 1)), jnp.arange(5)
    logits = jax.jit(lambda: build(multipliers=(1,))(x, t))()
    assert logits.dtype == jnp.float32
    np.testing.assert_array_equal(logits, np.zeros((5, 3)))
    assert jax.eval_shape(lambda: build(dtype="bfloat16")(x, t)).dtype == jnp.float32


def test_it_sees_the_image_and_its_noise_and_no_label(randomise):
    net = randomise(lambda: build(dropout=0.5))
    call = jax.jit(lambda x, t, label=None: net(x, t, label))
    x, t = jax.random.normal(jax.random.key(0), (4, 8, 8, 1)), jnp.full(4, 5)
    logits = call(x, t)
    assert logits.shape == (4, 3)
    for other in (call(x + 0.1, t), call(x, t + 20), jax.jit(lambda: net(x, t, rngs=nnx.Rngs(dropout=0)))()):
        assert np.abs(other - logits).max() > 1e-4
    np.testing.assert_allclose(call(x, t, jnp.arange(4)), logits, rtol=1e-6)
    np.testing.assert_allclose(call(x[::-1], t), logits[::-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "labels of at least 2"),
        ({"shape": (2,)}, r"classifier takes images"),
        ({"shape": (9, 9, 1)}, "divisible"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_misuse(options, message):
    with pytest.raises(UserError, match=message):
        build(**options)
