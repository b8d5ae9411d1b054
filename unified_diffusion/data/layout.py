"""What the names of image files say: which split, and which class."""

import dataclasses
from collections.abc import Sequence

from unified_diffusion.data.hashing import unit_interval
from unified_diffusion.data.splits import SPLITS


@dataclasses.dataclass(frozen=True)
class Layout:
    """Attributes:
    members: split to the names in it, sorted. Names that fit nowhere are in none.
    labels: name to class number, empty when there are no classes.
    class_names: sorted over all splits together, so that a class has one number everywhere.
    """

    members: dict[str, tuple[str, ...]]
    labels: dict[str, int]
    class_names: tuple[str, ...]


def arrange(names: Sequence[str], test_fraction: float) -> Layout:
    """Reads splits and classes off the names, relative POSIX paths.

    A folder that wraps everything is looked through. Top folders `train` and `test` (or `val`) are the splits; without
    them a name is held out for the test when its own hash falls below `test_fraction`, so that adding files moves no
    other. Below that the first folder is the class; images beside class folders have none and are left out.
    """
    places = unwrapped({name: tuple(name.split("/")) for name in names})
    tops = {parts[0] if len(parts) > 1 else "" for parts in places.values()}
    if "train" in tops and tops & {"test", "val"} and tops <= {"train", "test", "val"}:
        split_of = {name: parts[0] for name, parts in places.items()}
        places = {name: parts[1:] for name, parts in places.items()}
        if "test" not in tops:
            split_of = {name: "test" if split == "val" else split for name, split in split_of.items()}
    else:
        split_of = {name: held_out(parts, test_fraction) for name, parts in places.items()}
    classes = tuple(sorted({parts[0] for parts in places.values() if len(parts) > 1}))
    number = {name: i for i, name in enumerate(classes)}
    labels = {name: number[parts[0]] for name, parts in places.items() if len(parts) > 1}
    members = {split: [] for split in (*SPLITS, *set(split_of.values()))}
    for name in sorted(places, key=places.get):
        if not classes or name in labels:
            members[split_of[name]].append(name)
    return Layout({split: tuple(names) for split, names in members.items()}, labels, classes)


def unwrapped(places):
    """The paths without the folders that hold everything; a lone class folder is no wrapping."""
    while places and len({parts[0] for parts in places.values()}) == 1 and all(len(p) > 2 for p in places.values()):
        places = {name: parts[1:] for name, parts in places.items()}
    return places


def held_out(parts, test_fraction):
    """The split of a file by the hash of its own path."""
    return "test" if unit_interval("/".join(parts), "held out") < test_fraction else "train"
