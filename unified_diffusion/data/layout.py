"""The layout of a folder of images: the names of the files tell the split and the class of each image."""

import dataclasses
from collections.abc import Sequence

from unified_diffusion.data.hashing import unit_interval
from unified_diffusion.data.splits import SPLITS


@dataclasses.dataclass(frozen=True)
class Layout:
    """The split and the class of each image.

    Attributes:
        members: a dict from the split to its names, sorted. A name that belongs to no class is in no split.
        labels: a dict from the name to the number of its class; empty when there are no classes.
        class_names: the names of the classes, sorted over all splits, so that each class has one number everywhere.
    """

    members: dict[str, tuple[str, ...]]
    labels: dict[str, int]
    class_names: tuple[str, ...]


def arrange(names: Sequence[str], test_fraction: float) -> Layout:
    """Finds the split and the class of each image from its name, a relative POSIX path.

    A single folder that holds everything is ignored. Top folders `train` and `test` (or `val`) are the splits. Without
    such folders an image is held out for "test" when the hash of its path, a number in [0, 1), is below
    `test_fraction`; files that are added later therefore move no other image. The next folder of the path is the class.
    An image that lies beside class folders has no class and is left out.

        arrange(["train/cat/1.png", "train/dog/2.png", "test/cat/3.png"], 0.1).labels["train/dog/2.png"]  # 1
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
    for name in sorted(places, key=places.__getitem__):
        if not classes or name in labels:
            members[split_of[name]].append(name)
    return Layout({split: tuple(names) for split, names in members.items()}, labels, classes)


def unwrapped(places):
    """Returns the paths without the folders that hold everything; a single class folder is kept, as it is a class."""
    while places and len({parts[0] for parts in places.values()}) == 1 and all(len(p) > 2 for p in places.values()):
        places = {name: parts[1:] for name, parts in places.items()}
    return places


def held_out(parts, test_fraction):
    """Returns "test" for a file whose path has a hash below `test_fraction`, and else "train"."""
    return "test" if unit_interval("/".join(parts), "held out") < test_fraction else "train"
