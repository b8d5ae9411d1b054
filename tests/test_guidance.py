"""Guidance against closed forms: Gaussian mixtures whose classes, denoisers and classifiers are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Mixture

from unified_diffusion import Denoiser, UserError
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.guidance import ClassifierGuided, Guided, num_evaluations
from unified_diffusion.perturbations import DDPM, NCSN, VP
from unified_diffusion.samplers import Ancestral, AnnealedLangevin

# The classes' components: the first class has two of them.
WEIGHTS, STDS = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.3, 0.5, 0.4, 0.2])
MEANS = np.array([[-1.0, 0.5, 0.0], [0.2, -0.8, 0.6], [1.0, 1.0, -0.5], [-0.4, 0.9, 0.9]])
CLASSES = ([0, 1], [2], [3])
PARTS = [*CLASSES, [0, 1, 2, 3]]
# (process, a level t in its middle, one near its noisy end).
PROCESSES = [(DDPM(50, "cosine"), 20, 42), (NCSN(30, sigma_min=0.1, sigma_max=4.0), 12, 26), (VP(), 0.3, 0.7)]
NAMES = ["ddpm", "ncsn", "vp"]
X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
LABEL = np.array([0, 1, 2, 2, 1, 0], np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Exact:
    """E[x_0 | x_t, label], and E[x_0 | x_t] for the label that is none."""

    perturbation: object
    num_classes: int = 3

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        scales = self.perturbation.scales(self.perturbation.label_log_snr(noise_label))
        mixtures = [GaussianMixture(WEIGHTS[part], MEANS[part], STDS[part]) for part in PARTS]
        means = jnp.stack([mixture.posterior_mean(x, *scales) for mixture in mixtures])
        label = jnp.broadcast_to(jnp.asarray(self.num_classes if label is None else label), x.shape[:1])
        return means[label, jnp.arange(len(x))]


@dataclasses.dataclass(frozen=True, eq=False)
class ExactClassifier:
    """log p(x_t, label), which are logits of p(label | x_t)."""

    perturbation: object

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        alpha, sigma = self.perturbation.scales(self.perturbation.label_log_snr(noise_label))
        alpha, sigma = (jnp.broadcast_to(level, x.shape[:1])[:, None] for level in (alpha, sigma))
        variance = (alpha * STDS) ** 2 + sigma**2
        squares = jnp.sum((x[:, None] - alpha[..., None] * MEANS) ** 2, axis=-1)
        joint = jnp.log(WEIGHTS) - squares / (2 * variance) - x.shape[1] / 2 * jnp.log(variance)
        return jnp.stack([jax.nn.logsumexp(joint[:, np.array(part)], axis=1) for part in CLASSES], axis=1)


class Crude:
    """Any network with classes: what it puts out is easy to tell apart."""

    num_classes = 3

    def __init__(self):
        self.examples = 0

    def __call__(self, x, noise_label, label=None, *, rngs=None):
        jax.debug.callback(self._called, len(x))
        label = jnp.broadcast_to(jnp.asarray(self.num_classes if label is None else label), x.shape[:1])
        return jnp.sin(x + label[:, None])

    def _called(self, examples):
        self.examples += int(examples)


@jax.jit
def ask(denoiser, x, t, label=None):
    return denoiser(x, t, label)


EXACT = {process: Denoiser(Exact(process), process, prediction="x0") for process, _, _ in PROCESSES}
PLAIN = {process: GaussianMixture(WEIGHTS, MEANS, STDS).denoiser(process) for process in EXACT}
CLASSIFIERS = {process: Denoiser(ExactClassifier(process), process) for process in EXACT}


def exact_scores(process, t):
    """(∇ log p(x_t | label), ∇ log p(x_t)) at X, float64, from the levels of the process."""
    alpha, sigma = (np.asarray(level, np.float64) for level in process.exact(t)[1:3])
    x = X.astype(np.float64)

    def score(part):
        mixture = Mixture(WEIGHTS[part] / WEIGHTS[part].sum(), MEANS[part], STDS[part])
        return (alpha * mixture.x0(x, alpha, sigma) - x) / sigma**2

    of_class = np.stack([score(part) for part in CLASSES])
    return of_class[LABEL, np.arange(len(X))], score(PARTS[-1])


def consistent(prediction, process, t):
    """x0, eps and score of a prediction are the same thing."""
    alpha, sigma = (np.asarray(level, np.float64) for level in process.exact(t)[1:3])
    np.testing.assert_allclose(alpha * prediction.x0 + sigma * prediction.eps, X, atol=3e-5)
    np.testing.assert_allclose(prediction.score, -prediction.eps / sigma, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(("process", "t", "late"), PROCESSES, ids=NAMES)
def test_the_guided_score_is_the_analytic_one(process, t, late, scale):
    guided = Guided(EXACT[process], scale)
    for level in (t, late):
        given, without = exact_scores(process, level)
        prediction = ask(guided, X, level, LABEL)
        np.testing.assert_allclose(prediction.score, without + scale * (given - without), rtol=2e-3, atol=2e-3)
        consistent(prediction, process, level)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score"])
def test_the_closed_form_of_any_network(prediction):
    denoiser, t = Denoiser(Crude(), DDPM(50), prediction=prediction), np.array([1, 5, 10, 20, 40, 50])
    given, without = ask(denoiser, X, t, LABEL), ask(denoiser, X, t)
    for scale in (0.0, 1.0, -0.5, 3.0):
        guided = ask(Guided(denoiser, scale).given(jnp.asarray(LABEL)), X, t)
        expected = without.eps + scale * (given.eps - without.eps)
        np.testing.assert_allclose(guided.eps, expected, rtol=1e-5, atol=1e-5)
        expected = without.x0 + scale * (given.x0 - without.x0)
        np.testing.assert_allclose(guided.x0, expected, rtol=1e-5, atol=1e-4)
        if scale in (0.0, 1.0):
            alone = given if scale else without
            np.testing.assert_allclose(guided.eps, alone.eps, rtol=1e-6, atol=1e-6)
    assert np.abs(given.eps - without.eps).max() > 0.1


def test_outside_of_the_interval_the_conditional_prediction_counts():
    process = PROCESSES[1][0]
    denoiser = EXACT[process]
    levels = np.exp(-np.asarray(process.log_snr(process.times)) / 2)
    guided = Guided(denoiser, 3.0, (float(levels[9]) * 1.001, float(levels[19]) * 1.001))
    everywhere = Guided(denoiser, 3.0)
    for number in (0, 9, 10, 15, 19, 20, 29):
        t = process.times[number]
        expected = ask(everywhere if 10 <= number <= 19 else denoiser, X, t, LABEL)
        np.testing.assert_allclose(ask(guided, X, t, LABEL).eps, expected.eps, rtol=1e-5, atol=1e-5)
    # With a level for each example, too.
    t = process.times[[0, 9, 10, 15, 19, 20]]
    conditional = ask(denoiser, X, t, LABEL).eps
    far = np.abs(ask(everywhere, X, t, LABEL).eps - conditional).max(axis=1)
    moved = np.abs(ask(guided, X, t, LABEL).eps - conditional).max(axis=1)
    assert np.all(far[1:] > 0.01)  # at the cleanest level every class has the same x0
    np.testing.assert_allclose(moved, np.where([False, False, True, True, True, False], far, 0), rtol=1e-4, atol=1e-5)


def test_the_interval_holds_its_high_end_and_not_its_low_one():
    class Levels(NCSN):  # levels of sigma / alpha that float32 has exactly
        def log_snr(self, t):
            return -2 * jnp.log(jnp.where(jnp.asarray(t) == 1, 1.0, 2.0))

    process = Levels(sigmas=(1.0, 2.0))
    denoiser = Denoiser(Crude(), process)
    low, high = (float(jnp.exp(-process.log_snr(t) / 2)) for t in (1, 2))
    guided = Guided(denoiser, 3.0, (low, high))
    np.testing.assert_array_equal(guided(X, 1, LABEL).eps, denoiser(X, 1, LABEL).eps)
    assert np.abs(guided(X, 2, LABEL).eps - denoiser(X, 2, LABEL).eps).max() > 0.1


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize(("process", "t", "late"), PROCESSES, ids=NAMES)
def test_an_exact_classifier_makes_the_score_conditional(process, t, late, scale):
    guided = ClassifierGuided(PLAIN[process], CLASSIFIERS[process], scale)
    for level in (t, late):
        given, without = exact_scores(process, level)
        prediction = ask(guided, X, level, LABEL)
        np.testing.assert_allclose(prediction.score, without + scale * (given - without), rtol=2e-3, atol=2e-3)
        consistent(prediction, process, level)


def test_a_classifier_of_another_process_and_a_conditional_denoiser():
    process, (trained_on, _, _) = PROCESSES[1][0], PROCESSES[0]
    classifier, conditional = CLASSIFIERS[trained_on], EXACT[process]
    given, without = exact_scores(process, 12)
    alpha = np.asarray(trained_on.scales(process.log_snr(12))[0], np.float64)
    # The classifier has seen alpha x_t: its gradient is by the chain rule one with respect to x_t, of the same p.
    assert 0.1 < alpha < 0.99
    score = ask(ClassifierGuided(PLAIN[process], classifier), X, 12, LABEL).score
    np.testing.assert_allclose(score, given, rtol=2e-3, atol=5e-3)
    both = ask(ClassifierGuided(conditional, classifier, 2.0, conditional=True), X, 12, LABEL).score
    np.testing.assert_allclose(both, given + 2 * (given - without), rtol=2e-3, atol=1e-2)
    of_both = ClassifierGuided(Guided(conditional, 3.0), classifier, 2.0, conditional=True)
    of_both = ask(of_both.given(jnp.asarray(LABEL)), X, 12).score
    np.testing.assert_allclose(of_both, without + 5 * (given - without), rtol=2e-3, atol=1e-2)


def test_samples_are_of_the_asked_class():
    process, sampler = PROCESSES[0][0], Ancestral(clip_x0=False)
    guided = ClassifierGuided(PLAIN[process], CLASSIFIERS[process])
    label = np.full(1500, 1, np.int32)
    samples = np.asarray(sampler(guided, jax.random.key(0), (1500, 3), label))
    np.testing.assert_allclose(samples.mean(axis=0), MEANS[2], atol=0.05)
    np.testing.assert_allclose(samples.std(axis=0), STDS[2], rtol=0.08)


@pytest.mark.parametrize("interval", [None, (0.3, 2.0)])
@pytest.mark.parametrize(
    "sampler", [Ancestral(num_steps=12), AnnealedLangevin(steps_per_level=2)], ids=["ancestral", "langevin"]
)
def test_evaluations_are_those_that_ran(sampler, interval):
    network, process = Crude(), DDPM(20, "cosine")
    guided = Guided(Denoiser(network, process), 3.0, interval)
    said, alone = num_evaluations(sampler, guided), sampler.num_evaluations(process)
    jax.block_until_ready(sampler(guided, jax.random.key(0), (1, 3), LABEL[:1]))
    jax.effects_barrier()
    assert network.examples == said
    assert said == 2 * alone if interval is None else alone < said < 2 * alone
    assert num_evaluations(sampler, ClassifierGuided(guided, None)) == said
    assert num_evaluations(sampler, ClassifierGuided(Denoiser(network, process), None)) == alone


def test_a_new_scale_compiles_nothing_anew():
    traces = []

    @jax.jit
    def eps(denoiser, x, label):
        traces.append(0)
        return denoiser(x, 5, label).eps

    denoiser = Denoiser(Crude(), DDPM(20))
    found = [np.asarray(eps(Guided(denoiser, scale), X, LABEL)) for scale in (2.0, 3.0, 4.0)]
    assert len(traces) == 1
    np.testing.assert_allclose(found[2] - found[1], found[1] - found[0], rtol=1e-4, atol=1e-5)


def test_a_learned_variance_is_the_conditional_one():
    class Learned(Crude):
        def __call__(self, x, noise_label, label=None, *, rngs=None):
            return jnp.concatenate(
                [super().__call__(x, noise_label, label), super().__call__(0 * x, 0, label)], axis=-1
            )

    denoiser = Denoiser(Learned(), DDPM(20), variance="learned")
    guided, given = ask(Guided(denoiser, 3.0), X, 7, LABEL), ask(denoiser, X, 7, LABEL)
    np.testing.assert_allclose(guided.log_variance, given.log_variance, rtol=1e-6)
    assert np.abs(given.log_variance - ask(denoiser, X, 7).log_variance).max() > 1e-3


def test_misuse_says_what_to_do():
    process = DDPM(20)
    labelled, plain = Denoiser(Crude(), process), Denoiser(lambda x, noise_label, label=None, *, rngs=None: x, process)
    for guided in (Guided(labelled, 2.0), ClassifierGuided(plain, plain)):
        with pytest.raises(UserError, match=r"label=…"):
            guided(X, 5)
    with pytest.raises(UserError, match="num_classes > 0"):
        Guided(plain, 2.0)(X, 5, LABEL)
    for interval in ((1.0, 1.0), (2.0, 1.0), (-1.0, 1.0)):
        with pytest.raises(UserError, match="low < high"):
            Guided(labelled, 2.0, interval)
