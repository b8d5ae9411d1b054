"""Plots, each a picture `[H, W, 3]` uint8."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def plot_points(points, reference=None):
    """Samples `[N, 2]` in the plane, over the data `[M, 2]` they should resemble."""
    axes = _axes(5, 5)
    if reference is not None:
        axes.scatter(reference[:, 0], reference[:, 1], s=2, color="0.8", label="data", rasterized=True)
    axes.scatter(points[:, 0], points[:, 1], s=2, color="tab:blue", label="samples", rasterized=True)
    limit = 1.1 * max(1.0, np.abs(reference if reference is not None else points).max())
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.legend(loc="upper right", markerscale=4)
    return _picture(axes)


def plot_levels(log_snr, error, weight):
    """The error in eps, and the weighted loss, at each noise level; clean data to the right."""
    axes = _axes(6, 4)
    axes.plot(log_snr, error, marker=".", label="mean squared error in eps")
    if not np.allclose(weight, 1):
        axes.plot(log_snr, np.asarray(weight) * error, marker=".", label="weighted loss")
        axes.set_yscale("log")
    axes.set(xlabel="log SNR", ylabel="test loss", ylim=(None if axes.get_yscale() == "log" else 0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    return _picture(axes)


def plot_accuracy(log_snr, accuracy, chance):
    """How often a classifier is right at each noise level, over guessing; clean data to the right."""
    axes = _axes(6, 4)
    axes.plot(log_snr, accuracy, marker=".", label="classifier")
    axes.axhline(chance, color="0.6", linestyle="--", label="chance")
    axes.set(xlabel="log SNR", ylabel="accuracy on the test data", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    return _picture(axes)


def plot_bound(log_snr, per_level, unit):
    """What each step of the reverse chain costs, over the log-SNR that it starts from; the decoder is on the right.

    A decoder that is a density may have a cost below zero: it is left out then.
    """
    axes = _axes(6, 4)
    axes.plot(log_snr[1:], per_level[1:], marker=".", label="step of the chain")
    if per_level[0] > 0:
        axes.plot(log_snr[:1], per_level[:1], marker="o", linestyle="none", label="decoder")
    axes.set(xlabel="log SNR", ylabel=unit, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    return _picture(axes)


def plot_rate_distortion(rate, distortion, rate_unit, distortion_unit):
    """The error that is left when so much has been sent. Ho et al. 2020, figure 5."""
    axes = _axes(6, 4)
    axes.plot(rate, distortion, marker=".")
    axes.set(xlabel=f"rate ({rate_unit})", ylabel=f"distortion ({distortion_unit})")
    if np.min(distortion) > 0:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    return _picture(axes)


def plot_training(steps, losses):
    """The training loss over the steps."""
    axes = _axes(6, 4)
    axes.plot(steps, losses)
    axes.set(xlabel="step", ylabel="training loss", yscale="log" if min(losses) > 0 else "linear")
    axes.grid(alpha=0.3, which="both")
    return _picture(axes)


def _axes(width, height):
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    return figure.add_subplot()


def _picture(axes):
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
