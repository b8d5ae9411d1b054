"""run.json, in which a run of a sweep keeps how it stands, and questions that a run's folder answers."""

import json

from unified_diffusion.files import write_json
from unified_diffusion.runs.config import differences
from unified_diffusion.runs.folder import AFTER_TRAINING
from unified_diffusion.runs.sections import build

PHASES = ("training", "sampling", "evaluation")
LEAVES = ("samples.npz", "samples.json", "eval.json")


def read_if_there(path):
    """The value of a JSON file; None where there is none, or it cannot be read as JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def new_record(run):
    """The run.json of a run that has not begun."""
    return {
        "name": run.name,
        "overrides": run.overrides,
        "trained_in": run.trained_in,
        "state": "waiting",
        "phase": None,
        "phase_started": None,
        "trained": False,
        "out_of_time": None,
        "attempts": 0,
        "seconds": dict.fromkeys(PHASES, 0.0),
        "images_per_second": None,
        "error": None,
        "device": None,
        "versions": {},
    }


def read_record(folder):
    """The run.json in a run's folder, or None where there is none that can be read."""
    return read_if_there(folder / "run.json")


def write_record(folder, record):
    """Writes run.json, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", record)


def with_lost_time(record, folder):
    """The record of an attempt that was killed, with the seconds of training that it had no time to write down."""
    if record["phase"] is None:
        return record
    lines = folder / "metrics.jsonl"
    last = lines.stat().st_mtime if record["phase"] == "training" and lines.exists() else 0
    seconds = {**record["seconds"]}
    seconds[record["phase"]] += max(last - record["phase_started"], 0.0)
    return {**record, "seconds": seconds, "phase": None, "phase_started": None}


def is_finished(folder, config):
    """Whether the folder holds all that a run of this config leaves."""
    record = read_record(folder)
    own = read_if_there(folder / "config.json")
    done = record is not None and record["state"] == "finished" and own is not None and not differences(own, config)
    classifies = done and build("objective", config["objective"]).classifies
    return done and all((folder / name).exists() for name in (LEAVES[-1:] if classifies else LEAVES))


def is_trained(folder, config):
    """Whether the folder holds the training of this config, whatever came after it."""
    record, own = read_record(folder), read_if_there(folder / "config.json")
    return record is not None and own is not None and record["trained"] and trains(own) == trains(config)


def trains(config):
    """The sections of a config that its training depends on."""
    return {section: fields for section, fields in config.items() if section not in AFTER_TRAINING}


def last_metrics(folder):
    """The last whole line of metrics.jsonl, or None."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(file.seek(0, 2) - 4096, 0))
            lines = file.read().split(b"\n")[:-1]
        return json.loads(lines[-1]) if lines else None
    except (OSError, json.JSONDecodeError):
        return None


def tail(path, lines=12):
    """The last lines of a log, or why there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, 2) - 20_000, 0))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"no log: {error.strerror} ({path})"
    return "\n".join(text.strip().splitlines()[-lines:]) or f"the log is empty ({path})"
