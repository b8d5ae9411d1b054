"""Pictures of samples on their way: strips.png and sampling.gif."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from unified_diffusion.errors import UserError
from unified_diffusion.runs.build import create
from unified_diffusion.runs.config import read_config, resolve
from unified_diffusion.runs.sampling import draw, write_samples
from unified_diffusion.runs.trajectory import trajectory
from unified_diffusion.visualization import image_grid

DIGITS = [("model.channels", "8"), ("model.multipliers", "(1,)"), ("model.attention_resolutions", "()")]
DIGITS += [("denoiser.conditional", "True"), ("sampler.num_steps", "6")]
TOY = [("model.width", "8"), ("model.depth", "1"), ("sampler.num_steps", "6")]
SMALL = [("sampling.num_images", "12"), ("sampling.batch_size", "12"), ("sampling.frames", "3")]


def made(config, shape, *overrides):
    resolved = resolve(read_config(config), [*SMALL, *overrides])
    experiment = create(resolved, {"shape": shape, "num_classes": 10})
    return experiment, experiment.model.denoiser(experiment.params)


def test_strips_end_with_the_samples(tmp_path):
    experiment, denoiser = made("ddpm_digits.py", (8, 8, 1), *DIGITS)
    write_samples(experiment, denoiser, 0, tmp_path, None)
    samples = np.load(tmp_path / "samples.npz")["arr_0"]
    strips = np.asarray(Image.open(tmp_path / "strips.png"))
    last = image_grid(samples[:10], columns=1)
    assert strips.shape == (last.shape[0], 4 * (32 + 2) + 2, 3)  # noise, and three frames
    assert np.abs(strips[:, -last.shape[1] :].astype(int) - last).max() <= 1
    with Image.open(tmp_path / "sampling.gif") as gif:
        assert (gif.n_frames, gif.info["loop"]) == (4, 0)
        gif.seek(3)
        assert gif.info["duration"] == 1500


def test_other_frames_keep_the_previous_ones(tmp_path, capsys):
    experiment, denoiser = made("ddpm_digits.py", (8, 8, 1), *DIGITS)
    write_samples(experiment, denoiser, 0, tmp_path, None)
    before = (tmp_path / "strips.png").read_bytes()
    write_samples(experiment, denoiser, 0, tmp_path, None)
    assert "is there already" in capsys.readouterr().out
    off = dataclasses.replace(experiment, sampling=dataclasses.replace(experiment.sampling, frames=0))
    write_samples(off, denoiser, 0, tmp_path, None)
    assert (tmp_path / "strips.1.png").read_bytes() == before
    assert (tmp_path / "sampling.1.gif").exists()
    assert not (tmp_path / "strips.png").exists()
    assert not (tmp_path / "sampling.gif").exists()


def test_points_have_panels(tmp_path):
    experiment, denoiser = made("ddpm_toy.py", (2,), *TOY)
    write_samples(experiment, denoiser, 0, tmp_path, None)
    strips = np.asarray(Image.open(tmp_path / "strips.png"))
    assert strips.shape[1] > 3 * strips.shape[0]
    with Image.open(tmp_path / "sampling.gif") as gif:
        assert gif.n_frames == 4


def test_noise_of_any_size_is_shown_with_variance_one():
    """NCSN's prior is as wide as its widest level."""
    under = [("sampler.name", "annealed_langevin"), ("sampler.steps_per_level", "1")]
    under += [("perturbation.name", "ncsn"), ("perturbation.sigma_max", "30.0")]
    experiment, denoiser = made("ddpm_toy.py", (2,), *TOY[:2], *under)
    x, t = trajectory(experiment, denoiser, experiment.sampler, 500)
    assert np.std(x[0]) == pytest.approx(1, abs=0.1)
    samples, _ = draw(experiment, denoiser, 500, experiment.sampler)
    assert t[-1] == 0
    np.testing.assert_allclose(x[-1], samples, rtol=1e-4, atol=1e-4)


def test_a_negative_number_of_frames_is_refused():
    with pytest.raises(UserError, match="frames = -1"):
        made("ddpm_toy.py", (2,), ("sampling.frames", "-1"))
