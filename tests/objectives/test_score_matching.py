"""Score matching without a noise target, against quadrature, closed forms and denoising score matching."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import Denoiser, UserError
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.objectives import Denoising, Implicit, SingleLevel, Sliced
from unified_diffusion.perturbations import DDPM, NCSN
from unified_diffusion.runs.build import create, data_facts, load_data
from unified_diffusion.runs.config import read_config, resolve
from unified_diffusion.runs.sections import build
from unified_diffusion.training import initial_state, make_train_step, objective_state

DATA = GaussianMixture(jnp.array([0.3, 0.7]), jnp.array([[-0.6, 0.2], [0.5, -0.3]]), jnp.array([0.2, 0.3]))
MODEL = GaussianMixture(jnp.array([0.6, 0.4]), jnp.array([[-0.4, 0.0], [0.6, 0.3]]), jnp.array([0.3, 0.25]))
PROCESSES = {"ddpm": DDPM(50, "cosine"), "ncsn": NCSN(20, sigma_min=0.1, sigma_max=3.0)}
KEY = jax.random.key(0)


def examples(count, seed=0):
    """(x_0, noise), `[count, 2]` each, for data of `DATA`."""
    rng = np.random.default_rng(seed)
    own = rng.choice(2, count, p=(0.3, 0.7))
    x0 = np.asarray(DATA.means)[own] + np.asarray(DATA.stds)[own, None] * rng.normal(size=(count, 2))
    return jnp.asarray(x0, jnp.float32), jnp.asarray(rng.normal(size=(count, 2)), jnp.float32)


def hermite(count):
    """Nodes and weights of expectations under N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def plane(mixture, alpha, sigma, count=24):
    """Nodes x_t `[N, 2]` and weights `[N]` of expectations under the noised mixture, in float64."""
    nodes, weights = hermite(count)
    unit = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    unit_weights = np.outer(weights, weights).ravel()
    parts = []
    for weight, mean, std in zip(*(np.asarray(part, np.float64) for part in vars(mixture).values()), strict=True):
        parts.append((alpha * mean + np.hypot(alpha * std, sigma) * unit, weight * unit_weights))
    x, weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return x, weights / weights.sum()


@pytest.mark.parametrize("t", [2, 10, 20])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_implicit_and_the_exact_scores_energy_are_the_fisher_divergence(process, t):
    """E[‖s‖² + 2 tr ∇s] = E‖s - s*‖² - E‖s*‖² with s* the exact score. Hyvärinen 2005, theorem 1, twice."""
    sigma = process.sigma(t)
    x, weights = plane(DATA, float(process.alpha(t)), float(sigma))
    x_t = jnp.asarray(x, jnp.float32)
    model, exact = MODEL.denoiser(process), DATA.denoiser(process)

    @jax.jit
    def measure(x_t):
        error = Implicit(reduction="sum").error(lambda x: model(x, t).eps, x_t, jnp.full(len(x), sigma), KEY)
        return error, model(x_t, t).score, exact(x_t, t)

    implicit, score, (_, eps, exact_score, *_) = measure(x_t)
    fisher = float(sigma) ** 2 * np.sum(np.square(np.asarray(score - exact_score, np.float64)), axis=1)
    energy = np.sum(np.square(np.asarray(eps, np.float64)), axis=1)
    assert weights @ fisher > 0.01
    np.testing.assert_allclose(weights @ implicit, weights @ fisher - weights @ energy, atol=2e-4 * (weights @ energy))


def line(count=48):
    """Nodes (x_0, noise) `[N, 1]` and weights: data 0.3 N(-0.6, 0.2²) + 0.7 N(0.5, 0.3²)."""
    nodes, weights = hermite(count)
    x0 = np.concatenate([-0.6 + 0.2 * nodes, 0.5 + 0.3 * nodes])
    x0_weights = np.concatenate([0.3 * weights, 0.7 * weights])
    grid = np.meshgrid(x0, nodes, indexing="ij")
    x0, noise = (jnp.asarray(array.reshape(-1, 1), jnp.float32) for array in grid)
    return x0, noise, jnp.asarray(np.outer(x0_weights, weights).ravel(), jnp.float32)


def parameters():
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in (("a", (2, 8)), ("b", (8, 1)))}


