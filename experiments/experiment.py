"""A config's typed objects: after this, nobody reads the config."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.config import build
from experiments.settings import Evaluation, Sampling
from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.data import toy
from unified_diffusion.errors import UserError
from unified_diffusion.keys import named_key
from unified_diffusion.perturbations import Perturbation
from unified_diffusion.reverse import check_variance
from unified_diffusion.samplers import Sampler
from unified_diffusion.training import Model, Optimizer, Training, initialise, objective_state


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What one run trains, samples and measures.

    `params` are the initial parameters; `under` is the perturbation to sample under, None for the one trained with.
    """

    shape: tuple[int, ...]
    num_classes: int
    model: Model
    params: nnx.State
    objective: Any
    optimizer: Optimizer
    training: Training
    sampler: Sampler
    under: Perturbation | None
    sampling: Sampling
    evaluation: Evaluation
    seed: int

    @property
    def objective_state(self):
        """What the objective remembers before training, or None."""
        return objective_state(self.objective, self.model.perturbation)

    @property
    def sampled_under(self):
        """The perturbation whose noise ladder the sampler runs on."""
        return self.model.perturbation if self.under is None else self.under

    @property
    def fitting_evaluations(self):
        """Network evaluations for each training example that the sampler is fitted on first; 0 if it is not."""
        return self.sampler.fitting_evaluations(self.sampled_under) if hasattr(self.sampler, "fitted") else 0

    def for_sampling(self, denoiser):
        """A denoiser of this experiment, read under that perturbation."""
        return denoiser if self.under is None else denoiser.under(self.under)

    @property
    def weighting(self):
        """The objective's weighting, a function of (perturbation, t), or None if it has none."""
        weight = getattr(self.objective, "weight", None)
        return weight if callable(weight) else None


def load_data(config, split="train"):
    """The dataset of a resolved config.

    Raises:
        UserError: as the source says.
    """
    return build("data", config["data"], split)


def exact_mixture(config):
    """The Gaussian mixture whose score the network learns; None for other data, and for a network given the labels."""
    data = config["data"]
    if config["denoiser"]["conditional"] or data["name"] != "toy" or data["density"] not in toy.MIXTURES:
        return None
    weights, means, std = toy.mixture(data["density"], data["noise"])
    return GaussianMixture(weights, means, np.full(len(weights), std))


def data_facts(dataset):
    """What a run has to know of its training data to be sampled, or gone on with."""
    return {
        "shape": list(dataset.shape),
        "num_classes": dataset.num_classes,
        "num_examples": len(dataset),
        "fingerprint": dataset.fingerprint,
    }


def create(config, facts, initialise=initialise):
    """The experiment of a resolved config, on data of these facts.

    `initialise` makes the parameters; `outline` in its place makes only their shapes, which is as good for a check.

    What is lazy (the schedule, the weighting, the loss, a sampling step) is asked for once here, without computing it,
    so that mistakes show at start.

    Raises:
        UserError: settings that do not go together.
    """
    reading = build("denoiser", config["denoiser"])
    if reading.conditional and not facts["num_classes"]:
        raise UserError("config.denoiser.conditional = True, but the data have no labels: set it to false")
    training = build("training", config["training"])
    shape = tuple(facts["shape"])
    if len(shape) != 3 and (training.flip or training.dequantize):
        raise UserError("config.training.flip and dequantize are for images, and these data are points: set them false")
    given = {"num_classes": facts["num_classes"] if reading.conditional else 0}
    if reading.variance == "learned":
        given["out_channels"] = 2 * shape[-1]
    model, params = initialise(
        lambda rngs: build("model", config["model"], shape, **given, rngs=rngs),
        named_key(config["seed"], "parameters"),
        build("perturbation", config["perturbation"]),
        **dataclasses.asdict(reading),
    )
    experiment = Experiment(
        shape=shape,
        num_classes=facts["num_classes"],
        model=model,
        params=params,
        objective=build("objective", config["objective"]),
        optimizer=build("optimizer", config["optimizer"]),
        training=training,
        sampler=build("sampler", config["sampler"]),
        under=build("under", config["under"]),
        sampling=build("sampling", config["sampling"]),
        evaluation=build("evaluation", config["evaluation"]),
        seed=config["seed"],
    )
    experiment.sampler.rows(experiment.sampled_under)
    if experiment.weighting is not None:
        experiment.weighting(model.perturbation, model.perturbation.times[:1])
    if len(shape) != 3 and getattr(experiment.objective, "discretized", False):
        raise UserError("config.objective.discretized = True is for images, and these data are points: set it to false")
    check_variance(
        model.denoiser(params), experiment.evaluation.variance(model.variance), "config.evaluation.bound_variance"
    )
    _rehearse(experiment)
    return experiment


def outline(build, key, perturbation, **reading):
    """As `initialise`, with shapes for parameters."""
    del key
    graph, shapes = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    return Model(graph, perturbation, **reading), shapes


def _rehearse(experiment, batch_size=2):
    """Traces one loss and one sampling step, without computing them.

    Raises:
        UserError: whatever the objective, the sampler or the network raises; or a loss that is not one per example.
    """
    model, sampler = experiment.model, experiment.sampler
    x = jax.ShapeDtypeStruct((batch_size, *experiment.shape), jnp.float32)
    label = jax.ShapeDtypeStruct((batch_size,), jnp.int32) if model.conditional else None
    row = [column[0] for column in sampler.rows(experiment.sampled_under)]

    def loss(params, key, x, label, state):
        remembers = {} if state is None else {"state": state}
        values, metrics = experiment.objective(model.denoiser(params, key), x, key, label, **remembers)
        return values, experiment.objective.update(state, metrics) if remembers else None

    def step(params, keys, x, label):
        denoiser = experiment.for_sampling(model.denoiser(params)).given(label)
        denoiser = denoiser.under(sampler.process(denoiser.perturbation))
        if experiment.fitting_evaluations:  # it cannot take a step before it is fitted
            return denoiser(x, row[1])
        state = (x, sampler.history(x)) if hasattr(sampler, "history") else x
        return sampler.step(denoiser, state, *row, keys)

    key = jax.eval_shape(lambda: jax.random.key(0))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch_size))
    shape = jax.eval_shape(loss, experiment.params, key, x, label, experiment.objective_state)[0].shape
    if shape != (batch_size,):
        raise UserError(f"config.objective gives a loss of shape {shape} for {batch_size} examples: give one each")
    jax.eval_shape(step, experiment.params, keys, x, label)
