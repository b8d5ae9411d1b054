"""The measures of a classifier's run: eval.json and its picture."""

import jax
import numpy as np

from unified_diffusion.evaluation import accuracy_per_level
from unified_diffusion.files import write_json
from unified_diffusion.runs.evaluation import measured_levels, rows_of, standard_error
from unified_diffusion.runs.folder import keep_previous
from unified_diffusion.visualization import plot_accuracy, save_png


def write_classifier_evaluation(experiment, classifier, step, dataset, workdir):
    """Writes eval.json and eval.png.

    eval.json holds "step", "ema", "num_parameters", "num_examples", "accuracy" (the mean over the measured levels),
    "test_loss" (the mean cross-entropy, in nats), the "_standard_error" of both over the examples (null for one), and
    "levels", a list of t, log_snr, sigma, accuracy and loss.

    Args:
        classifier: a `Denoiser` whose network puts out logits.
        dataset: the test data.
    """
    settings, process = experiment.evaluation, classifier.perturbation
    times = measured_levels(settings, process)
    options = {"batch_size": settings.batch_size, "num_examples": settings.num_examples, "seed": settings.seed}
    options["codec"] = experiment.codec
    right, loss = accuracy_per_level(classifier, dataset, times, **options)
    log_snr = np.asarray(process.log_snr(times), np.float64)
    columns = {"t": times, "log_snr": log_snr, "sigma": np.asarray(process.sigma(times), np.float64)}
    columns |= {"accuracy": right.mean(axis=0), "loss": loss.mean(axis=0)}
    result = {
        "step": step,
        "ema": settings.ema,
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(experiment.params)),
        "num_examples": len(right),
        "accuracy": float(right.mean()),
        "accuracy_standard_error": standard_error(right.mean(axis=1)),
        "test_loss": float(loss.mean()),
        "test_loss_standard_error": standard_error(loss.mean(axis=1)),
        "levels": rows_of(columns),
    }
    file, png = workdir / "eval.json", workdir / "eval.png"
    keep_previous(file, png)
    write_json(file, result)
    save_png(plot_accuracy(log_snr, columns["accuracy"], 1 / experiment.num_classes), png)
    summary = f"{100 * result['accuracy']:.1f} % right over {len(times)} noise levels"
    cleanest = f"{100 * columns['accuracy'][0]:.1f} % at t = {times[0]:.4g}"
    print(f"{summary}, {cleanest}; wrote {file} and {png.name}")