def small_network(params):
    def apply(x, noise_label, label=None, *, rngs=None):
        inputs = jnp.concatenate([x, jnp.broadcast_to(noise_label, (len(x),))[:, None] / 20], axis=1)
        return jnp.tanh(inputs @ params["a"]) @ params["b"]

    return apply


@pytest.mark.parametrize(
    ("process", "prediction", "weighting"),
    [("ddpm", "eps", "simple"), ("ddpm", "x0", "dsm"), ("ncsn", "x0", "simple"), ("ncsn", "score", "vlb")],
)
def test_denoising_is_implicit_plus_the_weight_in_loss_and_gradient(process, prediction, weighting):
    """Vincent 2011, section 4.2: the expectations differ by w(t) D, which no parameter changes."""
    process, (x0, noise, weights) = PROCESSES[process], line()
    for level in (3, 15):
        t = jnp.full(len(x0), level)

        def denoising(params, t=t):
            denoiser = Denoiser(small_network(params), process, prediction)
            return weights @ Denoising(weighting=weighting).at(denoiser, x0, t, noise)[0]

        def implicit(params, t=t):
            denoiser = Denoiser(small_network(params), process, prediction)
            return weights @ Implicit(weighting=weighting).at(denoiser, x0, t, noise, key=KEY)[0]

        (loss, gradient), (other, other_gradient) = (
            jax.jit(jax.value_and_grad(function))(parameters()) for function in (denoising, implicit)
        )
        w = float(Denoising(weighting=weighting).weight(process, level))
        np.testing.assert_allclose(loss - other, w, rtol=2e-4)
        for name in gradient:
            scale = np.abs(gradient[name]).max()
            np.testing.assert_allclose(other_gradient[name], gradient[name], atol=5e-4 * scale)


def directions(dimensions):
    """All vectors of signs `[2^D, D]`, and Gauss-Hermite nodes with weights, exact to the fourth moments."""
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=dimensions)))
    nodes, weights = hermite(3)
    gaussian = np.array(list(itertools.product(nodes, repeat=dimensions)))
    products = np.array([np.prod(row) for row in itertools.product(weights, repeat=dimensions)])
    return {"rademacher": (signs, np.full(len(signs), 1 / len(signs))), "gaussian": (gaussian, products)}


@pytest.mark.parametrize("variance_reduced", [True, False])
@pytest.mark.parametrize("projections", ["rademacher", "gaussian"])
def test_sliced_over_all_directions_is_implicit(projections, variance_reduced):
    process, t = PROCESSES["ddpm"], 20
    x_t, sigma = jax.random.normal(KEY, (50, 2)), jnp.full(50, process.sigma(t))
    model = MODEL.denoiser(process)

    def eps(x):
        return model(x, t).eps

    exact = jax.jit(lambda: Implicit().error(eps, x_t, sigma, KEY))()
    objective = Sliced(variance_reduced=variance_reduced)
    nodes, weights = directions(2)[projections]
    v = jnp.broadcast_to(nodes[:, None], (len(nodes), 50, 2)).astype(jnp.float32)
    each = jax.jit(jax.vmap(lambda v: objective.along(eps, x_t, sigma, v[None])))(v)
    np.testing.assert_allclose(weights @ each, exact, rtol=1e-5, atol=1e-5)
    if projections == "rademacher":  # and in one call
        all_at_once = jax.jit(lambda: objective.along(eps, x_t, sigma, v))()
        np.testing.assert_allclose(all_at_once, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("projections", "reduction"), [("rademacher", 0.6), ("gaussian", 0.9)])
def test_drawn_directions_are_unbiased_and_variance_reduction_reduces_it(projections, reduction):
    process = PROCESSES["ncsn"]
    (x0, noise), t = examples(200), jnp.arange(200) % 20 + 1
    model = MODEL.denoiser(process)
    exact = np.asarray(jax.jit(lambda: Implicit().at(model, x0, t, noise, key=KEY)[0])(), np.float64)
    variances = []
    for variance_reduced in (True, False):
        objective = Sliced(projections=projections, variance_reduced=variance_reduced)
        draw = jax.jit(jax.vmap(lambda key, objective=objective: objective.at(model, x0, t, noise, key=key)[0]))
        draws = np.asarray(draw(jax.random.split(KEY, 2000)), np.float64)
        error = draws.std(axis=0) / np.sqrt(len(draws))
        assert np.abs((draws.mean(axis=0) - exact) / np.maximum(error, 1e-6)).max() < 5
        variances.append(draws.var(axis=0).mean())
    assert variances[0] < reduction * variances[1]


