"""The typed objects that a resolved config stands for: after this, nobody reads the config again."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from unified_diffusion.analytic import GaussianMixture
from unified_diffusion.codecs import Codec
from unified_diffusion.data import toy
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.errors import UserError
from unified_diffusion.guidance import ClassifierGuided, Guided, num_evaluations
from unified_diffusion.keys import named_key
from unified_diffusion.objectives import Objective
from unified_diffusion.perturbations import Perturbation
from unified_diffusion.reverse import check_variance
from unified_diffusion.runs.config import resolve
from unified_diffusion.runs.folder import read_json, training_folder
from unified_diffusion.runs.restore import newest
from unified_diffusion.runs.sections import build, chosen
from unified_diffusion.runs.settings import Evaluation, Inpainting, Interpolation, Sampling
from unified_diffusion.samplers import Sampler
from unified_diffusion.training import Model, Optimizer, Training, initialise, model_of
from unified_diffusion.training.step import memory_and_reference

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The objects of one run.

    Attributes:
        codec: the codec between the data and x_0.
        shape: the shape of one x_0, which for the built-in codecs is that of an example of the data.
        num_classes: the number of classes of the data, 0 for none.
        model: the network without its parameters, and how it is read.
        params: the initial parameters, or their shapes.
        objective, optimizer, training: the parts that train.
        sampler: the sampler, before it is fitted.
        under: the perturbation to sample under; None is the one that the network was trained with.
        sampling, evaluation, interpolation, inpainting: the settings of the commands.
        seed: the seed of the parameters and of the training.
        classifier: the classifier that guides the sampler, or None.
        classifier_step: the number of steps that the classifier was trained for, or None.
    """

    codec: Codec
    shape: tuple[int, ...]
    num_classes: int
    model: Model
    params: Any
    objective: Objective
    optimizer: Optimizer
    training: Training
    sampler: Sampler
    under: Perturbation | None
    sampling: Sampling
    evaluation: Evaluation
    interpolation: Interpolation
    inpainting: Inpainting
    seed: int
    classifier: Denoiser | None = None
    classifier_step: int | None = None

    @property
    def classifies(self):
        """Whether the network is a classifier, which draws no samples."""
        return self.objective.classifies

    @property
    def objective_state(self):
        """The memory of the objective before training, or None."""
        return self.objective.initial_state(self.model.perturbation)

    @property
    def sampled_under(self):
        """The perturbation whose noise levels the sampler runs on."""
        return self.model.perturbation if self.under is None else self.under

    def unguided(self, denoiser):
        """A denoiser of this experiment, read under the perturbation to sample under."""
        return denoiser if self.under is None else denoiser.under(self.under)

    def for_sampling(self, denoiser):
        """A denoiser of this experiment, read under the perturbation to sample under and guided as `sampling` says."""
        sampling, denoiser = self.sampling, self.unguided(denoiser)
        if sampling.guidance_scale != 1:
            denoiser = Guided(denoiser, sampling.guidance_scale, sampling.guidance_interval)
        if self.classifier is not None:
            conditional = self.model.conditional
            denoiser = ClassifierGuided(denoiser, self.classifier, sampling.classifier_scale, conditional=conditional)
        return denoiser

    def sampled_denoiser(self, state):
        """The denoiser that samples are drawn with: the averaged parameters of a state, or the last ones."""
        return self.model.denoiser(state.ema if self.sampling.ema else state.params)

    @property
    def num_evaluations(self):
        """Network evaluations per sample; an evaluation of a doubled batch counts twice."""
        return num_evaluations(self.sampler, self.for_sampling(self.model.denoiser(self.params)))

    def labels(self, number):
        """The classes of the first `number` samples, `[number]`; None for a run that cannot be asked for a class."""
        if not self.model.conditional and self.classifier is None:
            return None
        if self.sampling.label is not None:
            return np.full(number, self.sampling.label, np.int32)
        return np.arange(number, dtype=np.int32) % self.num_classes


def load_data(config, split="train"):
    """The dataset of a resolved config.

    Raises:
        UserError: as the source says.
    """
    return build("data", config["data"], split)


def exact_mixture(config):
    """The Gaussian mixture whose score the network learns; None for other data, and for a conditional network.

    The result is also None for a codec of one's own, since x_0 then has another density than the data.
    """
    data = config["data"]
    if config["codec"]["name"] not in ("auto", "points") or config["denoiser"]["conditional"]:
        return None
    if data["name"] != "toy" or data["density"] not in toy.MIXTURES:
        return None
    weights, means, std = toy.mixture(data["density"], data["noise"])
    return GaussianMixture(weights, means, np.full(len(weights), std))


def data_facts(dataset):
    """The facts of the training data that data.json keeps: shape, classes, number of examples and fingerprint."""
    return {
        "shape": list(dataset.shape),
        "num_classes": dataset.num_classes,
        "num_examples": len(dataset),
        "fingerprint": dataset.fingerprint,
    }


