"""Measures of a run: eval.json and its plot."""

import jax.numpy as jnp
import numpy as np

from experiments.workdir import keep_previous, write_json
from unified_diffusion.evaluation import loss_per_level
from unified_diffusion.visualization import plot_levels, save_png


def write_evaluation(experiment, denoiser, step, dataset, workdir):
    """Writes eval.json and eval.png: the test error at each noise level, and the objective's weight of it.

    eval.json holds "step", "num_examples", "test_loss" (the mean over the levels measured of weight times error, each
    the mean over an example's dimensions), and "levels", a list of t, log_snr, sigma, weight, error and loss.
    """
    settings, process = experiment.evaluation, denoiser.perturbation
    number = min(settings.num_levels or process.num_steps, process.num_steps)
    times = np.unique(np.rint(np.linspace(1, process.num_steps, number)).astype(np.int32))
    errors = loss_per_level(
        denoiser,
        dataset,
        times,
        batch_size=settings.batch_size,
        num_examples=settings.num_examples,
        seed=settings.seed,
        conditional=experiment.model.conditional,
    )
    weights = np.ones(len(times))
    if experiment.weighting is not None:
        weights = np.asarray(experiment.weighting(process, jnp.asarray(times)), np.float64)
    log_snr = np.asarray(process.log_snr(times), np.float64)
    sigma = np.asarray(process.sigma(times), np.float64)
    columns = {"t": times, "log_snr": log_snr, "sigma": sigma, "weight": weights, "error": errors}
    columns["loss"] = weights * errors
    result = {
        "step": step,
        "ema": settings.ema,
        "num_examples": min(settings.num_examples or len(dataset), len(dataset)),
        "test_loss": float(np.mean(columns["loss"])),
        "test_error": float(np.mean(errors)),
        "levels": [
            dict(zip(columns, (value.item() for value in row), strict=True))
            for row in zip(*columns.values(), strict=True)
        ],
    }
    table, png = workdir / "eval.json", workdir / "eval.png"
    keep_previous(table, png)
    write_json(table, result)
    save_png(plot_levels(log_snr, errors, weights), png)
    print(f"test loss {result['test_loss']:.4f} over {len(times)} noise levels; wrote {table} and {png}")