def test_more_projections_are_their_mean():
    process = PROCESSES["ddpm"]
    (x0, noise), t = examples(100), jnp.full(100, 30)
    objectives = (Implicit(), Sliced(), Sliced(num_projections=64))
    model = MODEL.denoiser(process)
    losses = jax.jit(lambda: [objective.at(model, x0, t, noise, key=KEY)[0] for objective in objectives])()
    exact, one, many = np.asarray(losses)
    spread = [np.std(one - exact), np.std(many - exact)]
    assert 0.05 < spread[1] / spread[0] < 0.3  # 1/8


@pytest.mark.parametrize("t", [1, 10, 20])
def test_the_best_gaussian_has_the_moments_of_the_sample(t):
    """For s = -(x - m) / v it is solved by the mean and the variance. Hyvärinen 2005, section 3.1."""
    process = PROCESSES["ncsn"]
    x0, noise = examples(500)
    x_t = np.asarray(process.perturb(x0, t, noise), np.float64)

    def loss(params):
        denoiser = Denoiser(lambda x, *_, **__: -(x - params["m"]) / params["v"], process, "score")
        return jnp.mean(Implicit().at(denoiser, x0, jnp.full(500, t), noise, key=KEY)[0])

    value_and_gradient = jax.jit(jax.value_and_grad(loss))
    best = {"m": x_t.mean(axis=0), "v": x_t.var(axis=0).mean()}
    moved = jax.tree.map(lambda value: 1.1 * value, best)
    (least, at_best), (more, elsewhere) = (
        value_and_gradient(jax.tree.map(jnp.float32, params)) for params in (best, moved)
    )
    for name in best:
        assert np.abs(at_best[name]).max() < 1e-4 * max(np.abs(elsewhere["v"]), np.abs(elsewhere["m"]).max())
    assert least < more


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_single_level_is_vincents_loss(process):
    """Twice ½ ‖s(x_t) - (alpha x_0 - x_t) / sigma²‖². Vincent 2011, eq. 11."""
    x0, model = examples(100)[0], MODEL.denoiser(process)

    @jax.jit
    def both():
        x_t = process.perturb(x0, 4, jax.random.normal(KEY, x0.shape))
        target = (process.alpha(4) * x0 - x_t) / process.sigma(4) ** 2
        found = SingleLevel(level=4, weighting="dsm", reduction="sum")(model, x0, KEY)
        return *found, jnp.sum((model(x_t, 4).score - target) ** 2, axis=1)

    loss, metrics, expected = both()
    np.testing.assert_allclose(loss, expected, rtol=1e-3)
    np.testing.assert_array_equal(metrics["t"], np.full(100, 4))
    np.testing.assert_allclose(SingleLevel(level=4).weight(process, 4), 1)


@pytest.mark.parametrize("objective", [Implicit(), Sliced(), SingleLevel()], ids=["implicit", "sliced", "single_level"])
def test_a_call_is_per_example_and_repeats(objective):
    call = jax.jit(lambda key: objective(MODEL.denoiser(PROCESSES["ddpm"]), examples(30)[0], key))
    loss, metrics = call(KEY)
    assert loss.shape == metrics["t"].shape == metrics["error"].shape == (30,)
    np.testing.assert_array_equal(loss, call(KEY)[0])
    assert np.any(loss != call(jax.random.key(1))[0])


@pytest.mark.parametrize("kind", [Implicit, Sliced])
def test_one_level_for_all(kind):
    def levels(objective):
        return jax.jit(lambda: objective(MODEL.denoiser(PROCESSES["ddpm"]), examples(30)[0], KEY)[1]["t"])()

    assert set(np.asarray(levels(kind(level=7)))) == {7}
    assert len(set(np.asarray(levels(kind())))) > 5


