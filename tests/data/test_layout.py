from hypothesis import given
from hypothesis import strategies as st

from unified_diffusion.data.layout import arrange

NAMES = st.lists(st.text("abc", min_size=1, max_size=5), unique=True, min_size=1, max_size=40)


def test_folders_are_classes_by_sorted_name():
    layout = arrange(["dog/1.png", "cat/2.png", "cat/deep/er/1.png"], 0.0)
    assert layout.class_names == ("cat", "dog")
    assert layout.labels == {"dog/1.png": 1, "cat/2.png": 0, "cat/deep/er/1.png": 0}
    assert layout.members["train"] == ("cat/2.png", "cat/deep/er/1.png", "dog/1.png")
    assert layout.members["test"] == ()


def test_no_folders_no_labels():
    layout = arrange(["b.png", "a.png"], 0.0)
    assert (layout.class_names, layout.labels, layout.members["train"]) == ((), {}, ("a.png", "b.png"))


def test_images_beside_class_folders_are_left_out():
    layout = arrange(["cat/1.png", "stray.png"], 0.0)
    assert layout.members["train"] == ("cat/1.png",)


def test_train_and_test_folders_are_the_splits_with_common_classes():
    names = ["train/cat/1.png", "train/eel/1.png", "test/cat/1.png", "test/dog/1.png"]
    layout = arrange(names, 0.5)
    assert layout.members["train"] == ("train/cat/1.png", "train/eel/1.png")
    assert layout.members["test"] == ("test/cat/1.png", "test/dog/1.png")
    assert layout.class_names == ("cat", "dog", "eel")
    assert layout.labels["train/cat/1.png"] == layout.labels["test/cat/1.png"] == 0


def test_splits_without_classes():
    layout = arrange(["train/1.png", "test/1.png", "train/2.png"], 0.5)
    assert layout.members["train"] == ("train/1.png", "train/2.png")
    assert layout.members["test"] == ("test/1.png",)
    assert layout.class_names == ()


def test_val_stands_in_for_a_missing_test():
    assert arrange(["train/1.png", "val/1.png"], 0.0).members["test"] == ("val/1.png",)
    layout = arrange(["train/1.png", "val/1.png", "test/2.png"], 0.0)
    assert layout.members["test"] == ("test/2.png",)
    assert layout.members["val"] == ("val/1.png",)


def test_a_class_that_is_called_train_is_a_class():
    assert arrange(["train/1.png", "plane/1.png"], 0.0).class_names == ("plane", "train")


def test_wrapping_folders_are_looked_through():
    bare = arrange(["cat/1.png", "dog/1.png"], 0.5)
    wrapped = arrange(["top/sub/cat/1.png", "top/sub/dog/1.png"], 0.5)
    assert wrapped.class_names == bare.class_names
    assert [name.removeprefix("top/sub/") for name in wrapped.members["train"]] == list(bare.members["train"])
    assert arrange(["data/train/1.png", "data/test/1.png"], 0.0).members["test"] == ("data/test/1.png",)
    assert arrange(["cat/1.png", "cat/2.png"], 0.0).class_names == ("cat",)


@given(NAMES, NAMES)
def test_adding_files_moves_no_other(old, new):
    before, after = (arrange([f"{name}.png" for name in names], 0.5) for names in (old, sorted({*old, *new})))
    for split in ("train", "test"):
        assert set(before.members[split]) <= set(after.members[split])


def test_the_held_out_part_has_its_size():
    layout = arrange([f"{i}.png" for i in range(20_000)], 0.1)
    assert abs(len(layout.members["test"]) - 2000) < 220  # five standard deviations
    assert len(layout.members["test"]) + len(layout.members["train"]) == 20_000