def make_codec(fields, shape):
    """The codec that a resolved section stands for, for examples of a shape.

    Raises:
        UserError: the object is no `Codec`, or a codec for other examples.
    """
    codec = build("codec", fields, *([shape] if fields["name"] == "auto" else []))
    if not isinstance(codec, Codec):
        raise UserError(
            f"config.codec.name = {fields['name']} is no codec: derive it from Images, Points or Codec of "
            "unified_diffusion.codecs"
        )
    codec.check_shape(shape)
    return codec


def create(config, facts, initialise=initialise):
    """The experiment of a resolved config.

    The schedule, the weighting, the loss and a sampling step are traced once, without computing them, so that mistakes
    show at the start.

    Args:
        config: the resolved config.
        facts: the facts of the data, as `data_facts` gives them.
        initialise: a function that makes the parameters; `outline` makes only their shapes, which is enough for a check
            and for sampling with restored parameters.

    Raises:
        UserError: settings that do not go together.
    """
    reading = build("denoiser", config["denoiser"])
    if reading.conditional and not facts["num_classes"]:
        raise UserError("config.denoiser.conditional = True, but the data have no labels: set it to false")
    training, sampling = build("training", config["training"]), build("sampling", config["sampling"])
    codec = make_codec(config["codec"], tuple(facts["shape"]))
    shape = codec.encoded_shape(tuple(facts["shape"]))
    objective = build("objective", config["objective"])
    _check_classifier(config, objective, reading, training)
    _check_guidance(sampling, reading, training, facts["num_classes"])
    if training.flip and not codec.are_images:
        raise UserError(f"config.training.flip is for images, and the codec {codec.name} has none: set it to false")
    if training.dequantize:
        codec.check_dequantizes(tuple(facts["shape"]))
    given = {"num_classes": facts["num_classes"] if reading.conditional else 0}
    if reading.variance == "learned":
        given["out_channels"] = 2 * shape[-1]
    model, params = initialise(
        lambda rngs: build("model", config["model"], shape, **given, rngs=rngs),
        named_key(config["seed"], "parameters"),
        build("perturbation", config["perturbation"]),
        reading.parameterization,
        conditional=reading.conditional,
    )
    experiment = Experiment(
        codec=codec,
        shape=shape,
        num_classes=facts["num_classes"],
        model=model,
        params=params,
        objective=objective,
        optimizer=build("optimizer", config["optimizer"]),
        training=training,
        sampler=build("sampler", config["sampler"]),
        under=build("under", config["under"]),
        sampling=sampling,
        evaluation=build("evaluation", config["evaluation"]),
        interpolation=build("interpolation", config["interpolation"]),
        inpainting=build("inpainting", config["inpainting"]),
        seed=config["seed"],
    )
    if sampling.classifier is not None and not experiment.classifies:
        classifier, step = load_classifier(sampling.classifier, facts, codec)
        experiment = dataclasses.replace(experiment, classifier=classifier, classifier_step=step)
    experiment.sampler.rows(experiment.sampled_under)
    objective.weight(model.perturbation, model.perturbation.times[:1])
    if objective.discretized and not codec.discretized:
        raise UserError(
            f"config.objective.discretized = True is for images of 256 grey levels, and the codec {codec.name} has no "
            "grey levels: set it to false"
        )
    warn_of_clipping(experiment.sampler, codec)
    check_variance(
        model.denoiser(params), experiment.evaluation.variance(model.variance), "config.evaluation.bound_variance"
    )
    _rehearse(experiment)
    return experiment


def restored(config, workdir):
    """(experiment, state) of the newest checkpoint of the run in `workdir`.

    Raises:
        UserError: there is no run, or no checkpoint yet.
    """
    experiment = create(config, read_json(workdir, "data.json"))
    state = newest(experiment, training_folder(workdir))
    if state is None:
        raise UserError(f"--workdir={workdir} has no checkpoint yet: train first with --mode=train, or with ud.train")
    return experiment, state


def load_classifier(folder, facts, codec):
    """(classifier, its step) of the run in a folder: a `Denoiser` that puts out logits, with the averaged parameters.

    Raises:
        UserError: no run of a classifier, or one of other data than those of `facts`, or with another codec.
    """
    said, folder = f"config.sampling.classifier={folder}", Path(folder)
    if not (folder / "config.json").exists():
        raise UserError(f"{said} holds no run: train one with --config=classifier_digits.py --workdir={folder}")
    config, its_facts = resolve(read_json(folder, "config.json")), read_json(folder, "data.json")
    if not build("objective", config["objective"]).classifies:
        raise UserError(f"{said} holds no classifier: train one with --config=classifier_digits.py")
    for name in ("shape", "num_classes"):
        if its_facts[name] != facts[name]:
            raise UserError(f"{said} was trained on data of {name} {its_facts[name]}, and these have {facts[name]}")
    experiment = create(config, its_facts)
    if experiment.codec != codec:
        raise UserError(f"{said} was trained with {experiment.codec}, and this run with {codec}")
    state = newest(experiment, training_folder(folder))
    if state is None:
        raise UserError(f"{said} has no checkpoint yet: train it first")
    return experiment.model.denoiser(state.ema), int(state.step)


