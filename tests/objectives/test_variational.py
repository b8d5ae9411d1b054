"""Objectives of the bound: their terms, what they train, and learned variances with everything else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from reference import PROCESSES

from unified_diffusion import Denoiser, UserError
from unified_diffusion.likelihood import variational_bound
from unified_diffusion.models import MLP, UNet
from unified_diffusion.objectives import OBJECTIVES, Denoising, Hybrid, Variational, weight
from unified_diffusion.objectives.variational import mean_error
from unified_diffusion.perturbations import DDPM, NCSN
from unified_diffusion.samplers import Ancestral

SHAPE = (6, 2, 2, 1)
X0 = jnp.asarray(np.random.default_rng(0).integers(0, 256, SHAPE) / 127.5 - 1, jnp.float32)
NOISE = jax.random.normal(jax.random.key(2), SHAPE)


def network(x, noise_label, label=None, *, rngs=None):
    return jnp.sin(x) + 0.01 * noise_label[:, None, None, None]


class TwoHeads(nnx.Module):
    """A mean of one parameter and a variance of another."""

    def __init__(self):
        self.mean, self.v = nnx.Param(jnp.asarray(0.5)), nnx.Param(jnp.asarray(-0.3))

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        return jnp.concatenate([self.mean[...] * x, self.v[...] + 0 * x], axis=-1)


def at(objective, denoiser, t, noise=NOISE):
    """`objective.at`, compiled as one program: a good deal faster than one for each operation."""
    return jax.jit(lambda denoiser, t, noise: objective.at(denoiser, X0, t, noise))(denoiser, t, noise)


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize("name", ["ddpm", "ncsn"])
def test_a_fixed_variance_is_denoising_with_the_weight_vlb(name, variance):
    """L_{t-1} = w ‖eps_hat - eps‖² + a constant, ½ [log(var / small) + small / var - 1] a dimension. DDPM, eq. 8."""
    process, chain = PROCESSES[name]
    t = np.linspace(2, process.num_steps, len(X0)).astype(int)
    denoiser = Denoiser(network, process)
    loss, metrics = at(Variational(variance=variance, reduction="sum"), denoiser, t)
    options = {"variance": variance}
    plain, _ = at(Denoising(weighting="vlb", weighting_options=options, reduction="sum"), denoiser, t)
    small = np.array([chain.posterior(level - 1, level)[2] for level in t])
    var = np.array([chain.transition(level - 1, level)[1] for level in t]) if variance == "large" else small
    constant = X0[0].size / 2 * (np.log(var / small) + small / var - 1)
    np.testing.assert_allclose(loss / process.num_steps, plain + constant, rtol=3e-5)
    np.testing.assert_allclose(loss / process.num_steps, metrics["error"], rtol=1e-6)
    np.testing.assert_array_equal(metrics["t"], t)
    mean, _ = at(Variational(variance=variance), denoiser, t)
    np.testing.assert_allclose(mean, loss / X0[0].size, rtol=1e-6)
    np.testing.assert_allclose(
        Variational(variance=variance).weight(process, t),
        process.num_steps * weight("vlb", process, t, **options),
        rtol=1e-6,
    )


@pytest.mark.parametrize("variance", ["large", "small", "learned"])
@pytest.mark.parametrize("process", [DDPM(12, beta_end=0.3), NCSN()])
def test_every_term_is_the_bounds(process, variance):
    """At t = 1, too, where it is the decoder."""
    denoiser = Denoiser(TwoHeads(), process, variance="learned")
    key = jax.random.key(3)
    bound = variational_bound(denoiser, X0, key, variance=variance)
    terms = (bound.diffusion.at[:, 0].set(bound.reconstruction)) * np.log(2)  # nats per dimension
    objective = Variational(variance=variance)
    keys = jax.vmap(lambda example: jax.random.fold_in(key, example))(jnp.arange(len(X0)))
    for t in (1, 2, process.num_steps):
        noise = jax.vmap(lambda k, t=t: jax.random.normal(jax.random.fold_in(k, t), SHAPE[1:]))(keys)
        loss, _ = at(objective, denoiser, np.full(len(X0), t), noise)
        np.testing.assert_allclose(loss / process.num_steps, terms[:, t - 1], rtol=2e-5)


def test_its_mean_over_levels_is_the_bound_without_the_prior():
    process = DDPM(10, beta_end=0.4)
    denoiser = Denoiser(network, process)
    count = 4000
    x0 = jnp.tile(X0[:1], (count, 1, 1, 1))
    loss, _ = jax.jit(lambda x0, key: Variational()(denoiser, x0, key))(x0, jax.random.key(0))
    bound = variational_bound(denoiser, x0, jax.random.key(1))
    expected = float(jnp.mean(bound.total - bound.prior)) * np.log(2)
    assert abs(float(loss.mean()) - expected) < 5 * float(loss.std()) / np.sqrt(count)


def gradient(objective, denoiser, t):
    loss = jax.jit(jax.grad(lambda denoiser: jnp.mean(objective.at(denoiser, X0, t, NOISE)[0])))(denoiser)
    return float(loss.network.mean[...]), float(loss.network.v[...])


@pytest.mark.parametrize("t", [1, 7])
def test_the_hybrids_bound_trains_the_variance_and_not_the_mean(t):
    process = DDPM(12, beta_end=0.3)
    t = np.full(len(X0), t)
    learned = Denoiser(TwoHeads(), process, variance="learned")
    of_mean, of_v = gradient(Hybrid(), learned, t)
    simple_mean, simple_v = gradient(Denoising(), learned, t)
    np.testing.assert_allclose(of_mean, simple_mean, rtol=1e-6)
    assert simple_v == 0
    vlb_mean, vlb_v = gradient(Variational(variance="learned"), learned, t)
    assert vlb_mean != 0
    np.testing.assert_allclose(of_v, 0.001 * vlb_v / np.log(2), rtol=1e-5)  # in bits
    assert gradient(Hybrid(vlb_weight=0.0), learned, t)[1] == 0
    loss, metrics = at(Hybrid(weighting="dsm"), learned, t)
    weights = weight("dsm", process, t)
    np.testing.assert_allclose(loss, weights * metrics["error"] + 0.001 * metrics["vlb"], rtol=1e-6)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score", "mean"])
@pytest.mark.parametrize("process", [DDPM(12, beta_end=0.3), NCSN()])
def test_a_learned_variance_lies_between_small_and_large(process, prediction):
    """log var = frac log large + (1 - frac) log small, frac = (v + 1) / 2. Nichol & Dhariwal 2021, eq. 15."""
    t = np.array([1, 2, 3, 5, 8, 10])
    v = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, SHAPE), jnp.float32)

    def two(x, noise_label, label=None, *, rngs=None):
        return jnp.concatenate([network(x, noise_label), v], axis=-1)

    other = NCSN(4, sigma_min=0.05, sigma_max=1.0)
    x_t = process.perturb(X0, t, NOISE)
    learned, plain = Denoiser(two, process, prediction, variance="learned"), Denoiser(network, process, prediction)
    read = jax.jit(lambda x_t, t: (learned(x_t, t), plain(x_t, t), learned.under(other)(x_t, 3)))
    result, same, under = read(x_t, t)
    for part, alike in zip(result[:3], same[:3], strict=True):
        np.testing.assert_allclose(part, alike, rtol=1e-5, atol=1e-6)
    small, large = (
        np.log([float(process.reverse_variance(level - 1, level, choice)) for level in t])[:, None, None, None]
        for choice in ("small", "large")
    )
    fraction = (np.asarray(v, np.float64) + 1) / 2
    np.testing.assert_allclose(result.log_variance, fraction * large + (1 - fraction) * small, rtol=2e-6)
    np.testing.assert_allclose(result.variance_fraction, fraction, rtol=1e-6)
    np.testing.assert_allclose(under.variance_fraction, fraction, rtol=1e-6)
    small, large = (np.log(float(other.reverse_variance(2, 3, choice))) for choice in ("small", "large"))
    np.testing.assert_allclose(under.log_variance, fraction * large + (1 - fraction) * small, rtol=2e-6)


@pytest.mark.parametrize("process", [DDPM(12, beta_end=0.3), pytest.param(NCSN(), marks=pytest.mark.slow)])
def test_ancestral_sampling_at_the_ends_of_the_learned_range(process):
    """v = 1 samples as large, v = -1 as small; in long steps, too."""
    for v, choice in ((1.0, "large"), (-1.0, "small")):

        def two(x, noise_label, label=None, *, rngs=None, v=v):
            return jnp.concatenate([jnp.sin(x), v + 0 * x], axis=-1)

        for num_steps in (None, 3):
            samples = [
                Ancestral(num_steps=num_steps, variance=variance)(
                    Denoiser(two, process, variance="learned"), jax.random.key(0), SHAPE
                )
                for variance in ("learned", choice)
            ]
            np.testing.assert_allclose(*samples, atol=1e-5)


def test_denoising_of_the_mean_is_a_weighting():
    """‖mean - mean_hat‖² of the posterior's mean. Ho et al. 2020, table 2."""
    process = DDPM(12, beta_end=0.3)
    t = np.array([1, 2, 3, 5, 8, 10])
    denoiser = Denoiser(network, process, "mean")
    loss, _ = at(Denoising(weighting=mean_error, reduction="sum"), denoiser, t)
    x_t = process.perturb(X0, t, NOISE)
    difference = process.posterior(X0, x_t, t - 1, t)[0] - network(x_t, t - 1)
    np.testing.assert_allclose(loss, jnp.sum(difference**2, axis=(1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize(
    ("objective", "settings", "message"),
    [
        (Variational, {"variance": "learnt"}, "did you mean 'learned'"),
        (Variational, {"reduction": "men"}, "did you mean 'mean'"),
        (Hybrid, {"vlb_weight": -1.0}, "must not be negative"),
        (Hybrid, {"weighting": "simpl"}, "did you mean 'simple'"),
    ],
)
def test_bad_settings_are_refused(objective, settings, message):
    with pytest.raises(UserError, match=message):
        objective(**settings)


@pytest.mark.parametrize("objective", [Variational(variance="learned"), Hybrid()])
def test_a_network_without_a_variance_head_is_refused(objective):
    with pytest.raises(UserError, match=r"no variance head: set config\.denoiser\.variance=learned") as error:
        objective(Denoiser(network, DDPM(5)), X0, jax.random.key(0))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="2 output channels, twice the data's, and this one has 1"):
        objective(Denoiser(network, DDPM(5), variance="learned"), X0, jax.random.key(0))
    with pytest.raises(UserError, match="the ancestral sampler asks for a learned variance"):
        Ancestral(variance="learned")(Denoiser(network, DDPM(5)), jax.random.key(0), SHAPE)


SETTINGS = {"variational": {"variance": "learned"}}
UNET = {"channels": 4, "multipliers": (1,), "num_blocks": 1, "attention_resolutions": (), "num_groups": 1}
SMALL = {"dropout": 0.5, "num_classes": 3, "out_channels": 2}
OF_DENOISERS = [name for name, objective in OBJECTIVES.items() if not objective.classifies]


@pytest.mark.parametrize(
    ("name", "network"),
    [*((name, "mlp") for name in OF_DENOISERS), pytest.param("hybrid", "unet", marks=pytest.mark.slow)],
)
def test_learned_variance_dropout_and_class_labels_with_every_objective(name, network):
    x0 = X0 if network == "unet" else X0.reshape(-1, 1)
    built = UNet(x0.shape[1:], **UNET, **SMALL, rngs=nnx.Rngs(0)) if network == "unet" else None
    graph, params = nnx.split(built or MLP((1,), width=8, depth=1, **SMALL, rngs=nnx.Rngs(0)))
    process = DDPM(12, beta_end=0.3)
    objective = OBJECTIVES[name](**SETTINGS.get(name, {}))
    label = jnp.arange(len(x0)) % 3
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, state, key):
        def mean_loss(params):
            loss_key, dropout_key = jax.random.split(key)
            denoiser = Denoiser(nnx.merge(graph, params), process, variance="learned", dropout_key=dropout_key)
            return jnp.mean(objective(denoiser, x0, loss_key, label)[0])

        loss, gradient = jax.value_and_grad(mean_loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, loss, optax.tree.norm(gradient)

    state, losses = optimizer.init(params), []
    for _ in range(4):
        params, state, loss, norm = step(params, state, jax.random.key(0))
        assert np.isfinite(loss)
        assert 0 < norm < np.inf
        losses.append(float(loss))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["low_discrepancy", "importance"])
@pytest.mark.parametrize("make", [Variational, Hybrid])
def test_time_samplers_leave_the_expected_loss(make, name):
    process = DDPM(6, beta_end=0.4)
    denoiser = Denoiser(TwoHeads(), process, variance="learned")
    objective = make(time_sampler=name)
    state = objective.initial_state(process)
    x0 = jnp.tile(X0[:1], (3000, 1, 1, 1))

    @jax.jit
    def step(state, key):
        loss, metrics = objective(denoiser, x0, key, state=state)
        return loss, objective.update(state, metrics)

    for seed in range(3):
        loss, state = step(state, jax.random.key(seed))
    plain = jax.jit(lambda key: make()(denoiser, x0, key)[0])(jax.random.key(9))
    error = np.hypot(float(loss.std()), float(plain.std())) / np.sqrt(len(x0))
    assert abs(float(loss.mean() - plain.mean())) < 5 * error
    if name == "importance":
        assert float(loss.std()) < float(plain.std())
