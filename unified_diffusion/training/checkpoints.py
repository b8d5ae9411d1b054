"""Checkpoints: written in the background, checked when they are read."""

import logging
import zlib
from pathlib import Path

import grain.checkpoint
import jax
import numpy as np
import orbax.checkpoint as ocp

from unified_diffusion.errors import UserError

_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run: its state and the position in its data, `keep` of them.

    Orbax restores a flipped byte without a word, and never turns to an older step. So a checksum of every array is kept
    beside them, and a step that cannot be read is set aside by name for the one before it.
    """

    def __init__(self, directory, keep=2, read_only=False):
        self.directory = Path(directory).absolute()
        writing = {"max_to_keep": keep, "cleanup_tmp_directories": True}
        # Orbax would set the other three by itself, with a warning for each.
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
        """The newest readable checkpoint in the form of `state`, or None if there is none; sets `data` to its position.

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
            # Only now, so that where none can be read nothing is moved, and nobody starts anew by mistake.
            if data is not None:
                for step in damaged:
                    self._set_aside(step)
            return restored
        if steps:
            raise UserError(f"none of the checkpoints in {self.directory} can be read: train in another --workdir")
        return None

    def describe(self):
        """Where the last checkpoint is, in words."""
        step = self._manager.latest_step()
        return "there is no checkpoint yet" if step is None else f"the last checkpoint is {self.directory}/{step}"

    def wait(self):
        """Returns when all that was saved is on the disk."""
        self._manager.wait_until_finished()

    def close(self):
        """Waits, and lets go of the folder."""
        self._manager.close()

    def _restore(self, step, state, data):
        facts = self._manager.restore(step, args=ocp.args.Composite(facts=ocp.args.JsonRestore())).facts
        target = _flat(state)
        _check_architecture(facts, target, self.directory)
        items = {"state": ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, target))}
        if data is not None:
            items["data"] = grain.checkpoint.CheckpointRestore(data)
        arrays = self._manager.restore(step, args=ocp.args.Composite(**items)).state
        for name, array in arrays.items():
            if _checksum(array) != facts[name][2]:
                raise ValueError(f"the checksum of {name} does not match")
        return jax.tree.unflatten(jax.tree.structure(state), [arrays[name] for name in target])

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
    """{path: array} of every leaf."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _checksum(array):
    """CRC-32 of the array's bytes; every device holds the same ones."""
    return zlib.crc32(np.ascontiguousarray(array.addressable_data(0)))


def _check_architecture(facts, target, directory):
    """Raises UserError if the arrays of a checkpoint are not those that are asked for."""
    found = {name: tuple(shape) for name, (shape, _, _) in facts.items()}
    wanted = {name: array.shape for name, array in target.items()}
    if found == wanted:
        return
    name = next(name for name in {**wanted, **found} if found.get(name) != wanted.get(name))
    raise UserError(
        f"the checkpoint in {directory} is of another architecture: {name} is {found.get(name, 'missing')} there and "
        f"{wanted.get(name, 'missing')} in the config; use the config it was trained with, or another --workdir"
    )
