import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unified_diffusion.errors import UserError
from unified_diffusion.models import MODELS, UNet, count_parameters

TINY = {"channels": 8, "multipliers": (1, 2), "num_blocks": 1, "attention_resolutions": (4,)}
SHAPE = (8, 8, 1)
X = jax.random.normal(jax.random.key(1), (4, *SHAPE))
T = jnp.array([0.0, 3.0, 41.5, 999.0])


def tiny(**options):
    return MODELS["unet"](SHAPE, rngs=nnx.Rngs(0), **(TINY | options))


# Compiled without optimisation: these tests compile often and compute little.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.partial(jit, static_argnums=0)
def apply(graph, state, x, t, label=None, key=None):
    rngs = None if key is None else nnx.Rngs(dropout=key)
    return nnx.merge(graph, state)(x, t, label, rngs=rngs)


def run(net, x=X, t=T, label=None, key=None):
    return apply(*nnx.split(net), x, t, label, key)


def abstract_count(shape, **options):
    return count_parameters(nnx.eval_shape(lambda: UNet(shape, rngs=nnx.Rngs(0), **options)))


# structure -------------------------------------------------------------------------------------


def test_cifar10_network_has_the_published_number_of_parameters():
    assert abstract_count((32, 32, 3)) == 35_746_307


@pytest.mark.slow
def test_parameters_added_by_options():
    cifar = abstract_count((32, 32, 3))
    assert abstract_count((32, 32, 3), out_channels=6) == cifar + 3 * (9 * 128 + 1)
    assert abstract_count((32, 32, 3), num_classes=10) == cifar + 11 * 512
    assert abstract_count((32, 32, 1)) == cifar - 2 * 9 * 128 - 2 * (9 * 128 + 1)
    one_attention = 4 * (256 * 256 + 256) + 2 * 256
    assert abstract_count((32, 32, 3), attention_resolutions=()) == cifar - 5 * one_attention
    assert abstract_count((32, 32, 3), attention_resolutions=(16, 8)) == cifar + 5 * one_attention


