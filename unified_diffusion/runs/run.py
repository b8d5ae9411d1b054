"""A finished run, or one still training, opened from Python."""

import dataclasses
from pathlib import Path

import numpy as np

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.errors import UserError
from unified_diffusion.runs import commands
from unified_diffusion.runs.build import Experiment, create, load_data, outline, restored, warn_of_clipping
from unified_diffusion.runs.folder import read_json, read_metrics, reopened, training_folder
from unified_diffusion.runs.sampling import draw, prepared
from unified_diffusion.samplers import Sampler
from unified_diffusion.training import TrainState


@dataclasses.dataclass(frozen=True)
class Run:
    """A run at its newest checkpoint that can be read, as `open_run` gives it.

    Attributes:
        folder: the run's folder.
        config: the complete config, {"seed": int, section: {field: value}}.
        experiment: the objects that the config stands for: model, objective, sampler, …
        state: the checkpoint.
    """

    folder: Path
    config: dict
    experiment: Experiment
    state: TrainState

    def __repr__(self):
        return f"Run({str(self.folder)!r}, step={self.step:,})"

    @property
    def step(self) -> int:
        """The number of steps that the checkpoint was trained for."""
        return int(self.state.step)

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser with the averaged parameters, read under the perturbation that it was trained with."""
        return self.experiment.model.denoiser(self.state.ema)

    @property
    def metrics(self) -> dict:
        """The training's log, {"step", "loss", …: float64 array}, one entry for each line of metrics.jsonl."""
        return read_metrics(training_folder(self.folder))

    def data(self, split="train"):
        """The run's dataset, "train" or "test", loaded when this is called.

        Raises:
            UserError: an unknown split, or data that are not there any more.
        """
        return load_data(self.config, split)

    def sample(self, number=None, *, sampler=None, label=None, seed=None, batch_size=None, **settings):
        """Samples of the run, the same as `--mode=sample` draws with these settings.

        Args:
            number: how many samples are drawn; None is the run's own `sampling.num_images`, and so for all others.
            sampler: a sampler, or the name of one, with the settings that the run's config has for this name.
            label: the class to draw, for a run that is conditional or guided.
            seed: the seed of the samples.
            batch_size: how many samples are drawn at once; the samples of a seed do not depend on it.
            settings: further fields of the section `sampling`, such as `guidance_scale=2.0` or `ema=False`.

        Returns:
            `[number, height, width, channels]` uint8 for images, `[number, dimensions]` float32 for points.

        Raises:
            UserError: an unknown sampler or field, settings that do not go together, or a run of a classifier.

        Example:
            run = ud.open_run("runs/ddpm_digits")
            images = run.sample(100, sampler=ud.samplers.DDIM(num_steps=20), seed=1)
        """
        if not (sampler is None or isinstance(sampler, (str, Sampler))):
            raise UserError(f"sampler = {sampler!r}: give a sampler, such as samplers.DDIM(), or the name of one")
        given = {"num_images": number, "label": label, "seed": seed, "batch_size": batch_size, **settings}
        overrides = [(f"sampling.{name}", value) for name, value in given.items() if value is not None]
        if isinstance(sampler, str):
            overrides.append(("sampler.name", sampler))
        experiment = create(reopened(self.folder, overrides), read_json(self.folder, "data.json"), outline)
        if isinstance(sampler, Sampler):
            experiment = dataclasses.replace(experiment, sampler=sampler)
            warn_of_clipping(sampler, experiment.codec)
        commands.refuse_classifier(experiment, self.folder)
        denoiser = experiment.sampled_denoiser(self.state)
        sampler = prepared(experiment, denoiser, self.data() if experiment.sampler.needs_data else None)
        return np.asarray(draw(experiment, denoiser, experiment.sampling.num_images, sampler)[0])


def open_run(folder) -> Run:
    """The run in a folder, at its newest checkpoint that can be read.

    Args:
        folder: the folder that `train`, or `python -m experiments.main`, has filled, or is still filling.

    Raises:
        UserError: the folder holds no run, or no checkpoint yet, or checkpoints that cannot be read.

    Example:
        run = ud.open_run("runs/ddpm_digits")
        prediction = run.denoiser(x_t, t)
    """
    folder = Path(folder)
    config = reopened(folder)
    return Run(folder, config, *restored(config, folder))


def train(config, workdir, overrides=()) -> Run:
    """Trains a run to its end, samples and evaluates it, as `python -m experiments.main` does; returns it opened.

    A run that is there already goes on where it stopped, and a finished one is sampled and evaluated where that is
    missing.

    Args:
        config: the name of a config file, such as "ddpm_digits.py", or its settings, a dict or a `ConfigDict`.
        workdir: the run's folder.
        overrides: {"training.steps": 1000, …}, or pairs of a field and its value, set above the config's own.

    Raises:
        UserError: a mistake in the config, or a folder that belongs to another config.
        KeyboardInterrupt: a signal has stopped the training; its last step was saved, and the same call goes on.

    Example:
        run = ud.train("ddpm_toy.py", "runs/toy", {"training.steps": 500})
    """
    pairs = list(overrides.items()) if isinstance(overrides, dict) else list(overrides)
    if commands.start(config, Path(workdir), pairs):
        raise KeyboardInterrupt(f"the training in {workdir} was stopped, and is saved")
    return open_run(workdir)
