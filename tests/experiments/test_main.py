"""The command line: what a run leaves, and what it answers to mistakes."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from experiments.main import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny conditional run on digits, trained to its end."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    arguments = [
        "--config=ddpm_digits.py",
        "--config.model.channels=8",
        "--config.model.multipliers=1",
        "--config.model.attention_resolutions=8",
        "--config.denoiser.conditional=true",
        "--config.perturbation.num_steps=20",
        "--config.training.steps=12",
        "--config.training.log_every=5",
        "--config.training.sample_every=6",
        "--config.training.batch_size=8",
        "--config.training.flip=true",
        "--config.sampler.num_steps=4",
        "--config.sampling.num_images=23",
        "--config.sampling.batch_size=10",
        "--config.evaluation.num_levels=3",
        "--config.evaluation.num_examples=20",
        "--config.evaluation.features=none",
    ]
    assert main([*arguments, f"--workdir={workdir}"]) == 0
    return workdir, arguments


def test_what_a_run_leaves(finished):
    workdir, _ = finished
    samples = np.load(workdir / "samples.npz")
    assert samples["arr_0"].dtype == np.uint8
    assert samples["arr_0"].shape == (23, 8, 8, 1)
    np.testing.assert_array_equal(samples["labels"], np.arange(23) % 10)
    how = json.loads((workdir / "samples.json").read_text())
    assert (how["num_evaluations"], how["sampler"], how["variance"], how["step"]) == (4, "Ancestral", "small", 12)
    result = json.loads((workdir / "eval.json").read_text())
    assert [level["t"] for level in result["levels"]] == [1, 10, 20]
    assert result["num_examples"] == 20
    np.testing.assert_allclose(result["test_loss"], np.mean([level["loss"] for level in result["levels"]]))
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 5, 10, 12]
    assert json.loads((workdir / "config.json").read_text())["training"]["steps"] == 12
    assert any((workdir / "tensorboard").iterdir())
    for name in ("samples.png", "eval.png", "training.png", "samples/step_0000006.png", "samples/step_0000012.png"):
        assert np.ptp(np.asarray(Image.open(workdir / name))) > 0


def test_the_same_command_again_changes_nothing(finished, capsys):
    workdir, arguments = finished
    before = (workdir / "samples.npz").read_bytes()
    assert main([*arguments, f"--workdir={workdir}"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert (workdir / "samples.npz").read_bytes() == before


def test_another_sampler_on_a_finished_run(finished):
    workdir, _ = finished
    before = (workdir / "samples.npz").read_bytes()
    new = ["--config.sampler.name=annealed_langevin", "--config.sampler.steps_per_level=1"]
    assert main([f"--workdir={workdir}", "--mode=sample", *new]) == 0
    assert json.loads((workdir / "samples.json").read_text())["num_evaluations"] == 21
    kept = sorted(workdir.glob("samples.*.npz"))
    assert any(path.read_bytes() == before for path in kept)


def test_a_sampler_that_is_fitted_first_says_so_and_what_that_took(finished, capsys):
    workdir, _ = finished
    new = [
        "--config.sampler.name=analytic_dpm",
        "--config.sampler.num_steps=5",
        "--config.sampling.fitting_examples=30",
    ]
    for answer in ("fitting the sampler to 30 training examples, 5 network evaluations each", "is there already"):
        assert main([f"--workdir={workdir}", "--mode=sample", *new]) == 0
        assert answer in capsys.readouterr().out
    how = json.loads((workdir / "samples.json").read_text())
    assert (how["num_evaluations"], how["moments"]) == (5, None)
    assert how["fitting"] == {"examples": 30, "evaluations": 150}
    moments = how["fitted"]["moments"]
    assert len(moments) == 5
    before = np.load(workdir / "samples.npz")["arr_0"]
    given = f"--config.sampler.moments=({','.join(map(str, moments))})"
    assert main([f"--workdir={workdir}", "--mode=sample", *new[:2], given]) == 0
    how = json.loads((workdir / "samples.json").read_text())
    assert (how["moments"], how["fitting"]) == (moments, None)
    np.testing.assert_array_equal(np.load(workdir / "samples.npz")["arr_0"], before)


def test_samples_do_not_depend_on_the_batch_size(finished):
    workdir, _ = finished
    arrays = []
    for size in (23, 7):
        assert main([f"--workdir={workdir}", "--mode=sample", f"--config.sampling.batch_size={size}"]) == 0
        about = json.loads((workdir / "samples.json").read_text())
        assert about["num_images"] == 23
        arrays.append(np.load(workdir / "samples.npz")["arr_0"].astype(int))
    assert np.abs(arrays[0] - arrays[1]).max() <= 1


def test_eval_alone_repeats_the_same_figures(finished):
    workdir, _ = finished
    before = json.loads((workdir / "eval.json").read_text())
    assert main([f"--workdir={workdir}", "--mode=eval"]) == 0
    assert json.loads((workdir / "eval.json").read_text()) == before
    assert list(workdir.glob("eval.*.json"))


MISTAKES = [
    (["--config=ddpm_digit.py"], "ddpm_digits.py"),
    (["--config=ddpm_digits.py", "--config.training.stpes=3"], "'steps'"),
    (["--config=ddpm_digits.py", "--config.data.name=folder", "--config.data.path=missing"], "missing"),
    (["--config=ddpm_digits.py", "--config.data.name=folder", "--config.data.path={empty}"], "{empty}"),
    (["--config=ddpm_digits.py", "--config.sampler.num_steps=5000"], "1 to 1000"),
    (["--config=ddpm_digits.py", "--config.model.name=mlp", "--config.model.width=8"], "unet"),
    (["--config=ddpm_digits.py", "--config.objective.weighting=simpel"], "'simple'"),
    (["--config=ddpm_digits.py", "--config.objective.name=nowhere:Mine"], "no module"),
    (["--config=ddpm_digits.py", "--config.objective.weighting_options.variance=small"], "no option 'variance'"),
    (
        [
            "--config=ddpm_digits.py",
            "--config.objective.weighting=vlb",
            "--config.objective.weighting_options.variance=smal",
        ],
        "'small'",
    ),
    (["--config=ddpm_digits.py", "--config.denoiser.prediction=epsilon"], "'eps'"),
    (["--config=ddpm_digits.py", "--config.perturbation.name=ncsn", "--config.perturbation.num_steps=1"], "sigmas"),
    (["--config=ddpm_toy.py", "--config.training.flip=true"], "Points"),
    (
        [
            "--config=ddpm_digits.py",
            "--config.data.name=folder",
            "--config.data.path={pictures}",
            "--config.data.test_fraction=0",
        ],
        "'test'",
    ),
    (["--config=ddpm_toy.py", "--config.data.density=swissroll", "--config.denoiser.conditional=true"], "no labels"),
    (["--mode=sample", "--workdir={empty}"], "train first"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line(arguments, message, tmp_path, capsys):
    empty, pictures = tmp_path / "empty", tmp_path / "pictures"
    empty.mkdir()
    pictures.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(pictures / "one.png")
    arguments = [argument.format(empty=empty, pictures=pictures) for argument in arguments]
    if not any(argument.startswith("--workdir") for argument in arguments):
        arguments.append(f"--workdir={tmp_path / 'run'}")
    assert main(arguments) != 0
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message.format(empty=empty) in error
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    "change",
    [
        "--config.model.channels=12",
        "--config.seed=1",
        "--config.perturbation.name=ncsn",
        "--config.training.batch_size=4",
    ],
)
def test_a_folder_of_another_config(finished, change, capsys):
    workdir, arguments = finished
    before = (workdir / "config.json").read_text()
    assert main([*arguments, change, f"--workdir={workdir}"]) == 2
    error = capsys.readouterr().err
    assert "belongs to another config" in error
    assert change.removeprefix("--config.").split("=")[0].split(".name")[0] in error
    assert (workdir / "config.json").read_text() == before


def test_sampling_with_another_architecture(finished, capsys):
    workdir, _ = finished
    assert main([f"--workdir={workdir}", "--mode=sample", "--config.model.channels=12"]) == 2
    assert "model.channels is 8 there and 12 now" in capsys.readouterr().err


def test_a_folder_in_use(tiny, tmp_path, capsys):
    script = (
        "import sys, time; from pathlib import Path; from unified_diffusion.runs.folder import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert main([*tiny, f"--workdir={tmp_path}"]) == 2
        assert "in use by another run" in capsys.readouterr().err
    finally:
        holder.kill()
        holder.wait()
    assert main([*tiny, "--config.training.steps=2", f"--workdir={tmp_path}"]) == 0


DIVERGING = '''
import dataclasses
import jax.numpy as jnp
from unified_diffusion.objectives import Denoising

@dataclasses.dataclass(frozen=True, kw_only=True)
class Diverging(Denoising):
    """A loss that is not a number once the parameters have left zero, as they have after a few steps."""

    def __call__(self, denoiser, x0, key, label=None):
        loss, metrics = super().__call__(denoiser, x0, key, label)
        return jnp.where(jnp.mean(loss) < LIMIT, jnp.nan, loss), metrics
'''


def test_a_loss_that_is_not_a_number_stops_the_run(tiny, tmp_path, capsys, monkeypatch):
    (tmp_path / "diverging.py").write_text(DIVERGING.replace("LIMIT", "0.5"))
    monkeypatch.syspath_prepend(tmp_path)
    workdir = tmp_path / "run"
    arguments = [
        *tiny,
        "--config.objective.name=diverging:Diverging",
        "--config.training.steps=5000",
        "--config.training.checkpoint_every=7",
        f"--workdir={workdir}",
    ]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "is nan at step" in error
    assert error.count("\n") == 1
    step = int(error.split("is nan at step ")[1].split(":")[0])
    kept = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    # The newest checkpoint is the last multiple of 7 before the step that failed.
    assert max(kept) == (step - 1) // 7 * 7
    assert str(max(kept)) in error


MINE = '''
import dataclasses
import jax
import jax.numpy as jnp

def flat(perturbation, t, power=1.0):
    return perturbation.sigma(t) ** power

@dataclasses.dataclass(frozen=True)
class Mine:
    """The error in x0 at the middle level."""

    scale: float = 1.0

    def __call__(self, denoiser, x0, key, label=None):
        process = denoiser.perturbation
        t = process.num_steps // 2
        noise = jax.random.normal(key, x0.shape)
        error = denoiser(process.perturb(x0, t, noise), t, label).x0 - x0
        return self.scale * jnp.sum(error**2, axis=1), {}
'''


def test_an_objective_and_a_weighting_of_ones_own(tiny, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    common = [*tiny, "--config.training.steps=5"]
    own = ["--config.objective.name=mine:Mine", "--config.objective.scale=2"]
    assert main([*common, *own, f"--workdir={tmp_path / 'a'}"]) == 0
    assert json.loads((tmp_path / "a" / "config.json").read_text())["objective"] == {"name": "mine:Mine", "scale": 2.0}
    own = ["--config.objective.weighting=mine:flat", "--config.objective.weighting_options.power=2"]
    assert main([*common, *own, f"--workdir={tmp_path / 'b'}"]) == 0
    levels = json.loads((tmp_path / "b" / "eval.json").read_text())["levels"]
    # A network that has learned nothing is far from the exact score of the mixture.
    assert all(level["fisher_scaled"] > 1e-3 for level in levels)
    np.testing.assert_allclose(
        [level["weight"] for level in levels], [level["sigma"] ** 2 for level in levels], rtol=1e-5
    )


def test_two_devices_and_a_batch_they_do_not_divide(tiny, start, tmp_path):
    run = start(
        [*tiny, "--config.training.batch_size=33", f"--workdir={tmp_path}"],
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    code, output = run.wait()
    assert code == 2
    assert "config.training.batch_size = 33 does not divide over 2 devices" in output
    assert "Traceback" not in output


def test_help_answers_at_once():
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "experiments.main", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "--workdir" in done.stdout
    assert time.monotonic() - begin < 20
