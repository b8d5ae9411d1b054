"""Runs in continuous time from the command line: they train, draw samples and measure."""

import json

import numpy as np
import pytest

from experiments.main import main
from unified_diffusion.data import toy

SHORT = [
    "--config=ddpm_toy.py",
    "--config.data.density=gaussians_unequal",
    "--config.model.width=64",
    "--config.model.depth=2",
    "--config.training.steps=800",
    "--config.training.batch_size=128",
    "--config.training.ema_decay=0.98",
    "--config.training.log_every=300",
    "--config.training.sample_every=0",
    "--config.optimizer.learning_rate=5e-3",
    "--config.sampler.num_steps=100",
    "--config.sampler.spacing=log_snr",
    "--config.sampling.num_images=2000",
    "--config.sampling.batch_size=2000",
    "--config.evaluation.num_levels=5",
    "--config.evaluation.num_examples=500",
    "--config.evaluation.bound_steps=20",
    "--config.evaluation.bound_examples=200",
    "--config.evaluation.features=none",
    "--config.evaluation.neighbours=0",
]
slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vp", ["--config.objective.time_sampler=low_discrepancy", "--config.model.noise_embedding=fourier"]),
        pytest.param("sub_vp", ["--config.objective.time_sampler=importance"], marks=slow),
        pytest.param("ve", ["--config.objective.time_sampler=lognormal"], marks=slow),
        pytest.param("cosine", ["--config.denoiser.prediction=v"], marks=slow),
    ],
)
def test_a_short_run_finds_the_components(name, settings, tmp_path):
    arguments = [*SHORT, *settings, f"--config.perturbation.name={name}", f"--workdir={tmp_path}"]
    assert main(arguments) == 0
    weights, means, _ = toy.mixture("gaussians_unequal")
    samples = np.load(tmp_path / "samples.npz")["arr_0"]
    nearest = np.argmin(np.linalg.norm(samples[:, None] - means, axis=2), axis=1)
    shares = np.bincount(nearest, minlength=len(weights)) / len(samples)
    np.testing.assert_allclose(shares, weights, atol=0.08)
    for component, mean in enumerate(means):
        assert np.linalg.norm(np.median(samples[nearest == component], axis=0) - mean) < 0.05

    result = json.loads((tmp_path / "eval.json").read_text())
    t, error = (np.array([level[key] for level in result["levels"]]) for key in ("t", "error"))
    np.testing.assert_allclose(t[-1], 1)
    assert np.all(np.diff(t) > 0)
    assert np.all(
        error[[0, -1]] < [1.1, 0.1]
    )  # no better than chance where noise is small, and at the end all is noise
    assert all(level["fisher_scaled"] < 0.1 for level in result["levels"])
    assert np.isfinite(result["bound"]["total"])
    assert len(result["bound"]["diffusion_per_level"]) == 20

    if name != "vp":
        return
    assert main(["--mode=sample", f"--workdir={tmp_path}", "--config.sampler.num_steps=7"]) == 0
    assert json.loads((tmp_path / "samples.json").read_text())["num_evaluations"] == 7
