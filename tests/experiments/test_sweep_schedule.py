"""Which run is next and what becomes of it, on a cluster that does what it is told."""

import contextlib
import dataclasses
import io
import os
import re
import signal

import pytest

from experiments.sweep import record as records
from experiments.sweep.clusters import Refused
from experiments.sweep.jobs import PlannedRun
from experiments.sweep.plan import run_name
from experiments.sweep.schedule import Schedule, Task
from experiments.sweep.terminal import Lines, Terminal, make_console, make_display
from unified_diffusion.errors import UserError
from unified_diffusion.files import write_json

CONFIG = {"seed": 0, "objective": {"name": "denoising"}, "training": {"steps": 10, "batch_size": 2}}


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr("experiments.sweep.schedule._SECONDS_BETWEEN_LOOKS", 0)


@dataclasses.dataclass
class Ticket:
    log: object
    before: str = "queued"


class Scripted:
    """A cluster on which each job ends, at the next look, as its run's script says: one word an attempt."""

    def __init__(self, directory, capacity=9, **scripts):
        self.directory, self.capacity, self.scripts = directory, capacity, scripts
        self.submitted, self.most, self.stopped, self.refuses = [], 0, False, []

    open = staticmethod(contextlib.nullcontext)

    def adopt(self, runs):
        return {}

    def submit(self, run):
        if self.refuses:
            raise Refused(f"no more than {self.refuses.pop()} jobs")
        self.submitted.append(run.name)
        log = self.directory / f"{run.name}.log"
        log.write_text("first line\nlast words\n")
        return Ticket(log)

    def alive(self, tickets):
        self.most = max(self.most, len(tickets))
        for name in tickets:
            self._end(name, self.scripts[name].pop(0))
        return dict.fromkeys(tickets, False)

    def stop(self):
        self.stopped = True

    def left_behind(self, tickets):
        return None

    def _end(self, name, how):
        folder = self.directory / "runs" / name
        record = records.read_record(folder)
        if how == "dies":
            records.write_record(folder, record | {"state": "running"})
        elif how == "loses":
            records.write_record(folder, record | {"state": "finished"})
        elif how == "refused from now on":
            self._end(name, "finished")
            self.refuses = ["3"] * 99
        elif how == "ctrl-c":
            records.write_record(folder, record | {"state": "interrupted"})
            os.kill(os.getpid(), signal.SIGINT)
        else:
            state, _, phase = how.partition(" ")
            trained = state == "finished" or phase == "sampling"
            records.write_record(folder, record | {"state": state, "trained": trained, "error": "oh no"})
            write_json(folder / "config.json", CONFIG)
            for leaf in records.LEAVES:
                (folder / leaf).touch()


def carry_out(tmp_path, trained_in=(), **scripts):
    """(schedule, cluster, what stopped it, printed lines, states at each publication)."""
    capacity = scripts.pop("capacity", 9)
    runs = [PlannedRun(name, {}, CONFIG, {}, dict(trained_in).get(name)) for name in scripts]
    cluster, stream, published = Scripted(tmp_path, capacity, **scripts), io.StringIO(), []
    schedule = Schedule(runs, tmp_path, cluster, lambda: published.append(states(schedule)), Lines(stream))
    stopped = schedule.run()
    return schedule, cluster, stopped, stream.getvalue(), published


def states(schedule):
    return {name: task.state for name, task in schedule.tasks.items()}


def test_a_failed_run_is_tried_once_more(tmp_path):
    schedule, cluster, stopped, printed, published = carry_out(
        tmp_path, once=["failed", "finished"], always=["failed", "failed"], dead=["dies", "dies"], good=["finished"]
    )
    assert stopped is None
    assert states(schedule) == {"once": "finished", "always": "failed", "dead": "failed", "good": "finished"}
    assert sorted(cluster.submitted) == ["always", "always", "dead", "dead", "good", "once", "once"]
    assert schedule.tasks["always"].error == "oh no"
    # A job that was killed has said nothing: the end of its log stands for it, and its run.json is not left "running".
    assert schedule.tasks["dead"].error == "first line\nlast words"
    assert records.read_record(tmp_path / "runs" / "dead")["state"] == "failed"
    assert "once: attempt 1 failed (oh no), running\n" in printed
    assert "dead: failed (last words)\n" in printed
    assert published[-1] == states(schedule)


def test_what_says_that_it_has_finished_and_has_not(tmp_path):
    schedule, *_ = carry_out(tmp_path, a=["loses", "loses"], b=["loses", "finished"])
    assert states(schedule) == {"a": "failed", "b": "finished"}
    assert "not all that it left is there" in schedule.tasks["a"].error
    assert records.read_record(tmp_path / "runs" / "a")["state"] == "failed"


