"""Densities in the plane, on about [-1, 1]², for which everything can be computed and drawn."""

import numpy as np

from unified_diffusion.data.dataset import Dataset
from unified_diffusion.data.hashing import seed_from
from unified_diffusion.data.splits import check_split
from unified_diffusion.errors import UserError
from unified_diffusion.registry import suggest


def load(
    split: str = "train",
    *,
    density: str = "gaussians8",
    num_samples: int = 10_000,
    seed: int = 0,
    noise: float | None = None,
) -> Dataset:
    """Draws points from a density in the plane: float32 [num_samples, 2].

    A label is the number of the component, moon or square that a point belongs to; "swissroll" has no labels.

        points = load("train", density="moons", num_samples=1000).examples

    Args:
        split: "train" or "test", which are independent draws; each is equal on every call.
        density: "gaussians8", "gaussians_unequal", "grid25", "moons", "swissroll" or "checkerboard".
        num_samples: the number of points in the split.
        seed: the seed of the draws.
        noise: the standard deviation in data units; None is the density's own. "checkerboard" has no noise.

    Raises:
        UserError: the density is unknown, there are no samples, or the noise is negative or given to "checkerboard".
    """
    check_split(split)
    if density not in MIXTURES and density not in SHAPES:
        raise UserError(f"unknown toy density {density!r}: {suggest(density, [*MIXTURES, *SHAPES])}")
    if num_samples < 1:
        raise UserError(f"toy num_samples is at least 1, not {num_samples}")
    if noise is not None and (noise < 0 or density == "checkerboard"):
        raise UserError(f"toy density {density!r} takes no noise of {noise}; leave it at None")
    generator = np.random.Generator(np.random.Philox(seed_from("toy", density, split, seed)))
    if density in MIXTURES:
        weights, means, std = mixture(density, noise)
        labels = generator.choice(len(weights), num_samples, p=weights)
        points = means[labels] + std * generator.standard_normal((num_samples, 2))
    else:
        points, labels = SHAPES[density](generator, num_samples, noise)
    return Dataset(points.astype(np.float32), None if labels is None else labels.astype(np.int32))


def mixture(density, noise=None):
    """Returns the exact parameters (weights [K], means [K, 2], std) of a Gaussian mixture, for closed-form checks."""
    weights, means, std = MIXTURES[density]()
    return weights, means, std if noise is None else noise


def gaussians8():
    """Returns the mixture of eight equal components on a ring of radius 0.8."""
    angle = np.arange(8) * (np.pi / 4)
    return np.full(8, 1 / 8), 0.8 * np.stack([np.cos(angle), np.sin(angle)], 1), 0.05


def gaussians_unequal():
    """Returns the mixture of two distant components with weights 0.8 and 0.2.

    Langevin dynamics without annealing draws the two in a wrong ratio. Song & Ermon 2019, figure 3, have the weights
    4/5 and 1/5 at (5, 5) and (-5, -5) with unit variance; these lengths are divided by 10 here.
    """
    return np.array([0.8, 0.2]), np.array([[0.5, 0.5], [-0.5, -0.5]]), 0.1


def grid25():
    """Returns the mixture of 25 equal components on a 5 x 5 grid with a spacing of 0.4."""
    axis = np.linspace(-0.8, 0.8, 5)
    return np.full(25, 1 / 25), np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(25, 2), 0.03


def moons(generator, count, noise):
    """Draws points from two interleaved half circles; the label is the number of the half circle."""
    labels = generator.integers(0, 2, count)
    angle = np.pi * generator.random(count)
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], 1)
    points = 0.6 * np.where(labels[:, None] == 0, upper, -upper)
    return points + (0.03 if noise is None else noise) * generator.standard_normal((count, 2)), labels


def swissroll(generator, count, noise):
    """Draws points from a spiral of one and a half turns, which has no labels."""
    angle = 1.5 * np.pi * (1 + 2 * generator.random(count))
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * angle[:, None] / (4.5 * np.pi)
    return points + (0.02 if noise is None else noise) * generator.standard_normal((count, 2)), None


def checkerboard(generator, count, noise):
    """Draws points uniformly from the eight dark squares of a 4 x 4 board on [-1, 1]²; labels count these by column."""
    labels = generator.integers(0, 8, count)
    column, place = np.divmod(labels, 2)
    corner = np.stack([column, 2 * place + column % 2], 1)
    return (corner + generator.random((count, 2))) / 2 - 1, labels


MIXTURES = {"gaussians8": gaussians8, "gaussians_unequal": gaussians_unequal, "grid25": grid25}
SHAPES = {"moons": moons, "swissroll": swissroll, "checkerboard": checkerboard}