def _check_classifier(config, objective, reading, training):
    """Raises UserError unless the network is a classifier where the objective trains one, and nowhere else."""
    names = [config[section]["name"] for section in ("model", "objective")]
    if getattr(chosen("model", config["model"]), "classifies", False) != objective.classifies:
        raise UserError(
            f"config.model.name = {names[0]} does not go with config.objective.name = {names[1]}: a classifier is "
            "trained by classification, and every other network by another objective"
        )
    if not objective.classifies:
        return
    if not reading.conditional:
        raise UserError("a classifier is trained on labels: set config.denoiser.conditional=true")
    if training.label_dropout:
        raise UserError("config.training.label_dropout would teach a classifier a class that is none: set it to 0")
    if reading.variance == "learned":
        raise UserError("config.denoiser.variance = learned is for denoisers: set it to fixed for a classifier")


def _check_guidance(sampling, reading, training, num_classes):
    """Raises UserError for labels that the network is not given, and guidance that it was not trained for."""
    if training.label_dropout and not reading.conditional:
        raise UserError("config.training.label_dropout is for labels: set config.denoiser.conditional=true, too")
    if sampling.guidance_scale != 1 and not reading.conditional:
        raise UserError(
            f"config.sampling.guidance_scale = {sampling.guidance_scale} needs a run that was trained with labels, "
            "config.denoiser.conditional=true"
        )
    if sampling.guidance_scale != 1 and not training.label_dropout:
        raise UserError(
            f"config.sampling.guidance_scale = {sampling.guidance_scale} needs a run that was trained without its "
            "labels, too, config.training.label_dropout=0.1"
        )
    if sampling.guidance_interval is not None and not reading.conditional:
        raise UserError(
            "config.sampling.guidance_interval is of classifier-free guidance, which needs a run that was trained with "
            "labels, config.denoiser.conditional=true"
        )
    if sampling.classifier_scale != 1 and sampling.classifier is None:
        raise UserError(
            f"config.sampling.classifier_scale = {sampling.classifier_scale}, but there is no classifier: set "
            "config.sampling.classifier to the folder of one"
        )
    if sampling.label is not None:
        if not reading.conditional and sampling.classifier is None:
            raise UserError(
                f"config.sampling.label = {sampling.label}, but nothing here knows of classes: take a run trained with "
                "config.denoiser.conditional=true, or a classifier in config.sampling.classifier"
            )
        if not 0 <= sampling.label < num_classes:
            raise UserError(f"config.sampling.label = {sampling.label}: the classes are 0 to {num_classes - 1}")


def warn_of_clipping(sampler, codec):
    """Logs a warning where the sampler clips x_0 to a range that the codec does not have."""
    if vars(sampler).get("clip_x0") and codec.clip_range != (-1.0, 1.0):
        lies = "has no range" if codec.clip_range is None else f"lies in {list(codec.clip_range)}"
        _log.warning(
            "config.sampler.clip_x0 = True clips x_0 to [-1, 1], but x_0 of the codec %s %s: set it to false",
            codec.name,
            lies,
        )


def outline(build, key, perturbation, prediction="eps", **reading):
    """(model, shapes): as `training.initialise`, with the parameters' shapes in place of the parameters."""
    del key
    network = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    graph, shapes = nnx.split(network)
    return model_of(graph, network, perturbation, prediction, **reading), shapes


def _rehearse(experiment, batch_size=2):
    """Traces one loss and one sampling step, without computing them.

    Raises:
        UserError: whatever the objective, the sampler or the network raises; or a loss that is not one per example.
    """
    model, sampler = experiment.model, experiment.sampler
    x = jax.ShapeDtypeStruct((batch_size, *experiment.shape), jnp.float32)
    labelled = model.conditional or experiment.classifier is not None
    label = jax.ShapeDtypeStruct((batch_size,), jnp.int32) if labelled else None
    row = jax.tree.map(lambda column: column[0], sampler.rows(experiment.sampled_under))

    def loss(params, key, x, label, state):
        own, denoiser = label if model.conditional else None, model.denoiser(params, key)
        given = memory_and_reference(experiment.objective, state, model, params)
        values, metrics = experiment.objective(denoiser, x, key, own, **given)
        return values, None if state is None else experiment.objective.update(state, metrics)

    def step(params, keys, x, label):
        denoiser = experiment.for_sampling(model.denoiser(params)).given(label)
        denoiser = denoiser.under(sampler.process(denoiser.perturbation))
        if sampler.needs_data:  # it cannot take a step before it is prepared
            return denoiser(x, row.t)
        return sampler.advance(denoiser, x, sampler.memory(x), row, keys)

    key = jax.eval_shape(lambda: jax.random.key(0))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch_size))
    shape = jax.eval_shape(loss, experiment.params, key, x, label, experiment.objective_state)[0].shape
    if shape != (batch_size,):
        raise UserError(f"config.objective gives a loss of shape {shape} for {batch_size} examples: give one each")
    if not experiment.classifies:
        jax.eval_shape(step, experiment.params, keys, x, label)