def test_jobs_that_are_refused_are_tried_again_while_others_run(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.sweep.schedule._SECONDS_AFTER_A_REFUSAL", 0)
    submit = Scripted.submit

    def busy(self, run):
        if len([name for name in self.submitted if self.scripts[name]]) >= 2:
            raise Refused("no more than 2 jobs")
        return submit(self, run)

    monkeypatch.setattr(Scripted, "submit", busy)
    schedule, cluster, _, printed, _ = carry_out(tmp_path, **{name: ["finished"] for name in "abcde"})
    assert set(states(schedule).values()) == {"finished"}
    assert cluster.most == 2
    assert all(task.attempts == 1 for task in schedule.tasks.values())
    assert printed.count("no more than 2 jobs; tried again while other runs are going on\n") == 1


def test_jobs_that_are_refused_when_none_runs_are_named(tmp_path):
    with pytest.raises(UserError) as refused:
        carry_out(tmp_path, capacity=1, a=["refused from now on"], b=[], c=[])
    assert str(refused.value).startswith("no more than 3 jobs. Not started: b, c; the same command goes on with them.")
    assert "--jobs=N" in str(refused.value)
    assert records.read_record(tmp_path / "runs" / "b")["state"] == "waiting"


def test_no_more_at_a_time_than_there_is_room_for(tmp_path):
    _, cluster, *_ = carry_out(tmp_path, capacity=2, **{name: ["finished"] for name in "abcde"})
    assert cluster.submitted == list("abcde")
    assert cluster.most == 2


def test_a_shared_training_is_waited_for(tmp_path):
    schedule, cluster, *_ = carry_out(
        tmp_path, {"b": "a", "c": "a"}, b=["finished"], a=["failed", "finished"], c=["finished"]
    )
    assert cluster.submitted[:2] == ["a", "a"]
    assert set(states(schedule).values()) == {"finished"}


def test_a_training_that_failed_is_said_of_all_that_need_it(tmp_path):
    schedule, cluster, *_ = carry_out(tmp_path, {"b": "a"}, a=["failed", "failed"], b=[])
    assert states(schedule) == {"a": "failed", "b": "failed"}
    assert schedule.tasks["b"].error == "its training, in a, failed"
    assert records.read_record(tmp_path / "runs" / "b")["error"] == "its training, in a, failed"
    assert cluster.submitted == ["a", "a"]


def test_a_training_is_there_though_what_came_after_it_failed(tmp_path):
    schedule, *_ = carry_out(tmp_path, {"b": "a"}, a=["failed sampling", "failed sampling"], b=["finished"])
    assert states(schedule) == {"a": "failed", "b": "finished"}


def test_what_is_finished_is_kept(tmp_path):
    carry_out(tmp_path, a=["finished"], b=["failed", "failed"])
    schedule, cluster, *_ = carry_out(tmp_path, a=["finished"], b=["finished"])
    assert cluster.submitted == ["b"]
    assert states(schedule) == {"a": "finished", "b": "finished"}


def test_ctrl_c_stops_it(tmp_path):
    schedule, cluster, stopped, printed, _ = carry_out(tmp_path, capacity=1, a=["ctrl-c", "finished"], b=["finished"])
    assert stopped == signal.SIGINT
    assert cluster.stopped
    assert states(schedule) == {"a": "interrupted", "b": "waiting"}
    assert cluster.submitted == ["a"]


def terminal(width, height):
    """(a Terminal of this size, what is drawn on it)."""
    stream = io.StringIO()
    return Terminal(make_console(file=stream, force_terminal=True, width=width, height=height)), stream


def plain(text):
    """The lines of text without the terminal's own commands."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text).splitlines()


def test_the_table_on_a_terminal(tmp_path):
    schedule, *_ = carry_out(tmp_path, **{f"run{n}": ["finished"] for n in range(6)})
    task = schedule.tasks["run4"]
    task.state, task.ticket = "running", Ticket(None)
    records.write_record(
        tmp_path / "runs" / "run4", records.new_record(task.run) | {"state": "running", "phase": "training"}
    )
    line = {"step": 4, "loss": 0.25, "images_per_second": 2.0}
    (tmp_path / "runs" / "run4" / "metrics.jsonl").write_text('{"step": 1}\n' + str(line).replace("'", '"') + "\n{")
    display, stream = terminal(60, 8)
    with display:
        display.show(schedule.tasks.values(), tmp_path / "runs")
        first = stream.getvalue()
        display.note("a [note]: as it is")
        display.show(schedule.tasks.values(), tmp_path / "runs")
    (row,) = [text for text in plain(first) if "run4" in text]
    # Two images a second and a batch of two: six steps are six seconds.
    assert row.split() == ["run4", "training", "4/10", "0.2500", "2", "00:06"]
    assert plain(first)[-2:] == ["… and 2 more", "6 runs: 1 running, 5 finished"]
    assert len(plain(first)) == 7
    assert all(len(text) <= 60 for text in plain(first))
    # Drawn over the lines before: up by as many as there were; and the cursor is there again at the end.
    again = stream.getvalue()[len(first) :]
    assert again.count("\x1b[1A") % (len(plain(first)) - 1) == 0
    assert "a [note]: as it is" in plain(again)[0]
    assert again.endswith("\x1b[?25h")


def test_lines_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(make_display(io.StringIO()), Lines)
    leader, follower = os.openpty()
    with os.fdopen(leader), os.fdopen(follower, "w") as stream:
        monkeypatch.setenv("TERM", "xterm")
        assert isinstance(make_display(stream), Terminal)
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(make_display(stream), Lines)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (120, "objective.weighting={},perturbation.name=ddpm,seed={}"),
        (80, "objective.weighting={},seed={}"),
        (64, "weighting={},seed={}"),
        (50, "{},{}"),
    ],
)
def test_names_that_are_too_long_show_what_differs(columns, expected, tmp_path):
    values = [(weighting, seed) for weighting in ("simple", "vlb") for seed in (0, 1)]
    tasks = []
    for weighting, seed in values:
        own = {"objective.weighting": weighting, "perturbation.name": "ddpm", "seed": seed}
        tasks.append(Task(PlannedRun(run_name(own), own, CONFIG, {})))
    display, stream = terminal(columns, 24)
    with display:
        display.show(tasks, tmp_path / "runs")
    rows = [line.split()[0] for line in plain(stream.getvalue())[1:5]]
    assert rows == [expected.format(*pair) for pair in values]