def test_only_parameters_are_state_and_they_are_float32():
    for dtype in ("float32", "bfloat16"):
        net = nnx.eval_shape(lambda dtype=dtype: tiny(dtype=dtype, num_classes=3))
        _, params, rest = nnx.split(net, nnx.Param, ...)
        assert not jax.tree.leaves(rest)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_two_networks_of_the_same_options_share_compiled_code():
    one, other = (nnx.graphdef(nnx.eval_shape(tiny)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.slow
def test_initial_values_and_a_first_output_of_exactly_zero():
    net = tiny(channels=32)
    block = net.middle[0]
    kernel = np.asarray(block.conv_1.kernel[...])
    limit = np.sqrt(3 * 2 / (9 * (64 + 64)))  # uniform with variance 2 / (fan_in + fan_out)
    assert 0.98 * limit < abs(kernel).max() <= limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.02)
    for zero in (block.conv_1.bias, block.conv_2.kernel, block.attention.proj.kernel, net.conv_out.kernel):
        assert not np.any(zero[...])
    assert np.array_equal(run(net), np.zeros((4, 8, 8, 1)))


# calls -----------------------------------------------------------------------------------------


def test_every_parameter_has_a_gradient(randomise):
    graph, state = nnx.split(randomise(lambda: tiny(num_classes=2)))
    label = jnp.array([0, 1, 2, 0])
    loss = jit(jax.grad(lambda s: jnp.mean(jnp.square(nnx.merge(graph, s)(X, T, label) - 1))))
    for path, gradient in jax.tree_util.tree_leaves_with_path(loss(state)):
        assert np.isfinite(gradient).all(), path
        # A key bias moves all logits of a query alike, which softmax does not see.
        if "'key'" not in jax.tree_util.keystr(path) or gradient.ndim > 1:
            assert np.abs(gradient).max() > 1e-5, path


def test_noise_labels_may_be_scalar_whole_or_fractional(randomise):
    net = randomise(tiny)
    whole = run(net, t=jnp.array([7, 7, 7, 7]))
    np.testing.assert_allclose(run(net, t=jnp.full(4, 7.0)), whole, atol=1e-6)
    np.testing.assert_allclose(run(net, t=7), whole, atol=1e-6)
    assert np.abs(run(net, t=7.5) - whole).max() > 1e-3


def test_labels_matter_and_none_is_the_last_row(randomise):
    net = randomise(lambda: tiny(num_classes=3))
    none = run(net)
    np.testing.assert_allclose(run(net, label=jnp.full(4, 3)), none, atol=1e-6)
    np.testing.assert_allclose(run(net, label=3), none, atol=1e-6)
    assert np.abs(run(net, label=jnp.array([0, 1, 2, 0])) - none).max(axis=(1, 2, 3)).min() > 1e-2


def test_a_label_beyond_no_label_gives_nan(randomise):
    out = run(randomise(lambda: tiny(num_classes=3)), label=jnp.array([0, 4, 3, 2]))
    assert np.isnan(out).any(axis=(1, 2, 3)).tolist() == [False, True, False, False]


def test_dropout_is_on_exactly_when_rngs_are_given(randomise):
    net = randomise(lambda: tiny(dropout=0.3))
    off, key = run(net), jax.random.key(5)
    on = run(net, key=key)
    assert np.array_equal(run(net), off)
    assert np.array_equal(run(net, key=key), on)
    assert np.abs(on - off).max() > 1e-2
    assert np.abs(run(net, key=jax.random.key(6)) - on).max() > 1e-2
    without = randomise(lambda: tiny(dropout=0.0))
    np.testing.assert_allclose(run(without, key=key), off, atol=1e-6)


def test_bfloat16_is_near_float32_and_returns_float32(randomise):
    exact, rough = run(randomise(tiny)), run(randomise(lambda: tiny(dtype="bfloat16")))
    assert rough.dtype == jnp.float32
    error = np.asarray(rough - exact)
    assert 0 < error.std() < 0.03 * exact.std()


def test_remat_changes_no_value_and_no_gradient(randomise):
    def value_and_grad(net):
        graph, state = nnx.split(net)

        def loss(state):
            return jnp.mean(jnp.square(nnx.merge(graph, state)(X, T, rngs=nnx.Rngs(dropout=3))))

        return jit(jax.value_and_grad(loss))(state)

    options = {"multipliers": (1,), "attention_resolutions": (8,), "dropout": 0.2}
    plain = value_and_grad(randomise(lambda: tiny(**options)))
    remat = value_and_grad(randomise(lambda: tiny(**options, remat=True)))
    assert plain[0] > 0
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(remat), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("remat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_jvp_vmap_and_scan(randomise, remat):
    graph, state = nnx.split(randomise(lambda: tiny(remat=remat)))
    direction = jax.random.normal(jax.random.key(2), X.shape)
    step = 1e-2

    def network(x, t=T):
        return nnx.merge(graph, state)(x, t)

    @jit
    def everything(x):
        points = jnp.stack([x, x + step * direction, x - step * direction])
        out, higher, lower = jax.lax.scan(lambda carry, x: (carry, network(x)), 0, points)[1]
        one_by_one = jax.vmap(lambda x, t: network(x[None], t)[0])(x, T)
        tangent = jax.jvp(network, (x,), (direction,))[1]
        return out, one_by_one, tangent, (higher - lower) / (2 * step)

    out, one_by_one, tangent, difference = everything(X)
    np.testing.assert_allclose(out, apply(graph, state, X, T), atol=1e-4)
    np.testing.assert_allclose(one_by_one, out, atol=1e-4)
    np.testing.assert_allclose(tangent, difference, atol=0.02 * float(jnp.abs(difference).max()))


# shapes and mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8, 8, 1), {"channels": 32, "multipliers": (1, 2, 2), "attention_resolutions": (4,)}),
        ((28, 28, 1), {"channels": 48, "multipliers": (1, 2, 2), "attention_resolutions": (14, 7)}),
        ((7, 5, 2), {"channels": 6, "multipliers": (1,), "attention_resolutions": ()}),
        pytest.param((16, 24, 3), {"multipliers": (1, 2, 3, 4), "out_channels": 6}, marks=pytest.mark.slow),
    ],
)
def test_output_shape(shape, options):
    def forward(x, t):
        return UNet(shape, rngs=nnx.Rngs(0), **options)(x, t)

    out = jax.eval_shape(forward, jnp.zeros((2, *shape)), jnp.zeros(2, int))
    assert out.shape == (2, *shape[:2], options.get("out_channels", shape[2]))
    assert out.dtype == jnp.float32


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((28, 28, 1), {"multipliers": (1, 2, 2, 2)}, "multipliers at most 3 entries"),
        ((28, 28, 1), {"multipliers": (1, 2, 2)}, "28, 14, 7 pixels high"),
        ((15, 16, 1), {}, "multipliers at most 1 entries"),
        ((2,), {}, "'mlp'"),
        ((32, 32, 3), {"dtype": "float16"}, "float32, bfloat16"),
        ((32, 32, 3), {"multipliers": ()}, "multipliers"),
        ((32, 32, 3), {"dropout": 1.0}, "dropout is 1.0"),
        ((32, 32, 3), {"dropout": -0.1}, "dropout is -0.1"),
        ((32, 32, 3), {"channels": 33}, "channels is 33"),
        ((32, 32, 3), {"num_blocks": 0}, "num_blocks is 0"),
        ((32, 32, 3), {"num_groups": 0}, "num_groups is 0"),
        ((32, 32, 3), {"out_channels": 0}, "out_channels is 0"),
        ((32, 32, 3), {"num_classes": -1}, "num_classes is -1"),
    ],
)
def test_wrong_options_are_refused(shape, options, message):
    with pytest.raises(UserError, match=message) as caught:
        UNet(shape, rngs=nnx.Rngs(0), **options)
    assert "\n" not in str(caught.value)


def test_wrong_calls_are_refused(randomise):
    net = randomise(tiny)
    with pytest.raises(UserError, match="num_classes > 0"):
        net(X, T, jnp.zeros(4, int))
    with pytest.raises(UserError, match=r"\[B, 8, 8, 1\] but was given \[4, 8, 8, 3\]"):
        net(jnp.zeros((4, 8, 8, 3)), T)
