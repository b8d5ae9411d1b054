"""Plots of numbers and of points. Each function returns a picture, uint8 `[H, W, 3]`.

`plot_panels`, `plot_fields` and `plot_clouds` have several panels for comparison. They are drawn for web pages, at two
pixels for each pixel of the page.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
COLORS = (*COLORS, "#111111", "#005f73", "#b56576", "#6a994e")
# The dots per inch of plots with one panel, and of plots with several panels.
SINGLE, PANELS = 120, 192


def plot_points(points, reference=None):
    """Plots samples `[N, 2]` in the plane over `reference`, the data `[M, 2]` that they should resemble."""
    axes = _axes(5, 5)
    if reference is not None:
        axes.scatter(reference[:, 0], reference[:, 1], s=2, color="0.8", label="data", rasterized=True)
    axes.scatter(points[:, 0], points[:, 1], s=2, color="tab:blue", label="samples", rasterized=True)
    limit = 1.1 * max(1.0, np.abs(reference if reference is not None else points).max())
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.legend(loc="upper right", markerscale=4)
    return _picture(axes.figure)


def plot_levels(log_snr, error, weight):
    """Plots the error in eps and the weighted loss `[levels]` over the log-SNR, where clean data are on the right."""
    axes = _axes(6, 4)
    axes.plot(log_snr, error, marker=".", label="mean squared error in eps")
    if not np.allclose(weight, 1):
        axes.plot(log_snr, np.asarray(weight) * error, marker=".", label="weighted loss")
        axes.set_yscale("log")
    axes.set(xlabel="log SNR", ylabel="test loss", ylim=(None if axes.get_yscale() == "log" else 0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    return _picture(axes.figure)


def plot_accuracy(log_snr, accuracy, chance):
    """Plots a classifier's accuracy `[levels]` over the log-SNR beside that of chance; clean data are on the right."""
    axes = _axes(6, 4)
    axes.plot(log_snr, accuracy, marker=".", label="classifier")
    axes.axhline(chance, color="0.6", linestyle="--", label="chance")
    axes.set(xlabel="log SNR", ylabel="accuracy on the test data", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    return _picture(axes.figure)


def plot_bound(log_snr, per_level, unit):
    """Plots the cost of each step of the reverse chain over the log-SNR at which the step starts.

    The decoder's cost, `per_level[0]`, is the point on the right. The cost of a decoder that is a density may be below
    zero; it is then left out, because the axis is logarithmic.
    """
    axes = _axes(6, 4)
    axes.plot(log_snr[1:], per_level[1:], marker=".", label="step of the chain")
    if per_level[0] > 0:
        axes.plot(log_snr[:1], per_level[:1], marker="o", linestyle="none", label="decoder")
    axes.set(xlabel="log SNR", ylabel=unit, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    return _picture(axes.figure)


def plot_rate_distortion(rate, distortion, rate_unit, distortion_unit):
    """Plots the distortion, the error that remains, over the rate, the bits sent so far. Ho et al. 2020, figure 5."""
    axes = _axes(6, 4)
    axes.plot(rate, distortion, marker=".")
    axes.set(xlabel=f"rate ({rate_unit})", ylabel=f"distortion ({distortion_unit})")
    if np.min(distortion) > 0:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    return _picture(axes.figure)


def plot_training(steps, losses):
    """Plots the training loss over the steps, both `[N]`."""
    axes = _axes(6, 4)
    axes.plot(steps, losses)
    axes.set(xlabel="step", ylabel="training loss", yscale="log" if min(losses) > 0 else "linear")
    axes.grid(alpha=0.3, which="both")
    return _picture(axes.figure)


@dataclasses.dataclass(frozen=True)
class Curve:
    """A curve through the points (x, y) in a plot.

    Attributes:
        x, y: the coordinates of the points, `[N]` each.
        label: the curve's name in the legend; a curve with an empty label is not in the legend.
        color: an index into `COLORS`, or the name of a colour in matplotlib.
        style: the style of the line in matplotlib, "-", "--" or ":", or "." for points without a line.
    """

    x: Sequence | np.ndarray
    y: Sequence | np.ndarray
    label: str = ""
    color: int | str = 0
    style: str = "-"


def plot_panels(
    panels: Mapping[str, Sequence[Curve]],
    xlabel: str,
    ylabel: str,
    *,
    columns=None,
    size=(4.2, 3.4),
    xscale="linear",
    yscale="linear",
    ylim=None,
    legend="each",
):
    """Plots curves in several panels that have common axes.

        plot_panels({"DDPM": [Curve(t, alpha, "alpha"), Curve(t, sigma, "sigma", color=1)]}, "t", "scale")

    Args:
        panels: a dict from the title of each panel to its curves.
        xlabel, ylabel: the labels of the common axes.
        columns: the number of panels in a row; None puts all panels into one row.
        size: the width and the height of a panel in inches.
        xscale, yscale: the scales of the axes, named as in matplotlib: "linear" or "log".
        ylim: the common limits of the y axis, or None to fit them to the curves.
        legend: "each" gives every panel its own legend, "right" draws the first panel's legend beside all panels, and
            "none" draws no legend.
    """
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    figure = _figure(columns * size[0] + (1.6 if legend == "right" else 0), rows * size[1])
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
        for curve in curves:
            color = COLORS[curve.color % len(COLORS)] if isinstance(curve.color, int) else curve.color
            marks = {"ls": "none", "marker": ".", "ms": 4} if curve.style == "." else {"ls": curve.style, "lw": 1.5}
            axes.plot(curve.x, curve.y, color=color, label=curve.label or None, **marks)
        axes.set(xscale=xscale, yscale=yscale, **({} if ylim is None else {"ylim": ylim}))
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
        if legend == "each" and any(curve.label for curve in curves):
            axes.legend(fontsize=8)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    if legend == "right":
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=9, frameon=False)
    return _picture(figure)


def plot_fields(columns, densities, limit=1.1, side=15):
    """Plots vector fields in the plane, over densities.

    Args:
        columns: a list of columns of panels. A column is a dict from the title of each panel to a function of points
            `[N, 2]` that returns arrows `[N, 2]`. All dicts have the same length, and the arrows of a column have one
            scale.
        densities: one function for each column, of points `[N, 2]`, that returns log densities `[N]`.
        limit: the half of the panels' side: they show the square [-limit, limit]².
        side: the number of arrows along a side.
    """
    rows = len(columns[0])
    figure = _figure(3.05 * len(columns), 3.2 * rows)
    grid = figure.subplots(rows, len(columns), squeeze=False)
    line, fine = np.linspace(-limit, limit, side), np.linspace(-limit, limit, 81)
    at, everywhere = (np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32) for axis in (line, fine))
    for column, log_density, axes_column in zip(columns, densities, grid.T, strict=True):
        shade = np.exp(np.asarray(log_density(everywhere)).reshape(81, 81))
        arrows = {title: np.asarray(field(at)) for title, field in column.items()}
        longest = max(np.linalg.norm(arrow, axis=1).max() for arrow in arrows.values())
        for axes, (title, arrow) in zip(axes_column, arrows.items(), strict=True):
            axes.contourf(fine, fine, shade, levels=12, cmap="Greys", alpha=0.55)
            # The square root of each length is drawn, so that short arrows can be seen beside long ones.
            length = np.linalg.norm(arrow, axis=1, keepdims=True)
            drawn = arrow / np.sqrt(np.maximum(length * longest, 1e-30))
            axes.quiver(*at.T, *drawn.T, color="#1f5fa8", angles="xy", scale=1.1 * side, width=0.005)
            axes.set_title(title, fontsize=9)
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    return _picture(figure)


def plot_clouds(clouds, limit=1.1, columns=None):
    """Plots points in the plane, in one panel for each cloud of points.

    Args:
        clouds: a dict from the title of each panel to its points `[N, 2]`.
        limit: the half of the panels' side: they show the square [-limit, limit]².
        columns: the number of panels in a row; None puts all panels into one row.
    """
    columns = columns or len(clouds)
    rows = -(-len(clouds) // columns)
    figure = _figure(2.6 * columns, 2.8 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (title, points) in zip(grid.flat, clouds.items(), strict=False):
        axes.scatter(*np.asarray(points).T, s=1.5, lw=0, color="#1f5fa8", alpha=0.6, rasterized=True)
        axes.set_title(title, fontsize=9)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    for axes in grid.flat[len(clouds) :]:
        axes.set_axis_off()
    return _picture(figure)


def _axes(width, height):
    return Figure(figsize=(width, height), dpi=SINGLE, layout="constrained").add_subplot()


def _figure(width, height):
    return Figure(figsize=(width, height), dpi=PANELS, layout="constrained")


def _picture(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
