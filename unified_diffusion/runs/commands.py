"""The commands of a run: train, sample, evaluate, interpolate and inpaint, as `--mode` names them."""

import contextlib
import logging
from pathlib import Path

import jax

from unified_diffusion.errors import NotFinite, UserError
from unified_diffusion.runs.build import create, data_facts, exact_mixture, load_data, restored
from unified_diffusion.runs.classifier_evaluation import write_classifier_evaluation
from unified_diffusion.runs.config import differences, read_config, resolve
from unified_diffusion.runs.convert import plain
from unified_diffusion.runs.evaluation import write_evaluation
from unified_diffusion.runs.folder import (
    AFTER_TRAINING,
    claim,
    claim_data,
    locked,
    read_json,
    refuse,
    training_folder,
    write_training_plot,
)
from unified_diffusion.runs.inpainting import write_inpainting
from unified_diffusion.runs.interpolation import write_interpolation
from unified_diffusion.runs.restore import newest
from unified_diffusion.runs.sampling import draw, prepared, write_samples
from unified_diffusion.training import train as train_model
from unified_diffusion.visualization import save_png

_log = logging.getLogger(__name__)


def start(config, workdir, overrides=()):
    """Trains in a folder, which is held against other runs meanwhile: `train`, for a config that is not resolved yet.

    Args:
        config: a config file's name, or its settings.
        workdir: the run's folder.
        overrides: pairs of a dotted field and its value.

    Returns:
        the exit code, as `train`.

    Raises:
        UserError: a mistake in the config, or a folder that belongs to another config or that a run is in.
    """
    settings = read_config(config)
    name = str(config) if isinstance(config, (str, Path)) else None
    source = {"config": name, "settings": settings, "overrides": plain([list(pair) for pair in overrides])}
    resolved = resolve(settings, overrides)
    with locked(workdir):
        return train(resolved, source, workdir)


def train(config, source, workdir, trained_in=None, phase=contextlib.nullcontext):
    """Trains to the end, then samples and evaluates; goes on where an earlier run of the same config stopped.

    Args:
        config: the resolved config.
        source: the parts that the config was resolved from, as in `claim`.
        workdir: the run's folder.
        trained_in: the folder of a run that has trained the same network, whose last checkpoint is taken; None trains.
        phase: phase(name) is a context around each of "training", "sampling" and "evaluation".

    Returns:
        the exit code: 0, or 128 plus the signal that stopped the training.
    """
    dataset, test = load_data(config), load_data(config, "test")
    facts = data_facts(dataset)
    experiment = create(config, facts)
    claim(workdir, config, source)
    claim_data(workdir, facts)
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    size = sum(leaf.size for leaf in jax.tree.leaves(experiment.params))
    print(f"{size:,} parameters, {len(dataset):,} examples, {devices}", flush=True)
    if trained_in is None:
        with phase("training"):
            state, stopped = _train(experiment, workdir, dataset)
        if stopped:
            print(f"{stopped.name}: saved step {int(state.step):,} and stopped; the same command goes on from here")
            return 128 + stopped
        write_training_plot(workdir)
    else:
        state = _trained(experiment, config, facts, trained_in)
    if not experiment.classifies:
        with phase("sampling"):
            _sample(experiment, state, workdir, dataset)
    with phase("evaluation"):
        _evaluate(experiment, state, workdir, config, test, dataset)
    return 0


def sample(config, workdir):
    """Draws samples from a run's newest checkpoint."""
    experiment, state = restored(config, workdir)
    refuse_classifier(experiment, workdir)
    needed = experiment.codec.shows_data or experiment.sampler.needs_data
    _sample(experiment, state, workdir, load_data(config) if needed else None)
    return 0


def evaluate(config, workdir):
    """Evaluates a run's newest checkpoint on the test data, and its samples, drawn now if they are missing."""
    experiment, state = restored(config, workdir)
    dataset = load_data(config)
    if experiment.evaluation.of_samples and not experiment.classifies:
        _sample(experiment, state, workdir, dataset)
    _evaluate(experiment, state, workdir, config, load_data(config, "test"), dataset)
    return 0


