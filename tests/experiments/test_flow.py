"""The probability flow and the latents on a finished run: `--mode=sample`, `--mode=eval`, `--mode=interpolate`."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.main import main

# Without the metrics of samples, which tests/experiments/test_sample_evaluation.py looks at.
PLAIN = ["--config.evaluation.features=none", "--config.evaluation.neighbours=0"]


@pytest.fixture(scope="module")
def finished(digits_run, tmp_path_factory):
    return shutil.copytree(digits_run, tmp_path_factory.mktemp("finished") / "run")


def test_the_likelihood_of_eval(finished):
    assert "likelihood" not in json.loads((finished / "eval.json").read_text())
    loose = ["--config.evaluation.flow_rtol=0.01", "--config.evaluation.flow_atol=0.01"]
    likelihood = ["--config.evaluation.flow_examples=6", *loose]
    assert main([f"--workdir={finished}", "--mode=eval", *likelihood, *PLAIN]) == 0
    found = json.loads((finished / "eval.json").read_text())["likelihood"]
    assert (found["unit"], found["num_examples"], found["dequantization"]) == ("bits/dim", 6, "centred")
    assert found["total"] == found["bits_per_dim"]
    assert 0 < found["standard_error"] < abs(found["total"])
    assert 10 < found["evaluations"]["mean"] <= found["evaluations"]["max"]


def test_samples_say_what_they_took(finished, capsys):
    arguments = [f"--workdir={finished}", "--mode=sample", "--config.sampler.name=probability_flow"]
    arguments += ["--config.sampler.rtol=0.05", "--config.sampler.atol=0.05"]
    assert main(arguments) == 0
    about = json.loads((finished / "samples.json").read_text())
    assert about["num_evaluations"] == 6002
    measured = about["measured_evaluations"]
    assert 2 < measured["min"] <= measured["mean"] <= measured["max"] < 6002
    assert "at most 6,002 network evaluations each" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "is there already" in capsys.readouterr().out


def test_interpolate(finished):
    few = [
        "--config.interpolation.pairs=2",
        "--config.interpolation.pair_images=3",
        "--config.interpolation.inversion_steps=30",
    ]
    assert main([f"--workdir={finished}", "--mode=interpolate", *few]) == 0
    # two rows of five 8×8 digits, each four times as large and 2 pixels apart
    assert Image.open(finished / "interpolation.png").size == (5 * 34 + 2, 2 * 34 + 2)
    about = json.loads((finished / "interpolation.json").read_text())
    assert (about["pairs"], about["num_steps"], about["perturbation"]) == (2, 30, "Cosine")
    assert np.isfinite(about["reconstruction_error"])
