"""Checkpoints come back exactly, or say that they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unified_diffusion import UserError, data, models, perturbations
from unified_diffusion.training import Checkpoints, Optimizer, initial_state, initialise


def make_state(width=8, step=0, seed=0):
    def build(rngs):
        return models.MLP((2,), width=width, depth=1, rngs=rngs)

    _, params = initialise(build, jax.random.key(seed), perturbations.DDPM(num_steps=10))
    state = initial_state(params, Optimizer().transformation(10))
    noise = np.random.default_rng(step)

    def change(leaf):
        return leaf + jnp.asarray(noise.normal(size=leaf.shape), leaf.dtype) if leaf.dtype == jnp.float32 else leaf

    state = jax.tree.map(change, state)
    return type(state)(jnp.asarray(step, jnp.int32), state.params, state.ema, state.optimizer)


def make_batches(seed=0):
    points = np.arange(40, dtype=np.float32).reshape(20, 2)
    return data.batches(data.Dataset(points), 4, seed=seed)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 1, 2 and 3, and the states that went in."""
    states, batches = {n: make_state(step=n) for n in (1, 2, 3)}, make_batches()
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=3)
    for state in states.values():
        next(batches)
        checkpoints.save(state, batches)
    checkpoints.close()
    return tmp_path / "checkpoints", states


def damage(folder, how):
    """Harms the parameters in one step's folder."""
    if how == "empty":
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        return
    for path in [path for path in folder.rglob("*") if path.is_file() and path.parent.name == "d"]:
        content = bytearray(path.read_bytes())
        if how == "truncated":
            content = content[: len(content) // 2]
        else:
            # Every byte's lowest bit, in the middle part: values, not the compressed format's frame.
            for index in range(len(content) // 3, 2 * len(content) // 3):
                content[index] ^= 1
        path.write_bytes(bytes(content))


def test_all_comes_back(saved):
    directory, states = saved
    batches = make_batches()
    restored = Checkpoints(directory).restore(make_state(seed=7), batches)
    assert_equal(restored, states[3])
    assert batches.get_state() == {"next_index": 3}


def test_only_the_newest_are_kept(tmp_path):
    checkpoints, batches = Checkpoints(tmp_path / "c", keep=2), make_batches()
    for n in range(1, 5):
        checkpoints.save(make_state(step=n), batches)
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "c").iterdir() if path.name.isdigit()) == ["3", "4"]


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty"])
def test_a_damaged_one_gives_way_to_the_one_before(saved, how, caplog):
    directory, states = saved
    damage(directory / "3", how)
    batches = make_batches()
    checkpoints = Checkpoints(directory)
    restored = checkpoints.restore(make_state(), batches)
    assert_equal(restored, states[2])
    assert batches.get_state() == {"next_index": 2}
    assert (directory.parent / "checkpoints-damaged" / "3.0").is_dir()
    assert "step 3 cannot be read" in caplog.text
    checkpoints.save(states[3], batches)
    checkpoints.close()
    assert_equal(Checkpoints(directory).restore(make_state()), states[3])


def test_a_reader_moves_nothing(saved):
    directory, states = saved
    damage(directory / "3", "flipped")
    assert_equal(Checkpoints(directory, read_only=True).restore(make_state()), states[2])
    assert (directory / "3").is_dir()


def test_nothing_readable_is_said(saved):
    directory, _ = saved
    for n in "123":
        damage(directory / n, "truncated")
    # Twice: the first refusal moves nothing, so the second run does not start anew.
    for _ in range(2):
        with pytest.raises(UserError, match="none of the checkpoints"):
            Checkpoints(directory).restore(make_state(), make_batches())


def test_another_architecture_is_named(saved):
    directory, _ = saved
    with pytest.raises(UserError, match=r"another architecture.*\(8,.*\(16,|another architecture"):
        Checkpoints(directory).restore(make_state(width=16), make_batches())
    assert (directory / "3").is_dir()


def test_none_is_none(tmp_path):
    assert Checkpoints(tmp_path / "c").restore(make_state(), make_batches()) is None