def interpolate(config, workdir):
    """Draws the ways between pairs of test images, through the latents of a run's newest checkpoint."""
    experiment, state = restored(config, workdir)
    if experiment.classifies:
        raise UserError(f"--workdir={workdir} holds a classifier, which has no latents: take a run of a denoiser")
    denoiser, test = experiment.sampled_denoiser(state), load_data(config, "test")
    write_interpolation(experiment, denoiser, int(state.step), test, workdir)
    return 0


def inpaint(config, workdir):
    """Completes test images of which a part is known, with a run's newest checkpoint."""
    experiment, state = restored(config, workdir)
    refuse_classifier(experiment, workdir)
    train_data, test = load_data(config) if experiment.sampler.needs_data else None, load_data(config, "test")
    write_inpainting(experiment, experiment.sampled_denoiser(state), int(state.step), test, workdir, train_data)
    return 0


def refuse_classifier(experiment, workdir):
    """Raises UserError for a run of a classifier."""
    if experiment.classifies:
        raise UserError(
            f"--workdir={workdir} holds a classifier, which draws no samples: it guides those of another run, "
            f"--config.sampling.classifier={workdir}"
        )


def _train(experiment, workdir, dataset):
    """(state, signal), as the training loop returns them; grids of samples are drawn during the training."""

    def draw_samples(denoiser, step, progress):
        number = experiment.codec.num_pictured
        sampler = prepared(experiment, denoiser, dataset, number)
        try:
            samples, labels = draw(experiment, denoiser, number, sampler, progress)
        except NotFinite as error:  # the network may still learn better, and its training is not stopped by a picture
            _log.warning("no picture at step %s: %s", step, error)
            return None
        image = experiment.codec.picture(samples, labels, _reference(experiment, dataset))
        (workdir / "samples").mkdir(exist_ok=True)
        save_png(image, workdir / "samples" / f"step_{step:07d}.png")
        return image

    return train_model(
        experiment.model,
        experiment.params,
        experiment.objective,
        experiment.optimizer,
        dataset,
        experiment.training,
        workdir,
        experiment.seed,
        None if experiment.classifies else draw_samples,
        experiment.codec,
    )


def _trained(experiment, config, facts, folder):
    """The last state of another run's training, after a check that this config would train the same."""
    changed = differences(read_json(folder, "config.json"), config)
    refuse(folder, {name: pair for name, pair in changed.items() if name.split(".")[0] not in AFTER_TRAINING})
    if read_json(folder, "data.json") != facts:
        raise UserError(f"the training data are not those that {folder} was trained on")
    state = newest(experiment, training_folder(folder))
    if state is None:
        raise UserError(
            f"{folder} is trained, but its checkpoints are gone: delete {folder / 'run.json'} "
            "and the sweep trains it anew"
        )
    if int(state.step) != experiment.training.steps:
        raise UserError(f"{folder} has trained {int(state.step):,} of {experiment.training.steps:,} steps")
    return state


def _sample(experiment, state, workdir, dataset):
    denoiser = experiment.sampled_denoiser(state)
    write_samples(experiment, denoiser, int(state.step), workdir, dataset, _reference(experiment, dataset))


def _evaluate(experiment, state, workdir, config, test, dataset):
    denoiser = experiment.model.denoiser(state.ema if experiment.evaluation.ema else state.params)
    if experiment.classifies:
        write_classifier_evaluation(experiment, denoiser, int(state.step), test, workdir)
        return
    data = {"train": dataset, "data_name": config["data"]["name"]}
    write_evaluation(experiment, denoiser, int(state.step), test, workdir, exact_mixture(config), **data)


def _reference(experiment, dataset):
    """Examples of the data to show with the samples; None for a codec whose pictures show none."""
    return dataset.examples[:2000] if dataset is not None and experiment.codec.shows_data else None
