"""Checkpoints, which are written in the background and checked when they are read."""

import logging
import zlib
from pathlib import Path
from typing import Any

import grain.checkpoint
import jax
import numpy as np
import orbax.checkpoint as ocp

from unified_diffusion.errors import UserError

_log = logging.getLogger(__name__)


class Checkpoints:
    """The newest `keep` checkpoints of one run, each with the state and the position in the data.

        checkpoints = Checkpoints(workdir / "checkpoints", keep=2)
        state = checkpoints.restore(state, batches) or state
        checkpoints.save(state, batches)

    Orbax restores a flipped byte without a word, and never turns to an older step. So each checkpoint also holds a
    checksum of every array, and a checkpoint that cannot be read is moved aside and the one before it is taken.
    """

    def __init__(self, directory, keep=2, read_only=False):
        self.directory = Path(directory).absolute()
        writing = {"max_to_keep": keep, "cleanup_tmp_directories": True}
        # Orbax would set the last three of these options by itself, with a warning for each.
        reading = {"read_only": True, "max_to_keep": None, "save_interval_steps": 0, "create": False}
        options = ocp.CheckpointManagerOptions(**(reading if read_only else writing))
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, state, data):
        """Starts to save the state and the data iterator's position under the state's step, unless it is there."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        arrays = _flat(state)
        facts = {name: [list(array.shape), str(array.dtype), _checksum(array)] for name, array in arrays.items()}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays),
                facts=ocp.args.JsonSave(facts),
                data=grain.checkpoint.CheckpointSave(data),
            ),
        )

    def restore(self, state, data=None):
        """The newest readable checkpoint in the form of `state`, or None if there is none.

        The data iterator `data` is set to the position of the checkpoint.

        Raises:
            UserError: the checkpoint is of another architecture, or there are checkpoints and none can be read.
        """
        steps, damaged = sorted(self._manager.all_steps(), reverse=True), []
        for step in steps:
            try:
                restored = self._restore(step, state, data)
            except (UserError, MemoryError, jax.errors.JaxRuntimeError):
                raise
            # Orbax reports a damaged file by whatever its readers raise, a bare Exception among them.
            except Exception as error:
                reason = (str(error).strip() or repr(error)).splitlines()[0]
                _log.warning("checkpoint of step %d cannot be read (%s)", step, reason[:200])
                damaged.append(step)
                continue
            # Damaged steps are moved only now: if none can be read nothing moves, and nobody starts anew by mistake.
            if data is not None:
                for step in damaged:
                    self._set_aside(step)
            return restored
        if steps:
            raise UserError(f"none of the checkpoints in {self.directory} can be read: train in another --workdir")
        return None

    def describe(self):
        """A clause for messages that says where the last checkpoint is."""
        step = self._manager.latest_step()
        return "there is no checkpoint yet" if step is None else f"the last checkpoint is {self.directory}/{step}"

    def wait(self):
        """Waits until everything that was saved is on the disk."""
        self._manager.wait_until_finished()

    def close(self):
        """Waits for the writing to end, and lets go of the folder."""
        self._manager.close()

    def _restore(self, step, state, data):
        facts = self._read(step, facts=ocp.args.JsonRestore()).facts
        target = _flat(state)
        _check_architecture(facts, target, self.directory)
        items: dict[str, Any] = {
            "state": ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, target))
        }
        if data is not None:
            items["data"] = grain.checkpoint.CheckpointRestore(data)
        arrays = self._read(step, **items).state
        for name, array in arrays.items():
            if _checksum(array) != facts[name][2]:
                raise ValueError(f"the checksum of {name} does not match")
        return jax.tree.unflatten(jax.tree.structure(state), [arrays[name] for name in target])

    def _read(self, step, **items) -> Any:
        """The items of a checkpoint: Orbax returns them as attributes, which the types of Orbax do not tell."""
        return self._manager.restore(step, args=ocp.args.Composite(**items))

    def _set_aside(self, step):
        """Moves a damaged step out of the way of the training that will write it anew."""
        folder = self.directory / str(step)
        aside = self.directory.with_name(f"{self.directory.name}-damaged")
        aside.mkdir(exist_ok=True)
        number = sum(1 for path in aside.iterdir() if path.name.startswith(f"{step}."))
        folder.rename(aside / f"{step}.{number}")
        _log.warning("moved it to %s; going back to the checkpoint before it", aside)
        self._manager.reload()


def _flat(state):
    """The dict {path: array} of the leaves of a pytree."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _checksum(array):
    """The CRC-32 of the bytes of an array that is the same on every device."""
    return zlib.crc32(np.ascontiguousarray(array.addressable_data(0)).data)


def _check_architecture(facts, target, directory):
    """Raises UserError if the arrays of a checkpoint are not those of `target`."""
    found = {name: tuple(shape) for name, (shape, _, _) in facts.items()}
    wanted = {name: array.shape for name, array in target.items()}
    if found == wanted:
        return
    name = next(name for name in {**wanted, **found} if found.get(name) != wanted.get(name))
    raise UserError(
        f"the checkpoint in {directory} is of another architecture: {name} is {found.get(name, 'missing')} there and "
        f"{wanted.get(name, 'missing')} in the config; use the config it was trained with, or another --workdir"
    )
