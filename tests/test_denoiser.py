"""Prediction types: the network's output built from known (x0, eps) by the papers' formulas must give them back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import EPSILON, PROCESSES

from unified_diffusion import Denoiser, UserError
from unified_diffusion.perturbations import DDPM, NCSN

NAMES = ["ddpm", "ddpm-cosine", "ncsn-v2"]


def column(level):
    return np.asarray(level, np.float64)[:, None]


def output_and_error(prediction, chain, x0, eps):
    """The network's output in float64, and the error of x0 and eps: a float32 rounding of each term, amplified."""
    alpha, sigma = (column(level[1:]) for level in (chain.marginals()[0], np.sqrt(chain.marginals()[1])))
    x_t = alpha * x0 + sigma * eps
    sizes = np.abs(x_t), np.abs(alpha * x0), np.abs(sigma * eps)
    of_x0, of_eps = EPSILON * (sizes[0] + sizes[2]) / alpha, EPSILON * (sizes[0] + sizes[1]) / sigma
    if prediction == "eps":
        return eps, of_x0, 0 * of_x0
    if prediction == "score":
        return -eps / sigma, of_x0, EPSILON * np.abs(eps)
    if prediction == "x0":
        return x0, 0 * of_x0, of_eps
    if prediction == "v":
        v = alpha * eps - sigma * x0
        norm = alpha**2 + sigma**2
        of_x0 = EPSILON * (np.abs(alpha * x_t) + np.abs(sigma * v)) / norm
        return v, of_x0, EPSILON * (np.abs(sigma * x_t) + np.abs(alpha * v)) / norm
    a, b, _ = (column(part) for part in np.array([chain.posterior(t - 1, t) for t in range(1, chain.num_steps + 1)]).T)
    mean = a * x0 + b * x_t
    of_x0 = EPSILON * (np.abs(mean) + np.abs(b * x_t)) / a
    return mean, of_x0, of_eps + alpha / sigma * of_x0


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score", "mean"])
@pytest.mark.parametrize("name", NAMES)
def test_every_prediction_type_gives_back_x0_eps_and_score_at_every_level(name, prediction):
    process, chain = PROCESSES[name]
    t = np.arange(1, process.num_steps + 1)
    rng = np.random.default_rng(0)
    x0, eps = rng.uniform(-1, 1, (len(t), 6)), rng.normal(size=(len(t), 6))
    alpha, sigma = column(chain.marginals()[0][1:]), column(np.sqrt(chain.marginals()[1][1:]))
    x_t = alpha * x0 + sigma * eps
    output, x0_error, eps_error = output_and_error(prediction, chain, x0, eps)
    denoiser = Denoiser(lambda x, label, *_, **__: jnp.asarray(output, jnp.float32), process, prediction)
    pred = denoiser(jnp.asarray(x_t, jnp.float32), t)
    # Three times, for the levels read in float32 are rounded too; and one rounding of the value itself.
    x0_error, eps_error = 3 * x0_error + 2 * EPSILON * np.abs(x0), 3 * eps_error + 2 * EPSILON * np.abs(eps)
    assert np.all(np.abs(pred.x0 - x0) <= x0_error)
    assert np.all(np.abs(pred.eps - eps) <= eps_error)
    assert np.all(np.abs(pred.score + eps / sigma) <= (eps_error + 2 * EPSILON * np.abs(eps)) / sigma)
    # and x_t = alpha x0 + sigma eps, whatever the type
    rebuilt = alpha * np.asarray(pred.x0, np.float64) + sigma * np.asarray(pred.eps, np.float64)
    assert np.all(np.abs(rebuilt - x_t) <= 4 * EPSILON * (np.abs(x_t) + np.abs(alpha * x0) + np.abs(sigma * eps)))
    assert pred.log_variance is None


def test_a_wrong_network_gives_x0_and_eps_that_still_make_x_t():
    process = DDPM(10)
    x_t = jax.random.normal(jax.random.key(0), (10, 2, 2, 1))
    t = np.arange(1, 11)
    for prediction in ("eps", "x0", "v", "score", "mean"):
        pred = Denoiser(lambda x, label, *_, **__: jnp.sin(3 * x), process, prediction)(x_t, t)
        alpha, sigma = (level(t)[:, None, None, None] for level in (process.alpha, process.sigma))
        size = jnp.abs(alpha * pred.x0) + jnp.abs(sigma * pred.eps) + 1
        assert jnp.all(jnp.abs(alpha * pred.x0 + sigma * pred.eps - x_t) <= 4 * EPSILON * size)
        np.testing.assert_allclose(pred.score, -pred.eps / sigma, rtol=1e-6)


