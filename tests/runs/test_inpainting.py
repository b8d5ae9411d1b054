"""`--mode=inpaint`: what is known of test images, and their completions."""

import json
import shutil
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.main import main
from unified_diffusion import Denoiser, UserError
from unified_diffusion.codecs import codec_for
from unified_diffusion.data import Dataset
from unified_diffusion.perturbations import DDPM
from unified_diffusion.runs.inpainting import known_part, write_inpainting
from unified_diffusion.runs.settings import Inpainting, Sampling
from unified_diffusion.samplers import Ancestral, DPMSolver


def network(x, noise_label, label=None, *, rngs=None):
    return jnp.tanh(x) / 4 if label is None else 0 * x + label[:, None, None, None] / 12.75


SAMPLER = Ancestral(num_steps=3)


def inpaint(workdir, shape=(4, 4, 3), sampler=SAMPLER, conditional=False, seed=0, **settings):
    """write_inpainting for a network of one line, on images of classes 0 to 9."""
    process = DDPM(20, "cosine")
    experiment = types.SimpleNamespace(
        codec=codec_for(shape),
        shape=shape,
        sampler=sampler,
        sampled_under=process,
        for_sampling=lambda denoiser: denoiser,
        labels=lambda number: np.zeros(number, np.int32) if conditional else None,
        unguided=lambda denoiser: denoiser,
        classifier=None,
        sampling=Sampling(seed=seed),
        inpainting=Inpainting(**{"masked_images": 3, "completions": 2, **settings}),
    )
    examples = np.random.default_rng(0).integers(60, 196, (10, *shape), dtype=np.uint8)
    if len(shape) == 1:
        examples = examples.astype(np.float32)
    if conditional:
        examples[:, 0, 0] = 10 * np.arange(10)[:, None]
    dataset = Dataset(examples, np.arange(10, dtype=np.int32))
    write_inpainting(experiment, Denoiser(network, process, "x0"), 7, dataset, workdir)


def images(workdir, side=4, columns=3):
    """The picture's images `[row, column, side, side, 3]`, which are 32 pixels wide with gaps of 2."""
    picture = np.asarray(Image.open(workdir / "inpainting.png"), np.float64)[2:, 2:]
    rows = picture.shape[0] // 34
    picture = picture.reshape(rows, 34, columns, 34, 3)[:, :32, :, :32].transpose(0, 2, 1, 3, 4)
    return picture[:, :, :: 32 // side, :: 32 // side]


def test_a_finished_run(digits_run, tmp_path, capsys):
    shutil.copytree(digits_run, tmp_path, dirs_exist_ok=True)
    command = ["--mode=inpaint", f"--workdir={tmp_path}", "--config.inpainting.masked_images=3"]
    change = ["--config.inpainting.completions=2", "--config.inpainting.resamplings=2"]
    assert main([*command, *change]) == 0
    output = capsys.readouterr().out
    assert "2 completions of each of 3 test images (mask 'half'), 5 network evaluations each" in output
    original, known, *completions = images(tmp_path, side=8)
    assert len(completions) == 2
    assert np.all(known[:, 4:] == 128)
    for row in (known, *completions):
        np.testing.assert_array_equal(row[:, :4], original[:, :4])
    assert np.all(np.any(completions[0][:, 4:] != completions[1][:, 4:], axis=(1, 2, 3)))
    about = json.loads((tmp_path / "inpainting.json").read_text())
    assert (about["step"], about["num_evaluations"], about["resamplings"]) == (4, 5, 2)
    assert main([*command, "--config.inpainting.mask=grey"]) == 2
    assert "these images have none: take 'half' or 'centre'" in capsys.readouterr().err
    assert main([*command, "--config.inpainting.mask=left"]) == 2
    assert "unknown inpainting.mask 'left'" in capsys.readouterr().err


def test_grey_pictures_get_colours(tmp_path):
    inpaint(tmp_path, mask="grey")
    original, known, *completions = images(tmp_path)
    assert np.ptp(known, axis=-1).max() == 0
    for row in (known, *completions):
        # each of the three colours is rounded to a whole number
        np.testing.assert_allclose(row.mean(-1), original.mean(-1), atol=1)
    assert np.ptp(completions[0], axis=-1).max() > 20


def test_each_image_is_completed_as_one_of_its_class(tmp_path):
    inpaint(tmp_path, conditional=True)
    original, _, *completions = images(tmp_path)
    for row in completions:
        # The first pixel tells ten times the class, and the network makes it so many levels above the middle.
        np.testing.assert_allclose(row[:, 2:], np.broadcast_to(original[:, :1, :1] + 127.5, row[:, 2:].shape), atol=0.6)


def test_a_picture_that_is_there_is_kept(tmp_path, capsys):
    inpaint(tmp_path)
    first = (tmp_path / "inpainting.png").read_bytes()
    inpaint(tmp_path)
    assert "is there already, made in the same way" in capsys.readouterr().out
    inpaint(tmp_path, seed=1)
    assert (tmp_path / "inpainting.1.png").read_bytes() == first != (tmp_path / "inpainting.png").read_bytes()
    assert json.loads((tmp_path / "inpainting.1.json").read_text())["seed"] == 0


@pytest.mark.parametrize(("shape", "missing"), [((8, 8, 1), (4, 4)), ((5, 7, 3), (3, 3)), ((32, 32, 3), (16, 16))])
def test_all_but_the_centre(shape, missing):
    mask, basis = known_part("centre", shape)
    assert basis is None
    assert mask.shape == (*shape[:2], 1)
    rows, columns, _ = np.nonzero(~mask)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == missing
    assert len(rows) == missing[0] * missing[1]
    np.testing.assert_array_equal(mask, mask[::-1, ::-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (2,)}, "these data are points"),
        ({"shape": (4, 4, 1), "mask": "grey"}, "have none"),
        ({"masked_images": 11}, "the test split has only 10"),
        ({"resamplings": 0}, "inpainting.resamplings = 0"),
        ({"sampler": DPMSolver()}, "DPMSolver remembers earlier steps"),
    ],
)
def test_mistakes(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        inpaint(tmp_path, **settings)
    assert not list(tmp_path.iterdir())
