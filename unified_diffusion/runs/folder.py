"""The folder of a run: the config that it belongs to, the process that works in it, and the files that are kept."""

import contextlib
import errno
import fcntl
import json
import logging
import time
from pathlib import Path

import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.files import write_json
from unified_diffusion.runs.config import differences, later, read_config, resolve
from unified_diffusion.visualization import plot_training, save_png

_log = logging.getLogger(__name__)

# The sections that may differ when a run goes on, since they come after training; the fields that may differ, too, say
# how often a training tells or keeps something.
AFTER_TRAINING = ("sampler", "under", "sampling", "evaluation", "interpolation", "inpainting")
_FREE_SECTIONS = tuple(section + "." for section in AFTER_TRAINING)
_FREE_FIELDS = {
    "training." + name for name in ("log_every", "checkpoint_every", "keep_checkpoints", "sample_every", "num_workers")
}


@contextlib.contextmanager
def locked(workdir, patience=0.0, who="run"):
    """Holds the folder against other live runs; the lock ends with the process, however the process ends.

    Args:
        workdir: the folder.
        patience: seconds to wait for another run to leave the folder.
        who: the kind of program that works in the folder, for the message.

    Raises:
        UserError: another run is in the folder, or the folder cannot be written or its file system has no locks.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = (workdir / ".lock").open("w")
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be used: {error.strerror}") from None
    end = time.monotonic() + patience
    with lock:
        while not _acquire(lock, workdir):
            if time.monotonic() >= end:
                raise UserError(f"--workdir={workdir} is in use by another {who}: wait for it, or take another folder")
            time.sleep(0.2)
        yield


def _acquire(lock, workdir):
    """Locks an open file, unless another process has locked it; returns whether it is locked now."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise UserError(
                f"--workdir={workdir} cannot be locked ({error.strerror}), so that two runs could write into it: "
                "take a folder on a file system that has POSIX locks"
            ) from None
        return False
    return True


def claim(workdir, config, source):
    """Makes the folder this config's own, or checks that it is already.

    Args:
        workdir: the folder.
        config: the resolved config, written to config.json.
        source: the parts that the config was resolved from, {"config", "settings", "overrides"}, written to
            config_source.json.

    Raises:
        UserError: the folder belongs to another config; the fields that differ are named.
    """
    for name, (old, new) in check_claim(workdir, config).items():
        _log.warning("config.%s was %s in this folder, and is %s now", name, old, new)
    write_json(workdir / "config_source.json", source)
    write_json(workdir / "config.json", config)


def check_claim(workdir, config):
    """The fields in which the folder's config differs and may differ: {field: (old, new)}.

    Raises:
        UserError: as `claim`.
    """
    if not (workdir / "config.json").exists():
        if has_checkpoints(workdir):
            raise UserError(f"--workdir={workdir} has checkpoints but no config.json: take another folder")
        return {}
    changed = differences(read_json(workdir, "config.json"), config)
    free = _FREE_FIELDS | ({"training.steps"} if config["optimizer"]["schedule"] == "constant" else set())
    refuse(
        workdir,
        {name: pair for name, pair in changed.items() if not name.startswith(_FREE_SECTIONS) and name not in free},
    )
    return changed


def claim_data(workdir, facts):
    """Writes the training data's facts to data.json, or checks that the data are still the same.

    Raises:
        UserError: the data have changed since the run began.
    """
    if (workdir / "data.json").exists() and read_json(workdir, "data.json") != facts:
        raise UserError(f"the training data are not those that the run in --workdir={workdir} began with: take another")
    write_json(workdir / "data.json", facts)


def reopened(workdir, overrides=(), name=None):
    """The resolved config that the run in `workdir` is sampled or measured with.

    Args:
        workdir: the run's folder.
        overrides: pairs of a dotted field and its value, set in addition to those that the run was started with.
        name: a config file to take in place of the run's own settings and overrides; None takes the run's own.

    Raises:
        UserError: there is no run in the folder, or its checkpoints are not those of such a config.
    """
    trained = read_json(workdir, "config.json")
    if name is None:
        source = read_json(workdir, "config_source.json")
        resolved = resolve(source["settings"], later(source["overrides"], overrides))
    else:
        resolved = resolve(read_config(name), overrides)
    changed = differences(trained, resolved)
    refuse(workdir, {field: pair for field, pair in changed.items() if _affects_samples(field)})
    return resolved


def _affects_samples(field):
    """Whether a field of the config says what a checkpoint is; all others may be changed when a run is sampled."""
    return field == "training.label_dropout" or not field.startswith((*_FREE_SECTIONS, "training.", "optimizer."))


def refuse(workdir, changed):
    """Raises UserError if there are differences, {field: (old, new)}."""
    if changed:
        shown = [f"{name} is {old!r} there and {new!r} now" for name, (old, new) in changed.items()]
        more = f" (and {len(shown) - 3} more)" if len(shown) > 3 else ""
        raise UserError(
            f"--workdir={workdir} belongs to another config: {'; '.join(shown[:3])}{more}. "
            "Take another folder, or the same settings"
        )


def read_json(workdir, name):
    """A JSON file of the run in `workdir`.

    Raises:
        UserError: there is no run, or the file is damaged.
    """
    try:
        return json.loads((Path(workdir) / name).read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"--workdir={workdir} holds no run (no {name}): train first with --mode=train, or with ud.train"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{workdir}/{name} is damaged ({error}): restore it, or take another folder") from None


def training_folder(workdir):
    """The folder with a run's checkpoints: its own, or that of the run of the same sweep whose training it shares."""
    seen = []
    while workdir not in seen and (workdir / "run.json").exists():
        seen.append(workdir)
        trained_in = read_json(workdir, "run.json")["trained_in"]
        if trained_in is None:
            break
        workdir = workdir.parent / trained_in
    return workdir


def has_checkpoints(workdir):
    """Whether there is any checkpoint in a run's own folder."""
    return any(workdir.glob("checkpoints/*"))


def read_metrics(workdir):
    """The lines of metrics.jsonl as {name: float64 array}, one entry for each line; NaN where a line lacks the name.

    A last line that is still being written is left out. Without the file the dict is empty.
    """
    try:
        lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return {}
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows], np.float64) for name in names}


def write_training_plot(workdir):
    """Draws the losses of metrics.jsonl into training.png."""
    metrics = read_metrics(workdir)
    save_png(plot_training(metrics["step"], metrics["loss"]), workdir / "training.png")


def keep_previous(*paths):
    """Renames the files that exist to name.1.suffix (or .2, …), all by the same number."""
    if not any(path.exists() for path in paths):
        return

    def numbered(path, number):
        return path.with_name(f"{path.stem}.{number}{path.suffix}")

    number = next(n for n in range(1, 10**6) if not any(numbered(path, n).exists() for path in paths))
    for path in paths:
        if path.exists():
            path.rename(numbered(path, number))
            _log.warning("kept the previous %s as %s", path.name, numbered(path, number).name)
