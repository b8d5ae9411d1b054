"""The bound in `--mode=eval`, and learned variances from config to samples."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments.main import main

TINY = [
    "--config=ddpm_digits.py",
    "--config.model.channels=4",
    "--config.model.multipliers=1",
    "--config.model.attention_resolutions=()",
    "--config.perturbation.num_steps=20",
    "--config.training.steps=4",
    "--config.training.sample_every=0",
    "--config.training.batch_size=8",
    "--config.sampler.num_steps=3",
    "--config.sampling.num_images=4",
    "--config.evaluation.num_levels=2",
    "--config.evaluation.num_examples=10",
    "--config.evaluation.bound_examples=6",
    "--config.evaluation.batch_size=4",
]
LEARNED = [
    "--config.objective.name=hybrid",
    "--config.denoiser.variance=learned",
    "--config.denoiser.conditional=true",
    "--config.model.dropout=0.2",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny conditional run with a learned variance, and dropout."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    extra = [
        "--config.sampler.variance=learned",
        "--config.objective.time_sampler=importance",
        "--config.evaluation.bound_steps=5",
    ]
    assert main([*TINY, *LEARNED, *extra, f"--workdir={workdir}"]) == 0
    return workdir


def check(bound, steps):
    """What holds of every bound of images."""
    assert bound["unit"] == "bits/dim"
    assert bound["num_steps"] == steps
    assert bound["num_examples"] == 6
    assert bound["clip_x0"] is True
    parts = bound["prior"] + bound["diffusion"] + bound["reconstruction"]
    np.testing.assert_allclose(bound["total"], parts, rtol=1e-6)
    np.testing.assert_allclose(bound["bits_per_dim"], bound["total"], rtol=1e-12)
    assert 0 < bound["standard_error"] < bound["total"]
    levels = {name: np.array([level[name] for level in bound["diffusion_per_level"]]) for name in ("t", "cost", "rate")}
    assert len(levels["t"]) == steps
    assert levels["t"][-1] == 20
    np.testing.assert_allclose(levels["cost"][0], bound["reconstruction"], rtol=1e-6)
    np.testing.assert_allclose(levels["cost"][1:].sum(), bound["diffusion"], rtol=1e-6)
    # Before the first step the prior has been sent, before the last one all but the decoder's bits.
    np.testing.assert_allclose(levels["rate"][-1], bound["prior"], rtol=1e-6)
    np.testing.assert_allclose(levels["rate"][0], bound["total"] - bound["reconstruction"], rtol=1e-6)
    distortion = [level["distortion"] for level in bound["diffusion_per_level"]]
    assert 0 < distortion[0] < distortion[-1] <= 255


def test_what_eval_says_of_the_bound(finished):
    bound = json.loads((finished / "eval.json").read_text())["bound"]
    check(bound, 5)
    assert bound["variance"] == "learned"
    assert json.loads((finished / "samples.json").read_text())["variance"] == "learned"
    for name in ("eval.png", "bound.png", "rate_distortion.png"):
        assert np.ptp(np.asarray(Image.open(finished / name))) > 0


def test_another_variance_and_more_steps_on_a_finished_run(finished):
    before = json.loads((finished / "eval.json").read_text())["bound"]
    change = ["--config.evaluation.bound_variance=small", "--config.evaluation.bound_steps=999"]
    assert main([f"--workdir={finished}", "--mode=eval", *change]) == 0
    bound = json.loads((finished / "eval.json").read_text())["bound"]
    check(bound, 20)
    assert bound["variance"] == "small"
    assert bound["total"] != before["total"]
    np.testing.assert_allclose(bound["prior"], before["prior"], rtol=1e-6)
    assert main([f"--workdir={finished}", "--mode=eval", "--config.evaluation.bound=false"]) == 0
    assert "bound" not in json.loads((finished / "eval.json").read_text())


MISTAKES = [
    (["--config.objective.name=hybrid"], "set config.denoiser.variance=learned"),
    (
        ["--config.objective.name=variational", "--config.objective.variance=learned"],
        "set config.denoiser.variance=learned",
    ),
    (["--config.sampler.variance=learned"], "the ancestral sampler asks for a learned variance"),
    (["--config.evaluation.bound_variance=learned"], "config.evaluation.bound_variance asks for a learned variance"),
    (["--config.evaluation.bound_variance=big"], "unknown variance 'big'"),
    (["--config.denoiser.variance=learnt"], "did you mean 'learned'"),
    (["--config.objective.name=variational", "--config.objective.variance=larg"], "did you mean 'large'"),
    (["--config.objective.name=hybrid", "--config.objective.vlb_weight=-1"], "vlb_weight = -1.0"),
    (["--config.objective.name=test_bound:Scalar"], "gives a loss of shape () for 2 examples"),
]


class Scalar:
    """An objective that forgets that losses are one per example."""

    def __call__(self, denoiser, x0, key, label=None):
        return denoiser(x0, 1, label).x0.mean(), {}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_before_training_starts(arguments, message, tmp_path, capsys):
    assert main([*TINY, *arguments, f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_decoder_of_grey_levels_is_not_for_points(tmp_path, capsys):
    assert main(["--config=ddpm_toy.py", "--config.objective.name=variational", f"--workdir={tmp_path}"]) == 2
    assert "config.objective.discretized = True is for images" in capsys.readouterr().err
