import json
import signal
import subprocess
import sys

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_diffusion.data import Dataset, StreamedDataset, batches
from unified_diffusion.data.pipeline import mirror, permutation, shuffled
from unified_diffusion.errors import UserError


def images(count):
    """Each image tells its number in column 0 and whether it was mirrored."""
    examples = np.zeros((count, 2, 4, 3), np.uint8)
    examples[:, :, 0] = 1 + np.arange(count)[:, None, None]
    return Dataset(examples, np.arange(count, dtype=np.int32))


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(these, those):
    assert len(these) == len(those)
    for this, that in zip(these, those, strict=True):
        assert this.keys() == that.keys()
        for name in this:
            assert this[name].dtype == that[name].dtype
            np.testing.assert_array_equal(this[name], that[name])


def test_every_epoch_shows_every_example_once_in_another_order():
    seen = np.concatenate([batch["label"] for batch in take(batches(images(10), 4, seed=0), 15)]).reshape(6, 10)
    np.testing.assert_array_equal(np.sort(seen), np.tile(np.arange(10), (6, 1)))
    assert len({tuple(row) for row in seen}) == 6


def test_image_and_label_stay_together():
    for batch in take(batches(images(10), 4, seed=3, flip=True), 10):
        np.testing.assert_array_equal(batch["x0"].max((1, 2, 3)), 1 + batch["label"])


def test_seeds_differ_and_repeat():
    order = {seed: np.concatenate([b["label"] for b in take(batches(images(50), 50, seed=seed), 2)]) for seed in (0, 1)}
    assert not np.array_equal(order[0], order[1])
    # A seed plus an epoch is not the next seed.
    assert not np.array_equal(order[0][50:], order[1][:50])
    assert_same(take(batches(images(50), 8, seed=0), 9), take(batches(images(50), 8, seed=0), 9))


def test_the_order_is_the_same_for_ever():
    """A change here would silently change every resumed run."""
    np.testing.assert_array_equal(permutation(0, 0, 8), [2, 7, 3, 6, 1, 5, 0, 4])


def test_permutations_are_uniform():
    counts = np.zeros((5, 5))
    for number in range(4000):
        counts[np.arange(5), permutation(7, number, 5)] += 1
    assert np.abs(counts / 4000 - 0.2).max() < 0.03  # five standard deviations


def test_a_batch_may_exceed_the_data():
    batch = next(batches(images(3), 8, seed=0))
    assert sorted(np.bincount(batch["label"])) == [2, 3, 3]


def test_flips_are_fair_and_horizontal():
    flipped = np.concatenate(
        [b["x0"][:, 0, 0, 0] == 0 for b in take(batches(images(100), 100, seed=0, flip=True), 100)]
    )
    assert abs(flipped.mean() - 0.5) < 0.025
    x = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3, 1)
    np.testing.assert_array_equal(mirror(x.copy(), np.array([False, True])), [x[0], x[1, :, ::-1]])


def test_flips_leave_the_data_itself_alone():
    dataset = images(10)
    take(batches(dataset, 10, seed=0, flip=True), 3)
    assert dataset.examples[:, :, 1:].max() == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.sampled_from([(1, 4), (2, 4), (3, 6), (4, 8)]), st.integers(0, 2**40))
def test_process_slices_make_up_the_global_batch(count, sizes, seed):
    processes, size = sizes
    options = {"seed": seed, "flip": True}
    whole = take(batches(images(count), size, **options), 5)
    slices = [
        take(batches(images(count), size, process_index=i, process_count=processes, **options), 5)
        for i in range(processes)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*slices, strict=True)
    ]
    assert_same(joined, whole)


def test_shuffled_is_a_function_of_the_position():
    whole = shuffled(0, 7, np.arange(100))
    np.testing.assert_array_equal(shuffled(0, 7, np.arange(30, 60)), whole[30:60])


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_a_restored_iterator_goes_on_bit_for_bit(taken):
    options = {"seed": 5, "flip": True}
    first = batches(images(10), 4, **options)
    take(first, taken)
    state = json.loads(json.dumps(first.get_state()))
    rest = take(first, 9)
    second = batches(images(10), 4, **options)
    take(second, 3)  # wherever it stood
    second.set_state(state)
    assert_same(take(second, 9), rest)


def test_resume_through_an_orbax_composite(tmp_path):
    options = {"seed": 5, "flip": True}
    first = batches(images(10), 4, **options)
    take(first, 6)
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(6, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(first)))
        manager.wait_until_finished()
        rest = take(first, 9)
        second = batches(images(10), 4, **options)
        manager.restore(6, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(second)))
    assert_same(take(second, 9), rest)


class Squares:
    """Items for a worker process: it pickles."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return np.full((2, 4, 3), index * index, np.uint8), index % 3


def test_streamed_batches_resume_too():
    first = batches(StreamedDataset(Squares(), (2, 4, 3), 3), 4, seed=1)
    held = Dataset(np.stack([Squares()[i][0] for i in range(10)]), np.arange(10, dtype=np.int32) % 3)
    assert_same(take(first, 6), take(batches(held, 4, seed=1), 6))
    second = batches(StreamedDataset(Squares(), (2, 4, 3), 3), 4, seed=1)
    second.set_state(first.get_state())
    assert_same(take(second, 6), take(first, 6))


def test_workers_change_neither_batches_nor_state():
    dataset = StreamedDataset([(np.full((2, 4, 3), i, np.uint8), i % 3) for i in range(10)], (2, 4, 3), 3)
    plain = batches(dataset, 4, seed=1, flip=True)
    worked = batches(dataset, 4, seed=1, flip=True, num_workers=1)
    try:
        assert_same(take(worked, 5), take(plain, 5))
        assert worked.get_state() == plain.get_state() == {"next_index": 5}
        worked.set_state({"next_index": 2})
        plain.set_state({"next_index": 2})
        assert_same(take(worked, 2), take(plain, 2))
    finally:
        worked.close()


@pytest.mark.parametrize(
    ("count", "size", "options", "message"),
    [
        (0, 4, {}, "empty"),
        (10, 0, {}, "batch_size 0"),
        (10, 6, {"process_count": 4}, "batch_size 6 does not divide among 4"),
        (10, 4, {"process_count": 2, "process_index": 2}, "process_index 2"),
    ],
)
def test_mistakes_are_named(count, size, options, message):
    with pytest.raises(UserError, match=message):
        batches(images(count), size, seed=0, **options)


def test_points_are_not_flipped():
    with pytest.raises(UserError, match="flip"):
        batches(Dataset(np.zeros((4, 2), np.float32)), 2, seed=0, flip=True)


@pytest.mark.slow
def test_workers_end_with_a_killed_parent():
    """They would hold its standard output open, and whoever reads it would wait for ever."""
    code = """if __name__ == "__main__":
        import os, signal
        import numpy as np
        from unified_diffusion.data import StreamedDataset, batches
        dataset = StreamedDataset([(np.zeros((2, 4, 3), np.uint8), 0)] * 9, (2, 4, 3), 1)
        iterator = batches(dataset, 4, seed=0, num_workers=1)
        next(iterator)
        print("begun", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=50, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"begun\n"