class Recorder:
    """A network that remembers what it was called with."""

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        self.x, self.noise_label, self.label, self.rngs = x, noise_label, label, rngs
        return x


def test_the_network_sees_labels_counted_from_zero_one_per_example():
    network = Recorder()
    x = jnp.ones((3, 2))
    denoiser = Denoiser(network, DDPM(10))
    for t in (4, np.int64(4), jnp.array(4), np.array([4, 4, 4])):
        denoiser(x, t)
        np.testing.assert_array_equal(network.noise_label, [3, 3, 3])
        assert jnp.issubdtype(network.noise_label.dtype, jnp.integer)
    denoiser(x, np.array([1, 10, 5]))
    np.testing.assert_array_equal(network.noise_label, [0, 9, 4])


def test_class_labels_come_from_the_call_or_from_given():
    network = Recorder()
    x = jnp.ones((2, 3))
    denoiser = Denoiser(network, DDPM(10))
    denoiser(x, 1)
    assert network.label is None
    denoiser(x, 1, np.array([3, 4]))
    np.testing.assert_array_equal(network.label, [3, 4])
    denoiser.given(jnp.array([5, 6]))(x, 1)
    np.testing.assert_array_equal(network.label, [5, 6])
    denoiser.given(jnp.array([5, 6]))(x, 1, jnp.array([7, 8]))
    np.testing.assert_array_equal(network.label, [7, 8])
    denoiser.given(jnp.array([5, 6])).under(NCSN())(x, 1)
    np.testing.assert_array_equal(network.label, [5, 6])


def test_a_dropout_key_is_what_makes_the_network_random():
    network = Recorder()
    x = jnp.ones((2, 3))
    Denoiser(network, DDPM(10))(x, 1)
    assert network.rngs is None
    drawn = []
    for seed in (0, 0, 1):
        Denoiser(network, DDPM(10), dropout_key=jax.random.key(seed))(x, 1)
        drawn.append(jax.random.key_data(network.rngs.dropout()).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("t", [0, 11, -1, np.array([1, 11])])
def test_levels_that_are_none_are_refused(t):
    with pytest.raises(IndexError, match="outside 0 … 10|at t = 0 are clean"):
        Denoiser(Recorder(), DDPM(10))(jnp.ones((2, 3)), t)


def test_an_unknown_prediction_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="prediction 'epss': did you mean 'eps'"):
        Denoiser(Recorder(), DDPM(10), "epss")


def test_a_prediction_of_ones_own():
    denoiser = Denoiser(lambda x, *_, **__: jnp.full_like(x, 0.5), DDPM(10), "test_denoiser:from_half_x0")
    np.testing.assert_array_equal(denoiser(jnp.ones((1, 2)), 3).x0, [[1.0, 1.0]])


def from_half_x0(output, at):
    return 2 * output, (at.x_t - at.alpha * 2 * output) / at.sigma


@pytest.mark.parametrize("process", [DDPM(num_steps=10), NCSN(num_steps=10)])
def test_numpy_arrays_are_as_good_as_jax_arrays(process):
    x0, noise = (np.random.default_rng(seed).normal(size=(3, 2)).astype(np.float32) for seed in (0, 1))
    t = np.asarray([1, 5, 10], np.int32)
    denoiser = Denoiser(lambda x, noise_label, label=None, *, rngs=None: 0.5 * x, process)
    for given in (np.asarray, jnp.asarray):
        x_t = process.perturb(given(x0), given(t), given(noise))
        mean, _ = process.posterior(given(x0), given(np.asarray(x_t)), 0, 1)
        np.testing.assert_allclose(mean, x0, rtol=1e-6)
        np.testing.assert_allclose(denoiser(given(np.asarray(x_t)), given(t)).eps, x_t / 2, rtol=1e-6)
        assert process.prior_kl(given(x0)).shape == (3,)
