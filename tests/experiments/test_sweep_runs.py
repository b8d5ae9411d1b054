"""Sweeps that are run: what they leave, what a second command keeps, and what it refuses."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from tiny_sweeps import TINY_SWEEP, run_json

from experiments import main as single
from experiments.sweep.__main__ import main
from unified_diffusion.keys import named_key
from unified_diffusion.runs.build import restored
from unified_diffusion.runs.sections import build

STEPS = "--config.training.steps=20"
GRID = ["--grid=under.name=none,ncsn", "--config.sampler.num_steps=4"]
FIRST, SECOND = "under.name=None", "under.name=ncsn"


def sweep(directory, *arguments):
    """The exit code of a sweep in this process."""
    return main([*TINY_SWEEP, STEPS, "--cluster=debug", f"--workdir={directory}", *arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A sweep of one training, sampled in two ways."""
    directory = tmp_path_factory.mktemp("sweep") / "sweep"
    assert sweep(directory, *GRID) == 0
    return directory


def test_what_a_sweep_leaves(finished):
    for name in (FIRST, SECOND):
        folder = finished / "runs" / name
        record = run_json(folder)
        assert (record["state"], record["attempts"], record["error"]) == ("finished", 1, None)
        assert record["trained_in"] == (None if name == FIRST else FIRST)
        assert (record["seconds"]["training"] > 0) == (name == FIRST)
        assert record["seconds"]["sampling"] > 0
        assert record["device"] == f"{jax.device_count()} x cpu"
        assert (folder / "checkpoints").exists() == (name == FIRST)
        assert (folder / "eval.json").exists()
    lines = [json.loads(line) for line in (finished / "runs" / FIRST / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["images_per_second"] for line in lines]
    assert run_json(finished / "runs" / FIRST)["images_per_second"] == np.median(speeds)
    about = json.loads((finished / "sweep.json").read_text())
    assert [run["name"] for run in about["runs"]] == [FIRST, SECOND]
    assert about["runs"][1] == {"name": SECOND, "overrides": {"under.name": "ncsn"}, "trained_in": FIRST}
    assert about["command"].startswith("python -m experiments.sweep --config=ddpm_toy.py")
    assert (finished / "summary.csv").read_text().count("\n") == 3
    assert (finished / "index.html").exists()


def test_a_shared_training_is_sampled_as_it_would_be_by_itself(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished / "runs" / FIRST, run)
    assert single.main(["--mode=sample", f"--workdir={run}", "--config.under.name=ncsn"]) == 0
    for file in ("samples.json", "samples.npz"):
        assert (run / file).read_bytes() == (finished / "runs" / SECOND / file).read_bytes()


def test_a_run_that_shares_a_training_is_sampled_again(finished, tmp_path):
    shutil.copytree(finished / "runs", tmp_path / "runs")
    run = tmp_path / "runs" / SECOND
    assert single.main(["--mode=sample", f"--workdir={run}", "--config.sampling.seed=1"]) == 0
    new, old = (np.load(run / name)["arr_0"] for name in ("samples.npz", "samples.1.npz"))
    assert new.shape == old.shape
    assert not np.array_equal(new, old)


def test_samples_under_another_perturbation(finished):
    folder = finished / "runs" / SECOND
    about = json.loads((folder / "samples.json").read_text())
    assert about["perturbation"] == "DDPM"
    assert (about["under"]["name"], about["under"]["num_steps"], about["under"]["sigma_max"]) == ("NCSN", 50, 5.0)
    config = json.loads((folder / "config.json").read_text())
    trainer = finished / "runs" / run_json(folder)["trained_in"]
    experiment, state = restored(config, trainer)
    denoiser = experiment.model.denoiser(state.ema).under(build("under", config["under"]))
    key = named_key(0, "samples")
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(np.arange(16))
    np.testing.assert_allclose(
        experiment.sampler(denoiser, keys, (16, 2)), np.load(folder / "samples.npz")["arr_0"][:16], rtol=1e-4, atol=1e-4
    )
    # The evaluation stays under the perturbation that was trained, and so is that of all runs of this training.
    levels = [json.loads((folder.parent / run / "eval.json").read_text())["levels"] for run in (folder, trainer)]
    assert levels[0] == levels[1]


def test_the_same_command_again_does_nothing(finished, capsys):
    def stamps():
        return {path: path.stat().st_mtime_ns for path in (finished / "runs").rglob("*") if path.is_file()}

    before = stamps()
    assert sweep(finished, *GRID) == 0
    assert "2 of 2 runs finished" in capsys.readouterr().out
    assert {path: stamp for path, stamp in stamps().items() if path.name != ".lock"} == {
        path: stamp for path, stamp in before.items() if path.name != ".lock"
    }


def test_a_changed_command(finished, tmp_path, capsys):
    directory = tmp_path / "sweep"
    shutil.copytree(finished, directory)
    kept = directory / "runs" / FIRST
    # Another seed is another training: refused, before anything is written.
    before = (directory / "sweep.json").read_text()
    assert sweep(directory, *GRID, "--config.seed=1") == 2
    assert "belongs to another config: seed is 0 there and 1 now" in capsys.readouterr().err
    assert (directory / "sweep.json").read_text() == before
    # Fewer runs leave the others where they are, and say so; more samples are drawn anew, from the same training.
    assert sweep(directory, "--grid=under.name=none", GRID[1], "--config.sampling.num_images=8") == 0
    printed = capsys.readouterr().out
    assert f"in the folder, but not in this sweep: {SECOND}\n" in printed
    assert "config.sampling.num_images has changed; runs that go on with the new one: 1\n" in printed
    assert "1 of 1 runs finished" in printed
    assert len(np.load(kept / "samples.npz")["arr_0"]) == 8
    assert len(np.load(kept / "samples.1.npz")["arr_0"]) == 40
    assert run_json(kept)["attempts"] == 2
    assert (kept / "metrics.jsonl").read_text() == (finished / "runs" / FIRST / "metrics.jsonl").read_text()


def test_another_sweep_in_the_folder_shares_what_is_trained_there(finished, tmp_path, capsys):
    directory = tmp_path / "sweep"
    shutil.copytree(finished, directory)
    third = directory / "runs" / "under.name=ddpm"
    # The run with the checkpoints is not in this sweep; the one that shared its training knows where they are.
    again = ["--grid=under.name=ncsn,ddpm", GRID[1]]
    assert sweep(directory, *again) == 0
    assert run_json(third)["trained_in"] == SECOND
    assert not (third / "checkpoints").exists()
    assert single.main(["--mode=eval", f"--workdir={third}"]) == 0
    # Without them, what to do about it is said.
    shutil.rmtree(third)
    shutil.rmtree(directory / "runs" / FIRST / "checkpoints")
    capsys.readouterr()
    assert sweep(directory, *again) == 1
    wanted = directory / "runs" / SECOND / "run.json"
    assert f"its checkpoints are gone: delete {wanted} and the sweep trains it anew" in capsys.readouterr().err
    wanted.unlink()
    assert sweep(directory, *again) == 0
    assert (directory / "runs" / SECOND / "checkpoints").exists()


def test_a_folder_that_another_sweep_is_in(finished, capsys):
    script = (
        "import sys, time; from pathlib import Path; from unified_diffusion.runs.folder import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(finished)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert sweep(finished, *GRID) == 2
        assert "is in use by another sweep" in capsys.readouterr().err
    finally:
        holder.kill()
        holder.wait()


def test_a_folder_of_a_single_run(finished, capsys):
    folder = finished / "runs" / FIRST
    assert sweep(folder) == 2
    assert "holds a single run" in capsys.readouterr().err
