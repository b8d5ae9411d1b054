"""The state of all runs, while they run: a table that is drawn anew on a terminal, and lines elsewhere."""

import abc
import collections
import contextlib
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from experiments.sweep import record as records

_HEAD = ("run", "state", "step", "loss", "images/s", "left")
_STYLES = {"running": "cyan", "failed": "red", "interrupted": "red", "waiting": "dim", "finished": ""}
_ORDER = tuple(_STYLES)
_SECONDS_BETWEEN_SUMMARIES = 60


def make_display(stream):
    """A `Terminal` where the stream is a terminal that can be drawn on, else `Lines`."""
    console = make_console(file=stream)
    return Terminal(console) if stream.isatty() and console.is_interactive else Lines(stream)


def make_console(**options):
    """rich's console; text is printed as it is, since a run's name may hold brackets and colons."""
    return Console(markup=False, emoji=False, highlight=False, **options)


class Display(contextlib.AbstractContextManager):
    """Tells people how the runs stand. It is a context manager, which leaves the terminal as it was."""

    @abc.abstractmethod
    def show(self, tasks, directory):
        """Shows how the tasks stand; `directory` has the runs' folders."""

    @abc.abstractmethod
    def note(self, text):
        """Prints a line that stays."""


class Terminal(Display):
    """One line for each run, drawn over the lines before; on a small screen runs that have ended give way."""

    def __init__(self, console):
        self._console, self._live = console, Live(console=console, auto_refresh=False)

    def __exit__(self, *exception):
        self._live.stop()

    def show(self, tasks, directory):
        tasks = list(tasks)
        rows = {task.run.name: (task, _row(task, directory)) for task in _fitting(tasks, self._console.height - 4)}
        lines = [self._table(rows, _labels([task.run for task in tasks]))]
        if len(rows) < len(tasks):
            lines.append(f"… and {len(tasks) - len(rows)} more")
        self._live.start()
        self._live.update(Group(*lines, _counts(tasks)), refresh=True)

    def note(self, text):
        self._console.print(text)

    def _table(self, rows, labels):
        """The runs under the longest labels that fit; where none do, the shortest are cut in their middle."""
        columns = list(zip(_HEAD, *(row for _, row in rows.values()), strict=True))
        room = max(self._console.width - sum(2 + max(map(len, column)) for column in columns[1:]), 8)
        fitting = (kind for kind in labels if all(len(kind[name]) <= room for name in rows))
        names = next(fitting, labels[-1])
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for index, title in enumerate(_HEAD):
            table.add_column(title, justify="left" if index < 2 else "right", no_wrap=True)
        for name, (task, (_, state, *rest)) in rows.items():
            table.add_row(_shortened(names[name], room), Text(state, _STYLES[task.state]), *rest)
        return table


class Lines(Display):
    """A line whenever a run changes its state, and a summary every minute."""

    def __init__(self, stream):
        self._stream, self._states, self._summary = stream, {}, time.monotonic()

    def show(self, tasks, directory):
        due = time.monotonic() - self._summary > _SECONDS_BETWEEN_SUMMARIES
        for task in tasks:
            state = (task.state, task.attempts)
            before = self._states.get(task.run.name, ("waiting", 0))
            self._states[task.run.name] = state
            if state != before:
                self.note(_change(task))
            elif due and task.state == "running":
                self.note("  ".join(filter(None, _row(task, directory))))
        if due:
            self._summary = time.monotonic()
            self.note(_counts(tasks))

    def __exit__(self, *exception):
        """Lines stay as they are."""

    def note(self, text):
        print(text, file=self._stream, flush=True)


def _row(task, directory):
    """A task's line as text: name, state, step of steps ("shared": another run trains), loss, images/s, time left."""
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
    """The phase of a running task, the state of another; with the number of attempts, if there were several."""
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
    return f"{len(tasks)} runs: " + ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])


def _fitting(tasks, room):
    """The tasks in their order; where there is not room for all, those that matter least are left out."""
    kept = sorted(tasks, key=lambda task: _ORDER.index(task.state))[: max(room, 1)]
    names = {task.run.name for task in kept}
    return [task for task in tasks if task.run.name in names]


def _labels(runs):
    """[{name: label}] of all runs, from long labels to short ones.

    The labels are the names, then the overrides in which the runs differ: with their fields, with the last words of the
    fields, and the values alone. Labels that two runs share are left out.
    """
    fields = {field for run in runs for field in run.overrides}
    fields = {field for field in fields if len({str(run.overrides.get(field)) for run in runs}) > 1}
    own = {run.name: {field: value for field, value in run.overrides.items() if field in fields} for run in runs}
    kinds = [
        {run.name: run.name for run in runs},
        {name: ",".join(f"{field}={value}" for field, value in pairs.items()) for name, pairs in own.items()},
        {name: ",".join(f"{f.split('.')[-1]}={value}" for f, value in pairs.items()) for name, pairs in own.items()},
        {name: ",".join(map(str, pairs.values())) for name, pairs in own.items()},
    ]
    return [labels for labels in kinds if len(set(labels.values())) == len(runs)]


def _shortened(text, width):
    return text if len(text) <= width else f"{text[: (width - 1) // 2]}…{text[-(width // 2) :]}"
