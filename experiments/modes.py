"""What `--mode` does."""

import jax

from experiments.evaluation import write_evaluation
from experiments.experiment import create, data_facts, exact_mixture, load_data
from experiments.sampling import draw, picture, write_samples
from experiments.workdir import claim, claim_data, read_json, write_training_plot
from unified_diffusion.errors import UserError
from unified_diffusion.training import Checkpoints, initial_state
from unified_diffusion.training import train as train_model
from unified_diffusion.training.mesh import data_mesh, replicated
from unified_diffusion.visualization import save_png


def train(config, source, workdir):
    """Trains to the end, then samples and evaluates; goes on where an earlier run of the same config stopped."""
    dataset, test = load_data(config), load_data(config, "test")
    facts = data_facts(dataset)
    experiment = create(config, facts)
    claim(workdir, config, source)
    claim_data(workdir, facts)
    devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    size = sum(leaf.size for leaf in jax.tree.leaves(experiment.params))
    print(f"{size:,} parameters, {len(dataset):,} examples, {devices}", flush=True)

    def draw_samples(denoiser, step, progress):
        samples, _ = draw(experiment, denoiser, 64 if len(experiment.shape) == 3 else 1000, progress)
        image = picture(samples, _reference(dataset))
        (workdir / "samples").mkdir(exist_ok=True)
        save_png(image, workdir / "samples" / f"step_{step:07d}.png")
        return image

    state, stopped = train_model(
        experiment.model,
        experiment.params,
        experiment.objective,
        experiment.optimizer,
        dataset,
        experiment.training,
        workdir,
        experiment.seed,
        draw_samples,
    )
    if stopped:
        print(f"{stopped.name}: saved step {int(state.step):,} and stopped; the same command goes on from here")
        return 128 + stopped
    write_training_plot(workdir)
    _sample(experiment, state, workdir, dataset)
    _evaluate(experiment, state, workdir, config, test)
    return 0


def sample(config, workdir):
    """Draws samples from a run's newest checkpoint."""
    experiment, state = _restore(config, workdir)
    points = len(experiment.shape) == 1
    _sample(experiment, state, workdir, load_data(config) if points else None)
    return 0


def evaluate(config, workdir):
    """Evaluates a run's newest checkpoint on the test data."""
    experiment, state = _restore(config, workdir)
    _evaluate(experiment, state, workdir, config, load_data(config, "test"))
    return 0


def _sample(experiment, state, workdir, dataset):
    denoiser = experiment.model.denoiser(state.ema if experiment.sampling.ema else state.params)
    write_samples(experiment, denoiser, int(state.step), workdir, _reference(dataset))


def _evaluate(experiment, state, workdir, config, test):
    denoiser = experiment.model.denoiser(state.ema if experiment.evaluation.ema else state.params)
    write_evaluation(experiment, denoiser, int(state.step), test, workdir, exact_mixture(config))


def _reference(dataset):
    """Points of the data to draw below the samples; None for images."""
    return dataset.examples[:2000] if dataset is not None and len(dataset.shape) == 1 else None


def _restore(config, workdir):
    """(experiment, state) of a run's newest checkpoint."""
    experiment = create(config, read_json(workdir, "data.json"))
    transformation = experiment.optimizer.transformation(experiment.training.steps)
    state = initial_state(experiment.params, transformation, experiment.objective_state)
    state = jax.device_put(state, replicated(data_mesh()))
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    restored = checkpoints.restore(state)
    checkpoints.close()
    if restored is None:
        raise UserError(f"--workdir={workdir} has no checkpoint yet: train first with --mode=train")
    return experiment, restored
