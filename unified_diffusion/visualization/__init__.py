"""Pictures of samples, and plots of numbers. A picture is an array `[H, W, 3]` of uint8."""

from unified_diffusion.visualization.grid import image_grid, save_gif, save_png
from unified_diffusion.visualization.neighbours import neighbours_picture
from unified_diffusion.visualization.plots import (
    Curve,
    plot_accuracy,
    plot_bound,
    plot_clouds,
    plot_fields,
    plot_levels,
    plot_panels,
    plot_points,
    plot_rate_distortion,
    plot_training,
)

__all__ = [
    "Curve",
    "image_grid",
    "neighbours_picture",
    "plot_accuracy",
    "plot_bound",
    "plot_clouds",
    "plot_fields",
    "plot_levels",
    "plot_panels",
    "plot_points",
    "plot_rate_distortion",
    "plot_training",
    "save_gif",
    "save_png",
]
