"""How all runs stand, while they run: a table that is drawn anew on a terminal, and lines elsewhere."""

import collections
import shutil
import time

from tqdm import tqdm

from experiments.sweep import record as records

_HEAD = ("run", "state", "step", "loss", "images/s", "left")
_ORDER = ("running", "failed", "interrupted", "waiting", "finished")
_SECONDS_BETWEEN_SUMMARIES = 60


def make_table(stream):
    """A `Terminal` where the stream is one, else `Lines`."""
    return Terminal(stream) if stream.isatty() else Lines(stream)


class Terminal:
    """One line a run, drawn over the lines before; runs that have ended give way where the screen is too small."""

    def __init__(self, stream):
        self._stream, self._drawn = stream, 0

    def show(self, tasks, directory):
        """Draws how the tasks stand."""
        width, height = shutil.get_terminal_size()
        rows = [row(task, directory) for task in _fitting(list(tasks), height - 4)]
        lines = [*_aligned([_HEAD, *rows], width - 1, _labels([task.run for task in tasks])), _counts(tasks)]
        hidden = len(list(tasks)) - len(rows)
        if hidden:
            lines.insert(-1, f"… and {hidden} more")
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._stream.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._drawn = len(lines)

    def note(self, text):
        """Prints a line below the table, which is drawn anew below it."""
        self._stream.write(f"{text}\n")
        self._drawn = 0


class Lines:
    """A line whenever a run changes its state, and a summary every minute."""

    def __init__(self, stream):
        self._stream, self._states, self._summary = stream, {}, time.monotonic()

    def show(self, tasks, directory):
        """Prints what has changed since the last call."""
        due = time.monotonic() - self._summary > _SECONDS_BETWEEN_SUMMARIES
        for task in tasks:
            state = (task.state, task.attempts)
            before = self._states.get(task.run.name, ("waiting", 0))
            self._states[task.run.name] = state
            if state != before:
                print(_change(task), file=self._stream, flush=True)
            elif due and task.state == "running":
                print("  ".join(filter(None, row(task, directory))), file=self._stream, flush=True)
        if due:
            self._summary = time.monotonic()
            print(_counts(tasks), file=self._stream, flush=True)

    def note(self, text):
        """Prints a line."""
        print(text, file=self._stream, flush=True)


def row(task, directory):
    """(name, state, step of steps or that the training is shared, loss, images/s, time left) of a task, as text."""
    folder, config = directory / task.run.name, task.run.config
    record, line = records.read_record(folder) or {}, records.last_metrics(folder)
    state = _state(task, record)
    if task.run.trained_in is not None:
        return task.run.name, state, "shared", "", "", ""
    if line is None:
        return task.run.name, state, "", "", "", ""
    total, speed = config["training"]["steps"], line["images_per_second"]
    left = ""
    if state == "training" and speed:
        left = tqdm.format_interval((total - line["step"]) * config["training"]["batch_size"] / speed)
    shown = f"{speed:,.0f}" if state == "training" else ""
    return task.run.name, state, f"{line['step']:,}/{total:,}", f"{line['loss']:.4f}", shown, left


def _state(task, record):
    """A running task's phase, any other's state; and how often it has been tried, if more than once."""
    state = task.state
    if state == "running" and record.get("state") == "running":
        state = {"evaluation": "evaluating", None: "running"}.get(record["phase"], record["phase"])
    elif state == "running":
        state = task.ticket.before
    return state + (f" (attempt {task.attempts})" if task.attempts > 1 and task.state != "finished" else "")


def _change(task):
    """A sentence on a task's new state."""
    why = f" ({task.error.splitlines()[-1]})" if task.error else ""
    if task.state == "waiting":
        return f"{task.run.name}: attempt {task.attempts} failed{why}"
    if task.state == "running":
        before = f"attempt {task.attempts - 1} failed{why}, " if task.attempts > 1 else ""
        return f"{task.run.name}: {before}running"
    return f"{task.run.name}: {task.state}{why}"


def _counts(tasks):
    counts = collections.Counter(task.state for task in tasks)
    return f"{len(list(tasks))} runs: " + ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])


def _fitting(tasks, room):
    """The tasks in their order, those that matter least left out where there is not room for all."""
    kept = sorted(tasks, key=lambda task: _ORDER.index(task.state))[: max(room, 1)]
    names = {task.run.name for task in kept}
    return [task for task in tasks if task.run.name in names]


def _labels(runs):
    """{name: label} of all runs, from long to short: names, what they do not share, its last words, its values alone.

    Those in which two runs have the same label are left out.
    """
    fields = {field for run in runs for field in run.overrides}
    fields = {field for field in fields if len({str(run.overrides.get(field)) for run in runs}) > 1}
    own = {run.name: {field: value for field, value in run.overrides.items() if field in fields} for run in runs}
    kinds = [
        {run.name: run.name for run in runs},
        {name: ",".join(f"{field}={value}" for field, value in set_.items()) for name, set_ in own.items()},
        {name: ",".join(f"{f.split('.')[-1]}={value}" for f, value in set_.items()) for name, set_ in own.items()},
        {name: ",".join(map(str, set_.values())) for name, set_ in own.items()},
    ]
    return [labels for labels in kinds if len(set(labels.values())) == len(runs)]


def _aligned(rows, width, labels):
    """Rows as lines of columns, the first one under the longest labels that fit.

    Where none do, the shortest are cut in their middle.
    """
    sizes = [max(len(row[column]) for row in rows) for column in range(1, len(_HEAD))]
    room = max(width - sum(sizes) - 2 * len(sizes), 8)
    fitting = (kind for kind in labels if all(len(kind.get(row[0], "")) <= room for row in rows))
    shown = next(fitting, labels[-1])
    first = min(max(len(shown.get(row[0], row[0])) for row in rows), room)
    lines = []
    for name, *rest in rows:
        cells = [_shortened(shown.get(name, name), first).ljust(first)]
        cells += [
            cell.ljust(size) if n == 0 else cell.rjust(size)
            for n, (cell, size) in enumerate(zip(rest, sizes, strict=True))
        ]
        lines.append("  ".join(cells).rstrip()[:width])
    return lines


def _shortened(text, width):
    return text if len(text) <= width else f"{text[: (width - 1) // 2]}…{text[-(width // 2) :]}"
