"""Measures of a run: eval.json and its pictures."""

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.evaluation import dataset_bound, error_per_level, fisher_divergence
from unified_diffusion.files import write_json
from unified_diffusion.runs.flow_evaluation import measure_likelihood
from unified_diffusion.runs.folder import keep_previous
from unified_diffusion.runs.sample_evaluation import measure_samples, table
from unified_diffusion.visualization import plot_bound, plot_levels, plot_rate_distortion, save_png


def write_evaluation(experiment, denoiser, step, dataset, workdir, mixture=None, train=None, data_name="data"):
    """Writes eval.json, eval.png, and, where they are measured, bound.png, rate_distortion.png and neighbours.png.

    eval.json holds

    - "step", "ema", "num_parameters", "num_examples";
    - "test_loss": the mean over the measured levels of weight times error, each the mean over an example's dimensions;
      "test_error": the same without the weight; and the "_standard_error" of both over the examples, null for one;
    - "levels": a list of t, log_snr, sigma, weight, effective_weight (or null), error and loss. For data from a known
      `mixture` each level has "fisher" and "fisher_scaled", too: the Fisher divergence from the exact score, and sigma²
      times that;
    - "bound", as `measure_bound` gives it, "likelihood", as `measure_likelihood` gives it, and the measures of
      samples.npz, as `measure_samples` gives them.

    Args:
        experiment: the run's objects.
        denoiser: the denoiser that is measured.
        step: the number of steps that it was trained for.
        dataset: the test data.
        workdir: the run's folder.
        mixture: the data's `analytic.GaussianMixture`, or None.
        train: the training data; None measures no samples.
        data_name: the name of both data sets.
    """
    settings, process = experiment.evaluation, denoiser.perturbation
    times = measured_levels(settings, process)
    of_examples = error_per_level(
        denoiser,
        dataset,
        times,
        batch_size=settings.batch_size,
        num_examples=settings.num_examples,
        seed=settings.seed,
        conditional=experiment.model.conditional,
        codec=experiment.codec,
    )
    errors = of_examples.mean(axis=0)
    weights = experiment.objective.weight(process, jnp.asarray(times))
    weights = np.ones(len(times)) if weights is None else np.asarray(weights, np.float64)
    log_snr = np.asarray(process.log_snr(times), np.float64)
    sigma = np.asarray(process.sigma(times), np.float64)
    columns = {"t": times, "log_snr": log_snr, "sigma": sigma, "weight": weights}
    columns |= {"effective_weight": _effective_weights(experiment, process, times), "error": errors}
    columns["loss"] = weights * errors
    if mixture is not None:
        columns["fisher"], columns["fisher_scaled"], _ = fisher_divergence(denoiser, mixture, times, seed=settings.seed)
    result = {
        "step": step,
        "ema": settings.ema,
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(experiment.params)),
        "num_examples": len(of_examples),
        "test_loss": float(np.mean(columns["loss"])),
        "test_loss_standard_error": standard_error((weights * of_examples).mean(axis=1)),
        "test_error": float(np.mean(errors)),
        "test_error_standard_error": standard_error(of_examples.mean(axis=1)),
        "levels": rows_of(columns),
    }
    pictures = {"eval.png": plot_levels(log_snr, errors, weights)}
    summary = f"test loss {result['test_loss']:.4f} over {len(times)} noise levels"
    if settings.bound:
        bound, more = measure_bound(experiment, denoiser, dataset)
        result["bound"] = bound
        pictures |= more
        summary += f", {bound['total']:.3f} {bound['unit']}"
    if settings.flow_examples:
        result["likelihood"] = measure_likelihood(experiment, denoiser, dataset)
        summary += f", {result['likelihood']['total']:.3f} {result['likelihood']['unit']} by the probability flow"
    if train is not None and settings.of_samples:
        report, more = measure_samples(settings, train, dataset, workdir, data_name, experiment.codec)
        result |= report
        pictures |= more
        print(table(report))
    file = workdir / "eval.json"
    keep_previous(file, *(workdir / name for name in pictures))
    write_json(file, result)
    for name, picture in pictures.items():
        save_png(picture, workdir / name)
    print(f"{summary}; wrote {file} and {', '.join(pictures)}")


def measure_bound(experiment, denoiser, dataset):
    """The variational bound on the test data: (its part of eval.json, its pictures by name).

    The bound of images is in bits per dimension, with x0_hat clipped to [-1, 1] as DDPM's figures have it; the bound of
    points is in nats per example, of a density. "total" = "prior" + "diffusion" + "reconstruction", with its
    "standard_error". "diffusion_per_level" lists for each step of the chain the level t that it starts from, the
    log-SNR there, its cost (at the lowest t the reconstruction), and the point of the rate-distortion curve: the rate
    that has been spent once x_t is known, and the root mean squared error of x0_hat(x_t), on [0, 255] for images.
    """
    settings, process, codec = experiment.evaluation, denoiser.perturbation, experiment.codec
    how = {
        "num_steps": min(settings.bound_steps or process.num_steps, process.num_steps),
        "variance": settings.variance(denoiser.variance),
        "clip_x0": codec.clip_range == (-1.0, 1.0),
    }
    bound = dataset_bound(
        denoiser,
        dataset,
        **how,
        discretized=codec.discretized,
        num_examples=settings.bound_examples or settings.num_examples,
        batch_size=settings.batch_size,
        seed=settings.seed,
        conditional=experiment.model.conditional,
        codec=codec,
    )
    # The nats of one bit per dimension, in the codec's unit.
    unit, scale = codec.unit, codec.in_unit(np.log(2) * np.prod(experiment.shape), experiment.shape)
    levels = {
        "t": bound.t,
        "log_snr": np.asarray(process.log_snr(bound.t), np.float64),
        "cost": scale * bound.per_level,
        "rate": scale * bound.rate,
        "distortion": codec.data_scale * bound.distortion,
    }
    parts = ("total", "prior", "diffusion", "reconstruction", "standard_error")
    report = {
        "unit": unit,
        **{part: float(scale * getattr(bound, part)) for part in parts},
        "bits_per_dim": float(bound.total),
        "num_examples": bound.num_examples,
        **how,
        "diffusion_per_level": rows_of(levels),
    }
    rate, distortion = levels["rate"], levels["distortion"]
    if codec.discretized:  # when all of the bound has been sent, no error is left; a point is never known exactly
        rate, distortion = np.append(report["total"], rate), np.append(0, distortion)
    return report, {
        "bound.png": plot_bound(levels["log_snr"], levels["cost"], f"{unit} a step"),
        "rate_distortion.png": plot_rate_distortion(rate, distortion, unit, codec.error_unit),
    }


def measured_levels(settings, process):
    """The levels t at which a run is measured, rising."""
    number = min(settings.num_levels or process.num_steps, process.num_steps)
    numbers = np.unique(np.rint(np.linspace(1, process.num_steps, number)).astype(np.int32))
    return process.times[numbers - 1]


def _effective_weights(experiment, process, times):
    """The weight of the error over log-SNR at each of the times; Nones for an objective that does not know it."""
    try:
        found = experiment.objective.effective_weight(process, experiment.objective_state)
    except UserError:
        found = None
    if found is None:
        return [None] * len(times)
    return np.asarray(found[1], np.float64)[process.level_number(times) - 1]


def standard_error(values):
    """The standard error of the mean of independent values; None for one value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def rows_of(columns):
    """A list of dicts from a dict of arrays, or lists."""
    columns = {name: np.asarray(values).tolist() for name, values in columns.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
