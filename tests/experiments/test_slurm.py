"""A sweep in a real Slurm, whose jobs are stopped, killed and lose their node, ends as one that nothing happened to."""

import csv
import os
import signal

import pytest
from slurm_cluster import missing, slurm_cluster
from tiny_runs import last_step
from tiny_sweeps import TINY_SWEEP, Sweep, run_json

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

STEPS = 20_000
ARGUMENTS = [
    *TINY_SWEEP,
    f"--config.training.steps={STEPS}",
    "--config.training.checkpoint_every=1000",
    "--config.training.log_every=50",
    "--grid=seed=0,1",
]
TIMES = {"seconds_training", "seconds_sampling", "seconds_evaluation", "images_per_second"}


@pytest.fixture(scope="module")
def cluster():
    """A Slurm of one node with two cores."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with slurm_cluster() as running:
        yield running


def summary(directory):
    """The rows of summary.csv without its times."""
    with (directory / "summary.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def newest_job(cluster, name):
    """The last job of a run, as scontrol shows it."""
    return [job for job in cluster.jobs() if job["JobName"] == name][-1]


def restarts(cluster, name):
    """How often Slurm has put the last job of a run back into the queue."""
    return int(newest_job(cluster, name)["Restarts"])


def main_process(cluster, job):
    """The process id of the job's one task."""
    rows = [line.split() for line in cluster("scontrol", "listpids", job["JobId"]).splitlines()]
    return next(int(pid) for pid, _, step, local, _ in rows if step != "batch" and local == "0")


@pytest.fixture
def sweep(cluster, tmp_path):
    """Starts the sweep through Slurm, in tmp_path / "slurm", and ends it with the test."""
    started = []

    def begin():
        arguments = [*ARGUMENTS, f"--workdir={tmp_path / 'slurm'}", "--cluster=slurm", "--time=30", "--cpus=1"]
        started.append(Sweep(arguments, tmp_path / f"slurm_{len(started)}.log", **cluster.environment))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()


def test_jobs_that_are_stopped_killed_and_lose_their_node(cluster, sweep, tmp_path):
    first, second = (tmp_path / "slurm" / "runs" / f"seed={seed}" for seed in (0, 1))

    # The sweep itself is killed; its jobs go on, and the same command finds them again.
    running = sweep()
    running.wait_for(lambda: last_step(first) and last_step(second))
    running.process.kill()
    running.process.wait()
    running = sweep()

    # Slurm's warning before a time limit or a preemption: the job saves, and submitit puts it back into the queue.
    running.wait_for(lambda: last_step(first) >= 3000)
    cluster("scancel", "--signal=USR2", newest_job(cluster, "seed=0")["JobId"])
    running.wait_for(lambda: restarts(cluster, "seed=0"))

    # Out of memory, say: Slurm takes the job for failed, and the sweep tries once more.
    running.wait_for(lambda: last_step(second) >= 3000)
    os.kill(main_process(cluster, newest_job(cluster, "seed=1")), signal.SIGKILL)
    running.wait_for(lambda: len([job for job in cluster.jobs() if job["JobName"] == "seed=1"]) == 2)

    # The node fails: Slurm puts its jobs back into the queue by itself.
    running.wait_for(lambda: run_json(second)["attempts"] == 2 and last_step(second) >= 8000)
    cluster.fail_node()
    running.wait_for(lambda: restarts(cluster, "seed=1"))

    code, output = running.wait()
    assert code == 0, output + cluster.logs()
    assert [job["JobName"] for job in cluster.jobs()] == ["seed=0", "seed=1", "seed=1"]
    assert [job["JobState"] for job in cluster.jobs()] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert run_json(second)["attempts"] >= 3

    local = tmp_path / "local"
    code, output = Sweep([*ARGUMENTS, f"--workdir={local}", "--jobs=2"], tmp_path / "local.log").wait()
    assert code == 0, output
    assert summary(tmp_path / "slurm") == summary(local)


def test_what_slurm_does_not_take_is_said(cluster, sweep, tmp_path):
    arguments = [*ARGUMENTS, f"--workdir={tmp_path / 'run'}", "--cluster=slurm", "--partition=nope"]
    code, output = Sweep(arguments, tmp_path / "log", **cluster.environment).wait()
    assert code == 2
    assert "Invalid partition name" in output
    assert cluster("squeue", "--noheader") == ""
