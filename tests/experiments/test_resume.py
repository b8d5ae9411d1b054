"""A run that was killed ends in the same bits as one that was not."""

import json
import signal

import jax
import numpy as np
import pytest
from tiny_runs import TINY

from experiments.main import main
from unified_diffusion.runs import config as configs
from unified_diffusion.runs.build import restored

STEPS = [
    "--config.training.steps=1200",
    "--config.training.checkpoint_every=100",
    "--config.training.sample_every=600",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert main([*TINY, *STEPS, f"--workdir={workdir}"]) == 0
    return workdir


def final_state(workdir):
    config = json.loads((workdir / "config.json").read_text())
    return restored(config, workdir)[1]


def assert_same_run(workdir, other):
    """Parameters, average, optimizer, step, metrics, samples and evaluation are equal; times are not compared."""
    jax.tree.map(np.testing.assert_array_equal, final_state(workdir), final_state(other))
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (workdir, other)]
    timeless = [
        [{k: v for k, v in json.loads(line).items() if k not in ("time", "images_per_second")} for line in part]
        for part in lines
    ]
    assert timeless[0] == timeless[1]
    np.testing.assert_array_equal(*(np.load(folder / "samples.npz")["arr_0"] for folder in (workdir, other)))
    for name in ("eval.json", "samples.json", "config.json"):
        assert (workdir / name).read_text() == (other / name).read_text()


def test_killed_twice(tiny, start, tmp_path, undisturbed):
    workdir = tmp_path / "run"
    arguments = [*tiny, *STEPS, f"--workdir={workdir}"]
    assert start(arguments).kill_at(workdir, 140)[0] == -signal.SIGKILL
    assert start(arguments).kill_at(workdir, 640)[0] == -signal.SIGKILL
    code, output = start(arguments).wait()
    assert code == 0, output
    assert_same_run(workdir, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_asked_to_stop(number, tiny, start, tmp_path, undisturbed):
    workdir = tmp_path / "run"
    arguments = [*tiny, *STEPS, f"--workdir={workdir}"]
    code, output = start(arguments).kill_at(workdir, 200, number)
    assert code == 128 + number, output
    assert f"{number.name}: saved step" in output
    assert "Traceback" not in output
    # It stopped between two checkpoints' steps, and lost nothing.
    step = int(final_state(workdir).step)
    assert 200 <= step < 1200
    assert main(arguments) == 0
    assert_same_run(workdir, undisturbed)


def test_a_longer_run_goes_on(tiny, tmp_path, undisturbed):
    workdir = tmp_path / "run"
    short = [*tiny, *STEPS[1:], "--config.optimizer.schedule=constant", f"--workdir={workdir}"]
    assert main([*short, "--config.training.steps=50"]) == 0
    assert main([*short, "--config.training.steps=80"]) == 0
    assert int(final_state(workdir).step) == 80
    assert (workdir / "samples.1.npz").exists()


def test_damaged_newest_checkpoint_is_set_aside(tiny, tmp_path, undisturbed, caplog):
    import shutil

    workdir = tmp_path / "run"
    shutil.copytree(undisturbed, workdir)
    for path in (workdir / "checkpoints" / "1200" / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:-20])
    assert main([*tiny, *STEPS, f"--workdir={workdir}"]) == 0
    assert "step 1200 cannot be read" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, final_state(workdir), final_state(undisturbed))


def test_configs_are_equal_files(undisturbed):
    config = json.loads((undisturbed / "config.json").read_text())
    assert configs.resolve(config) == config
