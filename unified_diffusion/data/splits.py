"""The names of the splits of a dataset."""

from unified_diffusion.errors import UserError
from unified_diffusion.registry import suggest

SPLITS = ("train", "test")


def check_split(split, valid=SPLITS):
    """Raises UserError for a split that is not among the `valid` ones."""
    if split not in valid:
        raise UserError(f"unknown split {split!r}: {suggest(split, valid)}")
