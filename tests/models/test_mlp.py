import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from unified_diffusion.errors import UserError
from unified_diffusion.models import MLP, MODELS, count_parameters


def test_shapes_dtypes_and_zero_start():
    x, t = jnp.ones((5, 3)), jnp.arange(5)
    for dtype in ("float32", "bfloat16"):
        net = MODELS["mlp"]((3,), width=16, out_channels=6, dtype=dtype, rngs=nnx.Rngs(0))
        out = net(x, t)
        assert out.dtype == jnp.float32
        assert np.array_equal(out, np.zeros((5, 6)))
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(net))} == {jnp.dtype("float32")}


def test_count_parameters():
    width, depth, d = 16, 2, 3
    embedding = (width + 1) * 4 * width + (4 * width + 1) * 4 * width
    block = 2 * (width + 1) * width + (4 * width + 1) * width
    expected = embedding + (d + 1) * width + depth * block + (width + 1) * d
    assert count_parameters(MLP((d,), width=width, depth=depth, rngs=nnx.Rngs(0))) == expected


def test_bfloat16_is_near_float32(randomise):
    x, t = jax.random.normal(jax.random.key(0), (64, 2)), jnp.linspace(0, 999, 64)
    exact = randomise(lambda: MLP((2,), width=32, rngs=nnx.Rngs(0)))(x, t)
    rough = randomise(lambda: MLP((2,), width=32, dtype="bfloat16", rngs=nnx.Rngs(0)))(x, t)
    assert 0 < np.std(rough - exact) < 0.03 * np.std(exact)


def test_labels_and_dropout(randomise):
    net = randomise(lambda: MLP((2,), width=16, dropout=0.5, num_classes=4, rngs=nnx.Rngs(0)))
    x, t = jnp.ones((3, 2)), jnp.zeros(3)
    none = net(x, t)
    np.testing.assert_allclose(net(x, t, jnp.full(3, 4)), none, atol=1e-6)
    assert np.abs(net(x, t, jnp.array([0, 1, 2])) - none).min() > 1e-3
    on = net(x, t, rngs=nnx.Rngs(dropout=1))
    assert np.abs(on - none).max() > 1e-2
    assert np.array_equal(on, net(x, t, rngs=nnx.Rngs(dropout=1)))


@pytest.mark.slow
def test_learns_a_function_of_place_and_noise_level():
    net = MLP((2,), width=64, rngs=nnx.Rngs(0))
    graph, state = nnx.split(net)
    optimizer = optax.adam(3e-3)

    def target(x, t):
        return jnp.stack([jnp.sin(2 * x[:, 0]) * x[:, 1], jnp.where(t > 50, -x[:, 0], x[:, 1])], axis=1)

    def loss(state, key):
        x = jax.random.normal(key, (256, 2))
        t = jax.random.randint(jax.random.fold_in(key, 1), (256,), 0, 100)
        return jnp.mean(jnp.square(nnx.merge(graph, state)(x, t) - target(x, t)))

    @jax.jit
    def step(state, moments, key):
        gradient = jax.grad(loss)(state, key)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(state, updates), moments

    start = loss(state, jax.random.key(99))
    moments = optimizer.init(state)
    for i in range(400):
        state, moments = step(state, moments, jax.random.key(i))
    assert loss(state, jax.random.key(99)) < 0.05 * start


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8, 8, 1), {}, "'unet'"),
        ((2,), {"width": 5}, "width is 5"),
        ((2,), {"depth": 0}, "depth is 0"),
        ((2,), {"dropout": 1.5}, "dropout is 1.5"),
        ((2,), {"dtype": "fp32"}, "float32, bfloat16"),
    ],
)
def test_wrong_options_are_refused(shape, options, message):
    with pytest.raises(UserError, match=message):
        MLP(shape, rngs=nnx.Rngs(0), **options)


def test_wrong_calls_are_refused():
    net = MLP((2,), width=8, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="num_classes > 0"):
        net(jnp.ones((3, 2)), 0, 1)
    with pytest.raises(UserError, match=r"\[B, 2\] but was given \[3, 4\]"):
        net(jnp.ones((3, 4)), 0)
