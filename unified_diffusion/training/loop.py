"""The training loop."""

import contextlib
import dataclasses
from pathlib import Path

import jax
import numpy as np

from unified_diffusion import data
from unified_diffusion.errors import UserError
from unified_diffusion.keys import named_key
from unified_diffusion.training.checkpoints import Checkpoints
from unified_diffusion.training.interrupt import Interrupt, Interrupted
from unified_diffusion.training.mesh import batch_sharding, check_batch_size, data_mesh, place_batch, replicated
from unified_diffusion.training.metrics import Metrics, NotFinite
from unified_diffusion.training.state import initial_state, objective_state
from unified_diffusion.training.step import make_train_step, scan_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How a run trains.

    Args:
        steps: optimizer steps in all.
        batch_size: examples a step, over all devices.
        ema_decay: the decay of the average of the parameters; 0 for no average.
        flip: whether half of the images are mirrored.
        dequantize: whether uniform noise of one grey level is added to the images.
        label_dropout: how often a label is left out, so that a conditional network also learns to do without labels,
            as classifier-free guidance requires. 0.1 to 0.2 are usual; 0 for never.
        log_every: steps between two lines of metrics.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: how many of the newest checkpoints stay.
        sample_every: steps between two grids of samples; 0 for none.
        steps_per_dispatch: optimizer steps that are sent to the device at once; 0 takes 1 on CPU, where more would be
            slow, and 10 elsewhere.
        num_workers: processes that decode data which do not fit in memory.

    Raises:
        UserError: a number out of range.
    """

    steps: int = 100_000
    batch_size: int = 128
    ema_decay: float = 0.9999
    flip: bool = False
    dequantize: bool = False
    label_dropout: float = 0.0
    log_every: int = 100
    checkpoint_every: int = 5000
    keep_checkpoints: int = 2
    sample_every: int = 0
    steps_per_dispatch: int = 0
    num_workers: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "log_every", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name} = {getattr(self, name)}: it must be at least 1")
        for name in ("sample_every", "steps_per_dispatch", "num_workers"):
            if getattr(self, name) < 0:
                raise UserError(f"training.{name} = {getattr(self, name)}: it must not be negative")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"training.ema_decay = {self.ema_decay}: it must be at least 0 and below 1")
        if not 0 <= self.label_dropout < 1:
            raise UserError(f"training.label_dropout = {self.label_dropout}: it must be at least 0 and below 1")


def train(model, params, objective, optimizer, dataset, settings, workdir, seed, draw_samples=None, codec=None):
    """Trains to `settings.steps`, starting from the newest checkpoint in `workdir` if there is one.

    The same seed, data, settings and number of devices give the same bits, interrupted or not.

    Args:
        model: the `Model`.
        params: the initial parameters of the network.
        objective: an `Objective`, or any callable (denoiser, x0, key, label) -> (loss per example, metrics).
        optimizer: an `Optimizer`.
        dataset: a `Dataset` or `StreamedDataset`.
        settings: a `Training`.
        workdir: where checkpoints, metrics.jsonl, TensorBoard events and pictures go.
        seed: the seed of the order of the data, the noise and dropout.
        draw_samples: a function (denoiser, step, progress) -> picture `[H, W, C]` uint8, or None for no picture, that
            is called every `settings.sample_every` steps. The function calls `progress` now and then, which raises
            `Interrupted` when the run is to stop.
        codec: the `Codec` of the data, as in `make_train_step`.

    Returns:
        (state, signal): the last state, and the signal that stopped the run or None.

    Raises:
        UserError: a batch size that the devices do not divide, or a checkpoint of another architecture.
        NotFinite: a loss or gradient was not finite; the message names the step, and the last good checkpoint stays.
    """
    mesh = data_mesh()
    check_batch_size(settings.batch_size, mesh)
    transformation = optimizer.transformation(settings.steps)
    train_step = make_train_step(
        model,
        objective,
        transformation,
        ema_decay=settings.ema_decay,
        dequantized=settings.dequantize,
        label_dropout=settings.label_dropout,
        codec=codec,
    )
    # The memory of an objective is computed from a batch, which is split over the devices. Without this, the memory
    # might stay split, too.
    options = {"donate_argnums": 0, "out_shardings": (replicated(mesh), None)}
    train_one = jax.jit(train_step, **options)
    train_many = jax.jit(scan_steps(train_step), **options)
    per_dispatch = settings.steps_per_dispatch or (1 if jax.default_backend() == "cpu" else 10)

    start = initial_state(params, transformation, objective_state(objective, model.perturbation))
    state = jax.device_put(start, replicated(mesh))
    key = jax.device_put(named_key(seed, "training"), replicated(mesh))
    batches = data.batches(
        dataset,
        settings.batch_size,
        seed=seed,
        flip=settings.flip,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=settings.num_workers,
    )
    checkpoints = Checkpoints(Path(workdir) / "checkpoints", settings.keep_checkpoints)
    state = checkpoints.restore(state, batches) or state
    step = int(state.step)
    metrics = Metrics(workdir, step, settings.steps, settings.log_every, settings.batch_size)

    try:
        with Interrupt() as interrupt:
            while step < settings.steps and not interrupt.requested:
                count = min(per_dispatch - step % per_dispatch, settings.steps - step)
                if count == 1:
                    batch = place_batch(next(batches), batch_sharding(mesh))
                    state, values = train_one(state, batch, key)
                else:
                    stack = jax.tree.map(lambda *arrays: np.stack(arrays), *[next(batches) for _ in range(count)])
                    state, values = train_many(state, place_batch(stack, batch_sharding(mesh, leading=1)), key)
                before, step = step, step + count
                metrics.push(step, values)
                if _passes(before, step, settings.checkpoint_every):
                    metrics.drain()
                    checkpoints.save(state, batches)
                if settings.sample_every and draw_samples and _passes(before, step, settings.sample_every):
                    metrics.drain()
                    with metrics.paused(), contextlib.suppress(Interrupted):
                        picture = draw_samples(model.denoiser(state.ema), step, interrupt.check)
                        if picture is not None:
                            metrics.picture("samples", picture, step)
            metrics.drain()
            checkpoints.save(state, batches)
            checkpoints.wait()
    except NotFinite as error:
        checkpoints.wait()
        raise NotFinite(
            f"{error}: stopped; {checkpoints.describe()}. Try a lower optimizer.learning_rate, in another folder"
        ) from None
    finally:
        metrics.close()
        checkpoints.close()
        if hasattr(batches, "close"):
            batches.close()
    return state, interrupt.requested


def _passes(before, after, every):
    """Whether a multiple of `every` lies in (before, after]."""
    return after // every > before // every
