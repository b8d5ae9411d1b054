"""Densities in the plane, within about [-1, 1]: small enough to see everything."""

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
    """Draws points: float32 [num_samples, 2]; labels are the component, moon or square, where there is one.

    Args:
        split: "train" and "test" are independent draws, the same on every call.
        density: "gaussians8", "gaussians_unequal", "grid25", "moons", "swissroll" or "checkerboard".
        num_samples: of each split.
        seed: another seed, other draws.
        noise: standard deviation in data units; None is the density's own. "checkerboard" takes none.

    Raises:
        UserError: unknown density, no samples asked for, or a noise that is negative or not taken.
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
    """(weights [K], means [K, 2], std) of a Gaussian-mixture density: its exact parameters, for closed-form checks."""
    weights, means, std = MIXTURES[density]()
    return weights, means, std if noise is None else noise


def gaussians8():
    """Eight equal components on a ring of radius 0.8."""
    angle = np.arange(8) * (np.pi / 4)
    return np.full(8, 1 / 8), 0.8 * np.stack([np.cos(angle), np.sin(angle)], 1), 0.05


def gaussians_unequal():
    """Two far components weighing 0.8 and 0.2: Langevin dynamics without annealing misses the ratio.

    Song & Ermon 2019, figure 3, uses 4/5 and 1/5 at (5, 5) and (-5, -5) with unit variance; here a tenth of that.
    """
    return np.array([0.8, 0.2]), np.array([[0.5, 0.5], [-0.5, -0.5]]), 0.1


def grid25():
    """Twenty-five equal components on a 5 x 5 grid, 0.4 apart."""
    axis = np.linspace(-0.8, 0.8, 5)
    return np.full(25, 1 / 25), np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(25, 2), 0.03


def moons(generator, count, noise):
    """Two interleaved half circles; labels say which."""
    labels = generator.integers(0, 2, count)
    angle = np.pi * generator.random(count)
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], 1)
    points = 0.6 * np.where(labels[:, None] == 0, upper, -upper)
    return points + (0.03 if noise is None else noise) * generator.standard_normal((count, 2)), labels


def swissroll(generator, count, noise):
    """A spiral of one and a half turns; no labels."""
    angle = 1.5 * np.pi * (1 + 2 * generator.random(count))
    points = np.stack([np.cos(angle), np.sin(angle)], 1) * angle[:, None] / (4.5 * np.pi)
    return points + (0.02 if noise is None else noise) * generator.standard_normal((count, 2)), None


def checkerboard(generator, count, noise):
    """Uniform on the eight dark squares of a 4 x 4 board over [-1, 1]²; labels count the squares by column."""
    labels = generator.integers(0, 8, count)
    column, place = np.divmod(labels, 2)
    corner = np.stack([column, 2 * place + column % 2], 1)
    return (corner + generator.random((count, 2))) / 2 - 1, labels


MIXTURES = {"gaussians8": gaussians8, "gaussians_unequal": gaussians_unequal, "grid25": grid25}
SHAPES = {"moons": moons, "swissroll": swissroll, "checkerboard": checkerboard}
