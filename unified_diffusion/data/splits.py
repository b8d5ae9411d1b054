"""The names of the parts of a dataset."""

from unified_diffusion.errors import UserError
from unified_diffusion.registry import suggest

SPLITS = ("train", "test")


def check_split(split, valid=SPLITS):
    """Refuses a split that does not exist."""
    if split not in valid:
        raise UserError(f"unknown split {split!r}: {suggest(split, valid)}")
