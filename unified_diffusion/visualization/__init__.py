"""Pictures of samples and of numbers."""

from unified_diffusion.visualization.grid import image_grid, save_png
from unified_diffusion.visualization.neighbours import neighbours_picture
from unified_diffusion.visualization.plots import (
    plot_accuracy,
    plot_bound,
    plot_levels,
    plot_points,
    plot_rate_distortion,
    plot_training,
)

__all__ = [
    "image_grid",
    "neighbours_picture",
    "plot_accuracy",
    "plot_bound",
    "plot_levels",
    "plot_points",
    "plot_rate_distortion",
    "plot_training",
    "save_png",
]
