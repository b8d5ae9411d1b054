"""Section 2: the identities between the two models' losses, each measured in loss and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from markupsafe import Markup

from experiments.connection.page import Section
from unified_diffusion import data
from unified_diffusion.codecs import Images
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.gaussian import kl_divergence
from unified_diffusion.models import MLP
from unified_diffusion.objectives import Denoising, weight
from unified_diffusion.perturbations import DDPM, NCSN, expand
from unified_diffusion.visualization import Curve, plot_panels

TITLE = "The identities, measured"
CHAIN = DDPM()
# The same log-SNR at every level: sigma / alpha.
MATCHED = NCSN(sigmas=CHAIN.exact(CHAIN.times).noise_to_signal)
LADDER = NCSN(232, sigma_min=0.02, sigma_max=100.0)
LENGTHS = (100, 200, 500, 1000, 2000, 5000, 10_000)
KINDS = ("x0", "v", "score", "mean")


def section(workdir, quick):
    """The `Section`. The network is a small one with random weights, on digits read as vectors."""
    del workdir
    setting = Setting(quick)
    rows = [*same_loss(setting), *same_bound(setting), *same_prediction(setting), *same_weighting(setting)]
    lengths = LENGTHS[:3] if quick else LENGTHS
    limits = {name: limit(setting, process, lengths) for name, process in LIMITS.items()}
    picture = plot_panels(
        {
            name: [
                Curve(lengths, [row[quantity] for row in found], f"in {quantity}", i, style)
                for i, (quantity, style) in enumerate((("loss", "-"), ("gradient", "--")))
            ]
            for name, found in limits.items()
        },
        "noise levels T",
        "relative error",
        xscale="log",
        yscale="log",
        size=(3.8, 3.0),
    )
    columns = [(name, quantity) for name in limits for quantity in ("loss", "gradient")]
    values = {
        "setting": setting,
        "rows": [[Markup(row["identity"]), row["on"], row["loss"], row["gradient"]] for row in rows],
        "picture": picture,
        "limit_header": ["T", *(f"{name}, in {quantity}" for name, quantity in columns)],
        "limit_rows": [
            [length, *(limits[name][i][quantity] for name, quantity in columns)] for i, length in enumerate(lengths)
        ],
    }
    return Section("identities", TITLE, values, {"identities": rows, "vlb_to_likelihood": limits})


class Setting:
    """A network, and the examples, noise and quantiles of levels that both sides of an identity are given."""

    def __init__(self, quick):
        digits = data.digits.load("train")
        self.count = 256 if quick else 1024
        self.x0 = Images().encode(digits.examples[: self.count]).reshape(self.count, -1)
        network = MLP(self.x0.shape[1:], width=32, depth=1, rngs=nnx.Rngs(0))
        kernel = network.dense_out.kernel  # zero at the start
        kernel[...] = jax.random.normal(jax.random.key(1), kernel.shape) / np.sqrt(kernel.shape[0])
        self.graph, self.params = nnx.split(network)
        self.size = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        self.noise = jax.random.normal(jax.random.key(2), self.x0.shape)
        self.quantile = np.random.default_rng(0).permutation((np.arange(self.count) + 0.5) / self.count)

    def levels(self, process, first=1):
        """Levels `[B]`, spread evenly from `first` to the last."""
        return jnp.asarray(first + (self.quantile * (process.num_steps + 1 - first)).astype(np.int32))

    def network(self, params):
        """The network with these parameters."""
        return nnx.merge(self.graph, params)

    def compare(self, identity, on, one, other):
        """A row: the relative difference of two functions of the parameters, and of their gradients."""

        @jax.jit
        def both(params):
            return [jax.value_and_grad(lambda p, f=f: jnp.mean(f(self.network(p))))(params) for f in (one, other)]

        return {"identity": identity, "on": on, **difference(*both(self.params))}


def difference(one, other):
    """{"loss", "gradient"}: relative differences of two (value, gradient), in float64."""
    first, second = (
        np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(gradient)])
        for _, gradient in (one, other)
    )
    return {
        "loss": abs(float(one[0]) - float(other[0])) / abs(float(other[0])),
        "gradient": float(np.linalg.norm(first - second) / np.linalg.norm(second)),
    }


def same_loss(setting):
    """L_simple is sigma²-weighted denoising score matching."""
    t = setting.levels(CHAIN)

    def simple(network):
        return Denoising(reduction="sum").at(Denoiser(network, CHAIN), setting.x0, t, setting.noise)[0]

    def score_matching(network):
        denoiser = Denoiser(network, CHAIN).under(MATCHED)
        sigma = MATCHED.sigma(t)[:, None]
        score = denoiser(setting.x0 + sigma * setting.noise, t).score
        return jnp.sum((sigma * (score + setting.noise / sigma)) ** 2, axis=1)

    def scaled(network):
        denoiser = Denoiser(network, MATCHED, scale_input=True)
        return Denoising(reduction="sum").at(denoiser, setting.x0, t, setting.noise)[0]

    name = "DDPM's <code>simple</code> = σ²-weighted denoising score matching"
    yield setting.compare(name, "matched NCSN, written out", score_matching, simple)
    yield setting.compare(name, "matched NCSN, input scaled", scaled, simple)


def same_bound(setting):
    """L_{t-1}, as a KL divergence of Gaussians, is denoising score matching weighted by `vlb`."""
    for on, process, variance in (
        ("DDPM, small variance", CHAIN, "small"),
        ("DDPM, large variance", CHAIN, "large"),
        ("NCSNv2, small variance", LADDER, "small"),
        ("NCSNv2, large variance", LADDER, "large"),
    ):
        t = setting.levels(process, first=2)
        x_t = process.perturb(setting.x0, t, setting.noise)

        def kl(network, process=process, variance=variance, t=t, x_t=x_t):
            x0_hat = Denoiser(network, process, scale_input=True)(x_t, t).x0
            mean, small = process.posterior(setting.x0, x_t, t - 1, t)
            reverse, _ = process.posterior(x0_hat, x_t, t - 1, t)
            logs = (expand(jnp.log(v), x_t) for v in (small, process.reverse_variance(t - 1, t, variance)))
            log_small, log_variance = logs
            # The divergence of the two variances, which no network changes.
            constant = kl_divergence(0.0, log_small, 0.0, log_variance)
            return jnp.sum(kl_divergence(mean, log_small, reverse, log_variance) - constant, axis=1)

        def weighted(network, process=process, variance=variance, t=t):
            objective = Denoising(weighting="vlb", weighting_options={"variance": variance}, reduction="sum")
            return objective.at(Denoiser(network, process, scale_input=True), setting.x0, t, setting.noise)[0]

        name = "KL(q(x<sub>t−1</sub>|x<sub>t</sub>, x<sub>0</sub>) ‖ p(x<sub>t−1</sub>|x<sub>t</sub>)) = "
        yield setting.compare(name + "<code>vlb</code>-weighted denoising", on, kl, weighted)


def same_prediction(setting):
    """A network that puts out x0, v, the score or the mean has the loss of one that puts out eps."""
    t = setting.levels(CHAIN)

    def loss(network, prediction="eps"):
        return Denoising().at(Denoiser(network, CHAIN, prediction), setting.x0, t, setting.noise)[0]

    for kind in KINDS:

        def converted(network, kind=kind):
            return loss(lambda x, noise_label, *_, **__: put_out(kind, network(x, noise_label), x, t), kind)

        yield setting.compare(f"a network that puts out {NAMES[kind]} = one that puts out ε", "DDPM", converted, loss)


def put_out(kind, eps, x, t):
    """The output by which a network of another kind means this eps."""
    alpha, sigma = (expand(level, x) for level in (CHAIN.alpha(t), CHAIN.sigma(t)))
    x0 = (x - sigma * eps) / alpha
    if kind == "mean":
        return CHAIN.posterior(x0, x, t - 1, t)[0]
    return {"x0": x0, "v": alpha * eps - sigma * x0, "score": -eps / sigma}[kind]


NAMES = {"x0": "x<sub>0</sub>", "v": "v", "score": "the score", "mean": "the posterior mean"}


def same_weighting(setting):
    """A squared error in another space is the error in eps times its weighting."""
    t = setting.levels(CHAIN)
    alpha, sigma = CHAIN.alpha(t)[:, None], CHAIN.sigma(t)[:, None]
    x_t = CHAIN.perturb(setting.x0, t, setting.noise)
    target = {"x0": setting.x0, "v": alpha * setting.noise - sigma * setting.x0, "dsm": -setting.noise / sigma}
    spaces = {"x0": "‖x̂<sub>0</sub> − x<sub>0</sub>‖²", "v": "‖v̂ − v‖²", "dsm": "‖score error‖²"}
    for weighting, space in spaces.items():

        def own(network, weighting=weighting):
            prediction = Denoiser(network, CHAIN)(x_t, t)
            v = alpha * prediction.eps - sigma * prediction.x0
            found = {"x0": prediction.x0, "v": v, "dsm": prediction.score}[weighting]
            return jnp.mean((found - target[weighting]) ** 2, axis=1)

        def weighted(network, weighting=weighting):
            return Denoising(weighting=weighting).at(Denoiser(network, CHAIN), setting.x0, t, setting.noise)[0]

        yield setting.compare(f"{space} = <code>{weighting}</code>-weighted denoising", "DDPM", own, weighted)


LIMITS = {
    "DDPM": lambda length: DDPM(length, beta_start=0.1 / length, beta_end=20 / length),
    "NCSN": lambda length: NCSN(length, sigma_min=0.02, sigma_max=100.0),
}


def limit(setting, make, lengths):
    """The relative errors of `vlb` against `likelihood`: {"T", "loss", "gradient"} for each number of levels."""
    rows = []
    for length in lengths:
        process = make(length)
        t = jnp.asarray(np.ceil((0.02 + 0.98 * setting.quantile) * length).astype(np.int32))

        @jax.jit
        def both(params, process=process, t=t, length=length):
            def error(params):
                network = setting.network(params)
                # The same place on the chain is the same label for the network, however many levels there are.
                denoiser = Denoiser(
                    lambda x, label, *_, **__: network(x, label * (1000 / length)), process, "eps", True
                )
                return Denoising().at(denoiser, setting.x0, t, setting.noise)[0]

            values, pull = jax.vjp(error, params)
            weights = [weight(name, process, t) for name in ("vlb", "likelihood")]
            return [(jnp.mean(w * values), pull(w / len(w))[0]) for w in weights]

        rows.append({"T": length, **difference(*both(setting.params))})
    return rows
