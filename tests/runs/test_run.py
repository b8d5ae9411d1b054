"""`ud.open_run` and `ud.train`: a run from Python gives what the command line gives."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import unified_diffusion as ud
from experiments.main import main
from unified_diffusion.data import to_model
from unified_diffusion.runs.config import differences, read_config, resolve
from unified_diffusion.runs.folder import check_claim

OLDER = Path(__file__).parent / "older"
# The settings of the run whose files are in `older`.
TINY = {
    "model.channels": 4,
    "model.multipliers": (1,),
    "model.attention_resolutions": (),
    "perturbation.num_steps": 20,
    "training.steps": 3,
    "training.sample_every": 0,
    "training.checkpoint_every": 2,
    "training.batch_size": 8,
    "sampler.num_steps": 4,
    "sampling.num_images": 6,
    "interpolation.pairs": 2,
    "inpainting.masked_images": 3,
    "evaluation.bound": False,
    "evaluation.num_levels": 1,
    "evaluation.num_examples": 4,
    "evaluation.features": "none",
    "evaluation.neighbours": 0,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run on digits, trained from Python."""
    return ud.train("ddpm_digits.py", tmp_path_factory.mktemp("trained") / "run", TINY)


def copied(run, folder):
    shutil.copytree(run.folder, folder)
    return folder


def test_what_a_run_knows(run):
    assert repr(run) == f"Run({str(run.folder)!r}, step=3)"
    assert run.step == 3
    assert run.config == json.loads((run.folder / "config.json").read_text())
    assert run.config["model"]["channels"] == 4
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal(run.metrics["step"], [1, 3])
    np.testing.assert_array_equal(run.metrics["loss"], [line["loss"] for line in lines])
    assert (len(run.data()), len(run.data("test"))) == (1498, 299)


def test_the_denoiser_has_the_averaged_parameters(run):
    x, t = to_model(run.data("test").examples[:2]), 7
    averaged, last = (run.experiment.model.denoiser(params)(x, t).eps for params in (run.state.ema, run.state.params))
    np.testing.assert_array_equal(run.denoiser(x, t).eps, averaged)
    assert not np.array_equal(averaged, last)


def test_the_samples_are_those_of_the_command(run, tmp_path):
    own = np.load(run.folder / "samples.npz")["arr_0"]
    np.testing.assert_array_equal(run.sample(), own)
    np.testing.assert_array_equal(run.sample(4, batch_size=3), own[:4])
    workdir = copied(run, tmp_path / "run")
    few = ["--mode=sample", f"--workdir={workdir}", "--config.sampling.num_images=5", "--config.sampling.seed=2"]
    assert main([*few, "--config.sampler.name=annealed_langevin", "--config.sampling.ema=false"]) == 0
    drawn = run.sample(5, sampler="annealed_langevin", seed=2, ema=False)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, np.load(workdir / "samples.npz")["arr_0"])


def test_a_sampler_of_ones_own_and_one_that_is_fitted(run, tmp_path):
    assert run.sample(2, sampler=ud.samplers.DDIM(num_steps=3)).shape == (2, 8, 8, 1)
    workdir = copied(run, tmp_path / "run")
    few = ["--config.sampler.num_steps=3", "--config.sampling.num_images=2", "--config.sampling.fitting_examples=7"]
    assert main(["--mode=sample", f"--workdir={workdir}", "--config.sampler.name=analytic_dpm", *few]) == 0
    drawn = run.sample(2, sampler=ud.samplers.AnalyticDPM(num_steps=3), fitting_examples=7)
    np.testing.assert_array_equal(drawn, np.load(workdir / "samples.npz")["arr_0"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "dim"}, "unknown sampler 'dim'"),
        ({"sampler": 3}, "give a sampler"),
        ({"label": 3}, "knows of classes"),
        ({"number": 0}, r"sampling\.num_images = 0"),
        ({"guidance": 2.0}, r"unknown field 'guidance' of config\.sampling"),
    ],
)
def test_mistakes_in_samples(run, settings, message):
    with pytest.raises(ud.UserError, match=message):
        run.sample(**settings)


