"""The bound, term by term: on tables of predictions against NumPy in float64, on a Gaussian against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import PROCESSES
from test_gaussian import exact_log_probability

import unified_diffusion as ud
from unified_diffusion import Denoiser, UserError
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.likelihood import variational_bound
from unified_diffusion.perturbations import DDPM, NCSN

SHAPE = (5, 3, 2, 1)
DIMENSIONS = 6
X0 = np.float32(np.random.default_rng(0).integers(0, 256, SHAPE) / 127.5 - 1)
X0[0, 0, :, 0] = -1, 1  # both of the decoder's open bins


def column(levels):
    return np.asarray(levels, np.float64).reshape(-1, 1, 1, 1, 1)


class Table:
    """A network that puts out what it was given for each noise level: `[num_steps, B, H, W, C or 2 C]`."""

    def __init__(self, output):
        self.output = jnp.asarray(output, jnp.float32)

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        return self.output[noise_label[0]]


def noises(key, times, shape=SHAPE):
    """The noise at each level that the bound's docstring promises: fold_in(example's key, t)."""
    keys = jax.vmap(lambda example: jax.random.fold_in(key, example))(jnp.arange(shape[0]))
    at = jax.vmap(lambda t: jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, t), shape[1:]))(keys))
    return np.asarray(at(jnp.asarray(times)), np.float64)


def variances(chain, times, choice, v=None):
    """The reverse variance of every step of the chain through `times` (rising, from 0), in float64."""
    small = [chain.posterior(s, t)[2] for s, t in zip(times[:-1], times[1:], strict=True)]
    large = [chain.transition(s, t)[1] for s, t in zip(times[:-1], times[1:], strict=True)]
    small[0] = small[1] if len(small) > 1 else large[0]
    small, large = column(small), column(large)
    if choice == "learned":
        return np.exp((1 + v) / 2 * np.log(large) + (1 - v) / 2 * np.log(small))
    return {"small": small, "large": large}[choice]


def exact_terms(chain, times, noise, eps, choice, v=None, clip=False):
    """(terms `[steps, B]` in bits/dim, the decoder's first; mean squared error of x0_hat), in float64."""
    x0 = np.float64(X0)
    alphas, sigmas = (column(level[times[1:]]) for level in (chain.marginals()[0], np.sqrt(chain.marginals()[1])))
    x_t = alphas * x0 + sigmas * noise
    x0_hat = (x_t - sigmas * eps) / alphas
    x0_hat = np.clip(x0_hat, -1, 1) if clip else x0_hat
    var = variances(chain, times, choice, v) * np.ones_like(x_t)
    terms = []
    for k, (s, t) in enumerate(zip(times[:-1], times[1:], strict=True)):
        a, b, true_var = chain.posterior(s, t)
        if s == 0:
            nats = -exact_log_probability(x0, x0_hat[k], np.sqrt(var[k]))
        else:
            difference = (a * x0 + b * x_t[k]) - (a * x0_hat[k] + b * x_t[k])
            nats = 0.5 * (np.log(var[k] / true_var) + (true_var + difference**2) / var[k] - 1)
        terms.append(nats.sum(axis=(1, 2, 3)) / DIMENSIONS / np.log(2))
    return np.array(terms), np.mean((x0_hat - x0) ** 2, axis=(2, 3, 4))


@pytest.mark.parametrize("choice", ["large", "small", "learned"])
@pytest.mark.parametrize(
    ("name", "num_steps"),
    [("ddpm", None), ("ddpm", 12), ("ddpm", 1), ("ncsn", None), ("ncsn-v2", 20)],
)
def test_every_term_on_a_table_of_eps_predictions(name, num_steps, choice):
    process, chain = PROCESSES[name]
    rng = np.random.default_rng(1)
    times = process.timesteps(num_steps or process.num_steps)[::-1]
    key = jax.random.key(5)
    noise = noises(key, times[1:])
    # Off by a tenth or so, as a trained network is.
    eps = np.float32(noise + 0.1 * rng.normal(size=noise.shape))
    v = np.float32(rng.uniform(-1.2, 1.2, noise.shape))
    output = np.zeros((process.num_steps, *SHAPE[:-1], 2 if choice == "learned" else 1), np.float32)
    output[times[1:] - 1] = np.concatenate([eps, v], axis=-1) if choice == "learned" else eps
    denoiser = Denoiser(Table(output), process, variance="learned" if choice == "learned" else "fixed")
    bound = variational_bound(denoiser, X0, key, variance=choice, num_steps=num_steps)
    terms, x0_error = exact_terms(chain, times, noise, np.float64(eps), choice, np.float64(v))
    np.testing.assert_allclose(bound.reconstruction, terms[0], rtol=1e-5)
    np.testing.assert_allclose(bound.diffusion[:, 1:], terms[1:].T, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(bound.diffusion[:, 0], 0)
    np.testing.assert_allclose(bound.x0_error, x0_error.T, rtol=1e-5, atol=3e-9)
    alpha, variance = (level[-1] for level in chain.marginals())
    spread = 1.0 if name.startswith("ddpm") else variance
    prior = 0.5 * (np.float64(X0) ** 2 * alpha**2 / spread + variance / spread - 1 - np.log(variance / spread))
    prior = prior.sum(axis=(1, 2, 3)) / DIMENSIONS / np.log(2)
    np.testing.assert_allclose(bound.prior, prior, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(bound.total, prior + terms.sum(0), rtol=1e-5)
    np.testing.assert_array_equal(bound.t, times[1:])
    assert bound.diffusion.shape == (len(X0), num_steps or process.num_steps)


@pytest.mark.parametrize("name", ["ddpm", "ncsn"])
def test_clipping_is_the_bound_of_the_clipped_model(name):
    process, chain = PROCESSES[name]
    num_steps = 10
    times = process.timesteps(num_steps)[::-1]
    key = jax.random.key(3)
    noise = noises(key, times[1:])
    eps = np.float32(noise + 0.5)
    output = np.zeros((process.num_steps, *SHAPE), np.float32)
    output[times[1:] - 1] = eps
    bounds = [
        variational_bound(Denoiser(Table(output), process), X0, key, num_steps=num_steps, clip_x0=clip)
        for clip in (True, False)
    ]
    terms, _ = exact_terms(chain, times, noise, np.float64(eps), "large", clip=True)
    np.testing.assert_allclose(bounds[0].reconstruction, terms[0], rtol=1e-5)
    np.testing.assert_allclose(bounds[0].diffusion[:, 1:], terms[1:].T, rtol=1e-5, atol=1e-6)
    assert np.sum(bounds[0].total) < np.sum(bounds[1].total)


def test_the_total_is_the_sum_of_its_parts():
    denoiser = Denoiser(lambda x, *_, **__: jnp.sin(x), DDPM(30))
    bound = ud.likelihood.variational_bound(denoiser, X0, jax.random.key(0))
    total = bound.prior + np.asarray(bound.diffusion, np.float64).sum(1) + bound.reconstruction
    np.testing.assert_allclose(bound.total, total, rtol=1e-6)
    assert [part.shape for part in bound] == [(5,), (5, 30), (5,), (5,), (30,), (5, 30)]


def test_an_example_depends_on_its_own_key_alone_and_progress_changes_nothing():
    denoiser = Denoiser(lambda x, *_, **__: jnp.sin(x), DDPM(30))
    key = jax.random.key(0)
    whole = variational_bound(denoiser, X0, key)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(2, 4))
    done = []
    part = variational_bound(denoiser, X0[2:4], keys, progress=done.append)
    np.testing.assert_allclose(part.total, whole.total[2:4], rtol=1e-6)
    np.testing.assert_allclose(part.diffusion, whole.diffusion[2:4], rtol=1e-5)
    assert sum(done) == 30
    assert len(done) > 5


def test_class_labels_reach_the_network():
    def network(x, noise_label, label=None, *, rngs=None):
        return x * label[:, None, None, None]

    denoiser = Denoiser(network, DDPM(5))
    bounds = [variational_bound(denoiser, X0, jax.random.key(0), np.full(5, label)).total for label in (0, 1)]
    assert np.all(bounds[0] != bounds[1])


MEAN, STD = 0.2, 0.3


@pytest.mark.parametrize("variance", ["large", "small"])
@pytest.mark.parametrize(("name", "num_steps"), [("ddpm", 40), ("ncsn", None)])
def test_every_expected_term_of_a_gaussian_is_its_closed_form(name, num_steps, variance):
    """E (x0_hat - x0)² is the posterior's variance c = std² sigma² / (alpha² std² + sigma²): all terms follow."""
    process, chain = PROCESSES[name]
    times = process.timesteps(num_steps or process.num_steps)[::-1]
    dimensions = 16
    count = 2000
    gaussian = GaussianMixture(jnp.ones(1), jnp.full((1, dimensions), MEAN), jnp.full(1, STD))
    x0 = gaussian.sample(jax.random.key(1), count)
    bound = variational_bound(
        gaussian.denoiser(process), x0, jax.random.key(2), variance=variance, num_steps=num_steps, discretized=False
    )
    alphas, sigmas2 = chain.marginals()
    var = variances(chain, times, variance).ravel()
    expected, spread = [], []
    for k, (s, t) in enumerate(zip(times[:-1], times[1:], strict=True)):
        a, _, small = chain.posterior(s, t)
        c = STD**2 * sigmas2[t] / (alphas[t] ** 2 * STD**2 + sigmas2[t])
        constant = np.log(2 * np.pi * var[k]) if s == 0 else np.log(var[k] / small) + small / var[k] - 1
        expected.append((constant + a**2 * c / var[k]) / 2 / np.log(2))
        spread.append(a**2 * c / var[k] / 2 / np.log(2) * np.sqrt(2 / (count * dimensions)))
    measured = np.asarray(bound.diffusion, np.float64).mean(0) + np.eye(len(expected))[0] * float(
        bound.reconstruction.mean()
    )
    assert np.all(np.abs(measured - expected) < 5 * np.array(spread) + 1e-6)
    assert abs(measured.sum() - np.sum(expected)) < 5 * np.linalg.norm(spread) + 1e-5 * np.abs(expected).sum()
    ratio = alphas[-1] ** 2 / process.prior_sigma**2
    noise = sigmas2[-1] / process.prior_sigma**2
    prior = (ratio * np.float64(x0) ** 2 + noise - 1 - np.log(noise)).mean() / 2 / np.log(2)
    np.testing.assert_allclose(bound.prior.mean(), prior, rtol=1e-5)
    exact_prior = (ratio * (MEAN**2 + STD**2) + noise - 1 - np.log(noise)) / 2 / np.log(2)
    np.testing.assert_allclose(bound.prior.mean(), exact_prior, rtol=0.1)


# In 32 dimensions, so that few examples make a small error in bits/dim; and 12 times as wide as a bin at least.
WEIGHTS, STDS = np.array([0.3, 0.7]), np.array([0.1, 0.2])
MEANS = np.random.default_rng(0).choice([-0.1, 0.1], (2, 32))


def exact_bits(x0):
    """-log2 of each grey vector's probability under the mixture, per dimension, in float64."""
    log_prob = exact_log_probability(x0[:, None], MEANS, STDS[:, None]).sum(-1)
    return -np.logaddexp.reduce(np.log(WEIGHTS) + log_prob, axis=1) / x0.shape[1] / np.log(2)


def excess(process, count=300, **options):
    """(mean of bound minus truth, its standard error), in bits/dim, on grey samples of the mixture."""
    mixture = GaussianMixture(*(jnp.asarray(part, jnp.float32) for part in (WEIGHTS, MEANS, STDS)))
    x0 = mixture.sample(jax.random.key(4), count)
    x0 = jnp.clip(jnp.rint((x0 + 1) * 127.5), 0, 255) / 127.5 - 1
    bound = variational_bound(mixture.denoiser(process), x0, jax.random.key(6), **options)
    over = np.asarray(bound.total, np.float64) - exact_bits(np.asarray(x0, np.float64))
    return over.mean(), over.std() / np.sqrt(count)


@pytest.mark.slow
def test_the_bound_of_an_exact_denoiser_falls_to_the_true_likelihood():
    """DDPM's 1,000 linear steps of large variance come within 0.05 bits/dim of it."""
    (few, _), (more, _), (all_of_them, error) = (
        excess(DDPM(), count, num_steps=number) for number, count in ((5, 100), (50, 200), (None, 1000))
    )
    assert few > 1
    assert few > 2 * more > 8 * all_of_them
    assert -3 * error < all_of_them < 0.05
    assert error < 0.01


def test_on_ncsn_it_falls_too():
    (few, _), (more, _) = (excess(NCSN(number, sigma_min=0.01, sigma_max=20.0)) for number in (10, 100))
    assert few > 4 * more > 1


@pytest.mark.parametrize("process", [DDPM(), NCSN(40, sigma_min=0.01, sigma_max=20.0)])
def test_with_the_small_variance_it_is_above_the_truth_as_well(process):
    """Small is right for data of one point, and too small for these: more steps do not mend it."""
    for num_steps in (5, 30):
        over, error = excess(process, 100, num_steps=num_steps, variance="small")
        assert over > 10 * error > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variance": "learned"}, "no variance head: set config.denoiser.variance=learned"),
        ({"variance": "larg"}, "did you mean 'large'"),
        ({"num_steps": 31}, "1 to 30"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        variational_bound(Denoiser(lambda x, *_, **__: x, DDPM(30)), X0, jax.random.key(0), **options)