def test_pictures_are_vectors():
    """The trace runs over rows, columns and channels, and so do the projections."""
    process, shape = DDPM(10), (6, 2, 3, 2)
    matrix = jax.random.normal(jax.random.key(1), (12, 12))

    def linear(x, noise_label, label=None, *, rngs=None):
        return (x.reshape(-1, 12) @ matrix.T).reshape(x.shape)

    x0, noise, t = jax.random.normal(KEY, shape), jax.random.normal(jax.random.key(2), shape), jnp.full(6, 5)
    x_t = process.perturb(x0, t, noise)
    value = jnp.sum(linear(x_t, 0) ** 2, axis=(1, 2, 3)) - 2 * process.sigma(5) * jnp.trace(matrix)
    objectives = (Implicit(reduction="sum"), Implicit(), Sliced(reduction="sum", num_projections=5000))
    losses = jax.jit(lambda: [each.at(Denoiser(linear, process), x0, t, noise, key=KEY)[0] for each in objectives])()
    np.testing.assert_allclose(losses[0], value, rtol=1e-4)
    np.testing.assert_allclose(losses[1], value / 12, rtol=1e-4)
    np.testing.assert_allclose(losses[2], value, atol=1.5)


def test_dropout_has_one_mask_in_value_and_derivative():
    process, (x0, noise), t = DDPM(10), examples(5), jnp.full(5, 5)

    def network(x, noise_label, label=None, *, rngs=None):
        kept = jax.random.bernoulli(rngs.dropout(), 0.5, (len(x), 8))
        return jnp.tanh(kept * (x @ parameters()["a"])) @ jnp.repeat(parameters()["b"], 2, axis=1)

    denoiser = Denoiser(network, process, dropout_key=jax.random.key(3))

    @jax.jit
    def both():
        def eps(x):
            return denoiser(x, t).eps

        x_t = process.perturb(x0, t, noise)
        trace = jnp.einsum("bibi->b", jax.jacrev(eps)(x_t))
        expected = jnp.sum(eps(x_t) ** 2, axis=1) - 2 * process.sigma(5) * trace
        return expected, Implicit(reduction="sum").at(denoiser, x0, t, noise, key=KEY)[0]

    expected, implicit = both()
    np.testing.assert_allclose(implicit, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["implicit", "sliced", "single_level"])
def test_from_a_config(name):
    config = resolve(read_config("ddpm_toy.py"), [("objective.name", name), ("objective.level", "3")])
    objective = build("objective", config["objective"])
    assert objective == {"implicit": Implicit, "sliced": Sliced, "single_level": SingleLevel}[name](level=3)


@pytest.mark.parametrize("name", ["implicit", "sliced", "single_level"])
def test_a_train_step_on_toy_data(name):
    fields = {"objective.name": name, "model.width": "16", "model.depth": "1", "perturbation.num_steps": "20"}
    config = resolve(read_config("ddpm_toy.py"), list(fields.items()))
    dataset = load_data(config)
    experiment = create(config, data_facts(dataset))
    transformation = experiment.optimizer.transformation(3)
    memory = objective_state(experiment.objective, experiment.model.perturbation)
    state = initial_state(experiment.params, transformation, memory)
    step = jax.jit(make_train_step(experiment.model, experiment.objective, transformation))
    for number in range(3):
        state, metrics = step(state, dataset.gather(np.arange(32 * number, 32 * number + 32)), KEY)
        assert np.isfinite(metrics["loss"])
        assert metrics["gradient_norm"] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Implicit(weighting="simpel"), "did you mean 'simple'"),
        (lambda: Sliced(projections="gausian"), "did you mean 'gaussian'"),
        (lambda: Sliced(num_projections=0), "num_projections = 0: take at least 1"),
        (lambda: Implicit(reduction="men"), "did you mean 'mean'"),
        (lambda: SingleLevel(norm="l3"), "did you mean 'l"),
        (lambda: SingleLevel(level=11)(MODEL.denoiser(DDPM(10)), jnp.zeros((2, 2)), KEY), "levels are 1 to 10"),
        (lambda: Sliced(level=0)(MODEL.denoiser(DDPM(10)), jnp.zeros((2, 2)), KEY), "levels are 1 to 10"),
        (
            lambda: Implicit(max_dimensions=1)(MODEL.denoiser(DDPM(10)), jnp.zeros((2, 2)), KEY),
            "more than max_dimensions = 1: use the objective 'sliced'",
        ),
    ],
)
def test_mistakes_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