def test_mistakes_in_folders(run, tmp_path):
    with pytest.raises(ud.UserError, match="holds no run"):
        ud.open_run(tmp_path)
    for name in ("config.json", "config_source.json", "data.json"):
        shutil.copy(run.folder / name, tmp_path)
    with pytest.raises(ud.UserError, match="has no checkpoint yet"):
        ud.open_run(tmp_path)


def test_a_training_goes_on_and_refuses_another_config(run, capsys):
    assert ud.train(run.config, run.folder).step == 3
    assert "is there already, made in the same way" in capsys.readouterr().out
    with pytest.raises(ud.UserError, match="belongs to another config: model.channels is 4 there and 8 now"):
        ud.train("ddpm_digits.py", run.folder, {**TINY, "model.channels": 8})


def test_points_from_settings_of_ones_own(tmp_path):
    settings = read_config("ddpm_toy.py")
    settings["model"] |= {"width": 8, "depth": 1}
    settings["training"] |= {"steps": 2, "batch_size": 8, "sample_every": 0}
    settings["sampling"] = {"num_images": 3}
    settings["evaluation"] = {"num_levels": 1, "bound": False, "features": "none", "neighbours": 0}
    settings["sampler"]["ancestral"]["num_steps"] = 4
    run = ud.train(settings, str(tmp_path / "run"))
    samples = run.sample(3)
    assert samples.dtype == np.float32
    assert samples.shape == (3, 2)
    np.testing.assert_array_equal(samples, np.load(tmp_path / "run" / "samples.npz")["arr_0"])


def test_a_run_of_the_layout_before_opens_again(run, tmp_path):
    """config.json as runs had it when the settings of interpolation and inpainting stood in `sampling`."""
    workdir = copied(run, tmp_path / "run")
    for name in ("config.json", "config_source.json"):
        shutil.copy(OLDER / name, workdir)
    older = json.loads((OLDER / "config.json").read_text())
    assert older["sampling"]["pairs"] == 2
    again = ud.open_run(workdir)
    assert again.config == run.config
    jax.tree.map(np.testing.assert_array_equal, again.state, run.state)
    assert main(["--mode=interpolate", f"--workdir={workdir}", "--config.sampling.inversion_steps=5"]) == 0
    about = json.loads((workdir / "interpolation.json").read_text())
    assert (about["pairs"], about["num_steps"]) == (2, 5)
    assert check_claim(workdir, run.config) == {}


def test_the_layout_before_is_still_understood():
    older = json.loads((OLDER / "config.json").read_text())
    config = resolve(older)
    assert config["interpolation"] == {"pairs": 2, "pair_images": 9, "inversion_steps": 250}
    assert config["inpainting"] == {"mask": "half", "masked_images": 3, "completions": 4, "resamplings": 5}
    assert not set(config["sampling"]) & {*config["interpolation"], *config["inpainting"]}
    assert differences(older, config) == differences(config, older) == {}
    changed = resolve(older, [("sampling.pairs", "4"), ("sampling.mask", "grey"), ("inpainting.completions", "2")])
    assert differences(older, changed) == {
        "interpolation.pairs": (2, 4),
        "inpainting.mask": ("half", "grey"),
        "inpainting.completions": (4, 2),
    }
    # In a file that sets both, the new place counts.
    older["interpolation"] = {"pairs": 3}
    assert resolve(older)["interpolation"]["pairs"] == 3
    with pytest.raises(ud.UserError, match=r"interpolation\.pairs = 0"):
        ud.runs.settings.Interpolation(pairs=0)


def test_the_package_imports_without_what_runs_need():
    code = (
        "import sys, unified_diffusion as ud; assert 'train' in dir(ud); "
        "print([name for name in ('orbax', 'grain', 'tensorflow_datasets', 'matplotlib', 'experiments') "
        "if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'opne_run'"):
        _ = ud.opne_run
