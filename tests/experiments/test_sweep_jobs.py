"""What a job does with the signal that its time is up."""

import signal

import pytest

from experiments.sweep.jobs import Job, PlannedRun
from experiments.sweep.record import read_record
from unified_diffusion.errors import UserError
from unified_diffusion.runs import commands

RUN = PlannedRun("a", {}, {}, {})


class Handler:
    """submitit's handler of SIGUSR2, as far as a job knows it."""

    def __init__(self, timed_out):
        self.timed_out, self.requeued = timed_out, 0

    def has_timed_out(self):
        return self.timed_out

    def checkpoint_and_try_requeue(self, number, frame):
        self.requeued += 1


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Does RUN until SIGUSR2 comes in a phase, or to its end; (whether it is put back into the queue, its run.json)."""

    def once(stopped_in, timed_out=True):
        def train(config, source, folder, trained_in, phase):
            for name in ("training", "sampling", "evaluation"):
                with phase(name):
                    if name == stopped_in:
                        signal.raise_signal(signal.SIGUSR2)
            return 0

        monkeypatch.setattr(commands, "train", train)
        handler = Handler(timed_out)
        before = signal.signal(signal.SIGUSR2, handler.checkpoint_and_try_requeue)
        try:
            Job(RUN, tmp_path, {}, own_process=False)()
        finally:
            signal.signal(signal.SIGUSR2, before)
        return handler.requeued == 1, read_record(tmp_path / "a")

    return once


def test_time_that_is_too_short_for_what_comes_after_training(attempt, tmp_path):
    for phase in ("sampling", "evaluation"):
        requeued, record = attempt(phase)
        assert requeued
        assert (record["state"], record["out_of_time"]) == ("interrupted", phase)
    for _ in range(2):
        with pytest.raises(UserError, match="up during the evaluation twice.*give --time more minutes"):
            attempt("evaluation")
    record = read_record(tmp_path / "a")
    assert (record["state"], record["attempts"]) == ("failed", 4)
    assert record["error"].startswith("error: the job's time was up during the evaluation twice")
    # Given more time, it is as any other.
    assert attempt(None)[1]["out_of_time"] is None


def test_preemptions_are_none_of_its_fault(attempt):
    for _ in range(3):
        requeued, record = attempt("sampling", timed_out=False)
        assert requeued
        assert (record["state"], record["out_of_time"]) == ("interrupted", None)
