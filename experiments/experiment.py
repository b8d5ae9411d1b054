"""A config's typed objects: after this, nobody reads the config."""

import dataclasses
from typing import Any

from flax import nnx

from experiments.config import build
from experiments.settings import Evaluation, Sampling
from unified_diffusion.errors import UserError
from unified_diffusion.keys import named_key
from unified_diffusion.objectives import Denoising
from unified_diffusion.samplers import Sampler
from unified_diffusion.training import Model, Optimizer, Training, initialise


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What one run trains, samples and measures. `params` are the initial parameters."""

    shape: tuple[int, ...]
    num_classes: int
    model: Model
    params: nnx.State
    objective: Any
    optimizer: Optimizer
    training: Training
    sampler: Sampler
    sampling: Sampling
    evaluation: Evaluation
    seed: int

    @property
    def weighting(self):
        """The objective's weighting, a function of (perturbation, t), or None if it has none."""
        return self.objective.weight if isinstance(self.objective, Denoising) else None


def load_data(config, split="train"):
    """The dataset of a resolved config.

    Raises:
        UserError: as the source says.
    """
    return build("data", config["data"], split)


def data_facts(dataset):
    """What a run has to know of its training data to be sampled, or gone on with."""
    return {
        "shape": list(dataset.shape),
        "num_classes": dataset.num_classes,
        "num_examples": len(dataset),
        "fingerprint": dataset.fingerprint,
    }


def create(config, facts):
    """The experiment of a resolved config, on data of these facts.

    What is lazy (the prediction, the schedule, the weighting) is asked for once here, so that mistakes show at start.

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
    num_classes = facts["num_classes"] if reading.conditional else 0
    model, params = initialise(
        lambda rngs: build("model", config["model"], shape, num_classes=num_classes, rngs=rngs),
        named_key(config["seed"], "parameters"),
        build("perturbation", config["perturbation"]),
        **dataclasses.asdict(reading),
    )
    model.denoiser(params)
    sampler = build("sampler", config["sampler"])
    sampler.schedule(model.perturbation)
    experiment = Experiment(
        shape=shape,
        num_classes=facts["num_classes"],
        model=model,
        params=params,
        objective=build("objective", config["objective"]),
        optimizer=build("optimizer", config["optimizer"]),
        training=training,
        sampler=sampler,
        sampling=build("sampling", config["sampling"]),
        evaluation=build("evaluation", config["evaluation"]),
        seed=config["seed"],
    )
    if experiment.weighting is not None:
        experiment.weighting(model.perturbation, 1)
    return experiment
