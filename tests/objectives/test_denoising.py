"""The loss: w(t) ‖eps_hat - eps‖² per example, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser, UserError
from unified_diffusion.objectives import Denoising, weight
from unified_diffusion.perturbations import DDPM, NCSN

PROCESSES = [DDPM(20, beta_start=0.01, beta_end=0.3), NCSN()]
X0 = jax.random.uniform(jax.random.key(1), (6, 2, 2, 1), minval=-1, maxval=1)
NOISE = jax.random.normal(jax.random.key(2), X0.shape)
T = np.array([1, 2, 3, 5, 8, 10])


def network(x, noise_label, label=None, *, rngs=None):
    return jnp.sin(x) + 0.1 * noise_label[:, None, None, None]


def exact_error(process, norm=np.square, reduction=np.mean):
    """The unweighted loss at levels T with the noise NOISE."""
    alpha, sigma = (level[T][:, None, None, None] for level in (process.table.alpha, process.table.sigma))
    noise = np.asarray(NOISE, np.float64)
    eps = np.sin(alpha * np.asarray(X0, np.float64) + sigma * noise) + 0.1 * (T - 1)[:, None, None, None]
    return reduction(norm(eps - noise), axis=(1, 2, 3))


def huber(error):
    size = np.abs(error)
    return np.where(size < 1, error**2 / 2, size - 0.5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("norm", "exact_norm"), [("l2", np.square), ("l1", np.abs), ("huber", huber)])
@pytest.mark.parametrize("process", PROCESSES)
def test_norms_and_reductions(process, norm, exact_norm, reduction):
    objective = Denoising(norm=norm, reduction=reduction)
    loss, metrics = objective.at(Denoiser(network, process), X0, T, NOISE)
    exact = exact_error(process, exact_norm, getattr(np, reduction))
    np.testing.assert_allclose(loss, exact, rtol=3e-6)
    np.testing.assert_allclose(metrics["error"], exact, rtol=3e-6)
    np.testing.assert_array_equal(metrics["t"], T)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("name", "options"), [("dsm", {}), ("vlb", {}), ("vlb", {"variance": "small"})])
def test_weightings_multiply_the_error(process, name, options):
    objective = Denoising(weighting=name, weighting_options=options)
    loss, metrics = objective.at(Denoiser(network, process), X0, T, NOISE)
    np.testing.assert_allclose(loss, weight(name, process, T, **options) * exact_error(process), rtol=3e-6)
    np.testing.assert_allclose(metrics["error"], exact_error(process), rtol=3e-6)


@pytest.mark.parametrize("process", PROCESSES)
def test_dsm_is_the_squared_error_of_the_score(process):
    """‖score + (x_t - alpha x_0) / sigma²‖². Vincent 2011, eq. 11."""
    denoiser = Denoiser(network, process)
    loss, _ = Denoising(weighting="dsm", reduction="sum").at(denoiser, X0, T, NOISE)
    x_t = process.perturb(X0, T, NOISE)
    alpha, sigma = (level[T][:, None, None, None] for level in (process.table.alpha, process.table.sigma))
    target = -(np.asarray(x_t, np.float64) - alpha * np.asarray(X0, np.float64)) / sigma**2
    exact = np.sum((np.asarray(denoiser(x_t, T).score, np.float64) - target) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(loss, exact, rtol=1e-4)  # x_t - alpha x_0 is float32's at sigma = 0.02


def test_the_loss_is_that_of_the_levels_and_the_noise_drawn():
    process = DDPM(20)
    seen = []

    def recording(x, noise_label, label=None, *, rngs=None):
        seen.append((x, noise_label, label))
        return 0 * x

    label = np.arange(6)
    loss, metrics = Denoising()(Denoiser(recording, process), X0, jax.random.key(0), label)
    x_t, noise_label, seen_label = seen[0]
    np.testing.assert_array_equal(noise_label, metrics["t"] - 1)
    np.testing.assert_array_equal(seen_label, label)
    t = np.asarray(metrics["t"])
    alpha, sigma = (level[t][:, None, None, None] for level in (process.table.alpha, process.table.sigma))
    noise = (np.asarray(x_t, np.float64) - alpha * np.asarray(X0, np.float64)) / sigma
    np.testing.assert_allclose(loss, np.mean(noise**2, axis=(1, 2, 3)), rtol=3e-5)


def test_the_noise_is_standard_and_independent_of_the_level():
    process = NCSN(sigmas=(0.5, 1.0))
    zeros = jnp.zeros((20_000, 1))
    denoiser = Denoiser(lambda x, *_, **__: 0 * x, process)
    loss, metrics = Denoising()(denoiser, zeros, jax.random.key(0))
    for t in (1, 2):
        squares = np.asarray(loss)[np.asarray(metrics["t"]) == t]  # eps², of mean 1 and variance 2
        assert abs(squares.mean() - 1) < 4 * np.sqrt(2 / len(squares))


def test_a_key_gives_the_same_loss_and_another_key_another():
    denoiser = Denoiser(network, PROCESSES[0])
    losses = [Denoising()(denoiser, X0, jax.random.key(seed))[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert np.all(losses[0] != losses[2])


def test_each_examples_loss_is_its_own():
    denoiser = Denoiser(network, PROCESSES[0])
    loss, _ = Denoising()(denoiser, X0, jax.random.key(0))
    other, _ = Denoising()(denoiser, X0.at[3].add(0.5), jax.random.key(0))
    assert loss.shape == (6,)
    changed = np.asarray(loss != other)
    np.testing.assert_array_equal(changed, [False, False, False, True, False, False])


def triple(perturbation, t):
    return jnp.full(jnp.shape(t), 3.0)


def second_level(perturbation, key, batch_size):
    return jnp.full((batch_size,), 2)


@pytest.mark.parametrize(
    "own",
    [
        {"weighting": triple, "time_sampler": second_level},
        {"weighting": "test_denoising:triple", "time_sampler": "test_denoising:second_level"},
    ],
)
def test_ones_own_weighting_and_time_sampler(own):
    process = PROCESSES[0]
    loss, metrics = Denoising(**own)(Denoiser(network, process), X0, jax.random.key(0))
    np.testing.assert_array_equal(metrics["t"], np.full(6, 2))
    np.testing.assert_allclose(loss, 3 * metrics["error"], rtol=1e-6)


def test_ones_own_norm():
    process = PROCESSES[0]
    loss, _ = Denoising(norm="jax.numpy:abs").at(Denoiser(network, process), X0, T, NOISE)
    np.testing.assert_allclose(loss, exact_error(process, np.abs), rtol=3e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weighting": "simpl"}, "weighting 'simpl': did you mean 'simple'"),
        ({"weighting_options": {"gamma": 5}}, "'simple' has no option 'gamma'"),
        ({"weighting": "vlb", "weighting_options": {"var": "small"}}, "did you mean 'variance'"),
        ({"time_sampler": "unifrom"}, "time sampler 'unifrom': did you mean 'uniform'"),
        ({"norm": "l3"}, "norm 'l3': did you mean 'l"),
        ({"reduction": "means"}, "reduction 'means': did you mean 'mean'"),
    ],
)
def test_unknown_names_are_refused_at_start(settings, message):
    with pytest.raises(UserError, match=message):
        Denoising(**settings)
