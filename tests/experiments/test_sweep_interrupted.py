"""Sweeps whose processes are stopped, killed or broken, and started again."""

import csv
import fcntl
import json
import signal
import time

import pytest
from tiny_sweeps import TINY_SWEEP, Sweep, run_json

LONG = [
    *TINY_SWEEP,
    "--config.training.steps=2000",
    "--config.training.checkpoint_every=200",
    "--config.sampler.num_steps=5",
    "--jobs=2",
]
GRID = ["--grid=objective.weighting=simple,vlb", "--grid=sampling.seed=0,1"]
TIMES = ("seconds_", "images_per_second")


@pytest.fixture
def start(tmp_path):
    """Starts a Sweep, and ends it with the test."""
    sweeps = []

    def begin(arguments, **environment):
        sweeps.append(Sweep(arguments, tmp_path / f"output{len(sweeps)}.txt", **environment))
        return sweeps[-1]

    yield begin
    for sweep in sweeps:
        sweep.process.kill()
        sweep.process.wait()


def is_free(folder):
    """Whether no process is in a run's folder."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def steps(folder):
    """The steps of metrics.jsonl, in order."""
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(directory):
    """summary.csv without its columns of times."""
    rows = list(csv.reader((directory / "summary.csv").read_text().splitlines()))
    kept = [n for n, name in enumerate(rows[0]) if not name.startswith(TIMES)]
    return [[row[n] for n in kept] for row in rows]


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(start, tmp_path):
    directory = tmp_path / "sweep"
    arguments = [*LONG, "--grid=seed=0,1", f"--workdir={directory}"]
    folders = [directory / "runs" / f"seed={seed}" for seed in (0, 1)]
    first = start(arguments)
    first.wait_for(lambda: all((folder / "metrics.jsonl").exists() for folder in folders))
    # To the whole group, as a terminal does.
    code, output = first.kill_at(folders[0], 300, signal.SIGINT, group=True)
    assert code == 130, output
    assert "seed=0: interrupted" in output
    assert "what was trained is saved, and the same command goes on from here" in output
    assert "Traceback" not in output
    stopped = [run_json(folder) for folder in folders]
    assert [record["state"] for record in stopped] == ["interrupted"] * 2
    assert all(is_free(folder) for folder in folders)
    # Between two checkpoints' steps: nothing was lost.
    saved = [int(path.name) for path in (folders[0] / "checkpoints").iterdir() if path.name.isdigit()]
    assert max(saved) % 200
    code, output = start(arguments).wait()
    assert code == 0, output
    for folder, record in zip(folders, stopped, strict=True):
        assert steps(folder) == [1, *range(10, 2001, 10)]
        after = run_json(folder)
        assert (after["state"], after["attempts"]) == ("finished", 2)
        assert after["seconds"]["training"] > record["seconds"]["training"] > 0


BROKEN = '''
import dataclasses
from pathlib import Path
from unified_diffusion.objectives import Denoising

@dataclasses.dataclass(frozen=True, kw_only=True)
class Broken(Denoising):
    """Fails on a batch of the training, once or always."""

    flag: str = ""

    def __call__(self, denoiser, x0, key, label=None):
        if len(x0) == 32 and self.flag:
            if self.flag == "always" or Path(self.flag).exists():
                Path(self.flag).unlink(missing_ok=True)
                raise RuntimeError(f"out of luck with {self.flag}")
        return super().__call__(denoiser, x0, key, label)
'''


@pytest.mark.slow
def test_a_failed_run_is_tried_again_and_reported(start, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    flag, directory = tmp_path / "once", tmp_path / "sweep"
    flag.touch()
    sweep = start(
        [
            *TINY_SWEEP,
            "--config.training.steps=20",
            "--config.objective.name=broken:Broken",
            f"--grid=objective.flag={flag},always",
            "--grid=sampling.seed=0,1",
            f"--workdir={directory}",
        ],
        PYTHONPATH=str(tmp_path),
    )
    code, output = sweep.wait()
    assert code == 1, output
    records = {path.parent.name: run_json(path.parent) for path in directory.glob("runs/*/run.json")}
    states = {name: record["state"] for name, record in records.items()}
    assert sorted(record["state"] for record in records.values()) == ["failed", "failed", "finished", "finished"], (
        states
    )
    always = records["objective.flag=always,sampling.seed=0"]
    assert always["attempts"] == 2
    assert "RuntimeError: out of luck with always" in always["error"]
    assert "objective.flag=always,sampling.seed=0 failed after 2 attempts:" in output
    assert "    RuntimeError: out of luck with always" in output
    assert "always,sampling.seed=0: attempt 1 failed (RuntimeError: out of luck with always), running" in output
    assert "its training, in objective.flag=always,sampling.seed=0, failed" in output
    assert max(record["attempts"] for record in records.values() if record["state"] == "finished") == 2
    assert "2 of 4 runs finished" in output
    # What was finished is kept; what failed is tried again, and is there once its cause is mended.
    (tmp_path / "broken.py").write_text(BROKEN.replace('self.flag == "always"', "False"))
    before = (directory / "runs" / "objective.flag=always,sampling.seed=0" / "config.json").read_text()
    code, output = start(sweep.process.args[3:], PYTHONPATH=str(tmp_path)).wait()
    assert code == 0, output
    assert "4 of 4 runs finished" in output
    assert (directory / "runs" / "objective.flag=always,sampling.seed=0" / "config.json").read_text() == before


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep that nothing happened to."""
    directory = tmp_path_factory.mktemp("undisturbed") / "sweep"
    sweep = Sweep([*LONG, *GRID, f"--workdir={directory}"], directory.with_name("output.txt"))
    code, output = sweep.wait()
    assert code == 0, output
    return directory


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True])
def test_killed_twice(group, start, tmp_path, undisturbed):
    directory = tmp_path / "sweep"
    arguments = [*LONG, *GRID, f"--workdir={directory}"]
    folder = directory / "runs" / "objective.weighting=vlb,sampling.seed=0"
    for step in (300, 1200):
        code, output = start(arguments).kill_at(folder, step, signal.SIGKILL, group)
        assert code == -signal.SIGKILL, output
    # At once: jobs of the sweep that was killed may still be saving.
    code, output = start(arguments).wait()
    assert code == 0, output
    assert timeless(directory) == timeless(undisturbed)
    assert steps(folder) == steps(undisturbed / "runs" / folder.name)
    for name in ("samples.npz", "eval.json"):
        for path in (undisturbed / "runs").glob(f"*/{name}"):
            assert path.read_bytes() == (directory / "runs" / path.parent.name / name).read_bytes()


@pytest.mark.slow
def test_jobs_of_a_sweep_that_was_killed_stop_by_themselves(start, tmp_path):
    directory = tmp_path / "sweep"
    folder = directory / "runs" / "base"
    assert start([*LONG, "--config.training.checkpoint_every=100000", f"--workdir={directory}"]).kill_at(folder, 300)
    end = time.monotonic() + 120
    while not is_free(folder) and time.monotonic() < end:
        time.sleep(0.1)
    assert run_json(folder)["state"] == "interrupted"
    (saved,) = [int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit()]
    assert 300 <= saved < 2000
