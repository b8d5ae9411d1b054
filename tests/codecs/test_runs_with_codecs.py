"""The codec of a run: the config's section, older runs, codecs of one's own, and samples that are not finite."""

import dataclasses
import json
import logging
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import unified_diffusion as ud
from unified_diffusion.codecs import Images, Points
from unified_diffusion.data import Dataset
from unified_diffusion.errors import NotFinite
from unified_diffusion.evaluation import dataset_bound
from unified_diffusion.objectives import Denoising
from unified_diffusion.runs import commands
from unified_diffusion.runs.build import create, exact_mixture, outline
from unified_diffusion.runs.config import differences, read_config, resolve
from unified_diffusion.runs.folder import read_metrics
from unified_diffusion.samplers import DDIM
from unified_diffusion.training import initial_state, make_train_step

TOY = {
    "model.width": 16,
    "model.depth": 1,
    "perturbation.num_steps": 20,
    "training.steps": 4,
    "training.batch_size": 32,
    "training.sample_every": 0,
    "training.log_every": 1,
    "sampler.num_steps": 5,
    "sampling.num_images": 40,
    "evaluation.num_levels": 3,
    "evaluation.num_examples": 50,
    "evaluation.bootstrap": 0,
}
DIGITS = {
    **TOY,
    "model.channels": 4,
    "model.multipliers": (1,),
    "model.attention_resolutions": (),
    "training.batch_size": 8,
    "evaluation.features": "none",
}
del DIGITS["model.width"], DIGITS["model.depth"]
OVERRIDES = [("codec.name", "own_codecs:Standardised"), ("codec.mean", "0.5,-0.25"), ("codec.std", "0.5")]


@pytest.fixture(autouse=True)
def own_file_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("own_codecs", None)


def made(config, shape, *overrides):
    return create(resolve(read_config(config), overrides), {"shape": shape, "num_classes": 0}, outline)


def test_the_section_is_automatic_by_default():
    config = resolve(read_config("ddpm_digits.py"))
    assert config["codec"] == {"name": "auto"}
    assert made("ddpm_digits.py", (8, 8, 1)).codec == Images()
    assert made("ddpm_digits.py", (8, 8, 1), ("codec.name", "images")).codec == Images()
    assert made("ddpm_toy.py", (2,)).codec == Points()


def test_configs_without_the_section_are_equal_to_automatic_ones():
    older = json.loads((Path(__file__).parents[1] / "runs" / "older" / "config.json").read_text())
    assert "codec" not in older
    assert resolve(older)["codec"] == {"name": "auto"}
    assert differences(older, resolve(older)) == {}
    named = resolve(older, [("codec.name", "images")])
    assert differences(older, named) == {"codec.name": ("auto", "images")}


@pytest.mark.parametrize(
    ("config", "shape", "overrides", "message"),
    [
        ("ddpm_toy.py", (2,), [("codec.name", "images")], "Images is for examples with 3 axes"),
        ("ddpm_toy.py", (2,), [("codec.name", "image")], "unknown codec 'image': did you mean 'images'"),
        ("ddpm_toy.py", (2,), [("codec.std", "2")], "unknown field 'std'"),
        ("ddpm_toy.py", (2,), [("codec.name", "own_codecs:NoCodec")], "own_codecs:NoCodec is no codec"),
        ("ddpm_toy.py", (2,), [("training.flip", "true")], "config.training.flip is for images"),
        ("ddpm_toy.py", (2,), [("training.dequantize", "true")], "codec Points has no grey levels"),
    ],
)
def test_mistakes(config, shape, overrides, message):
    with pytest.raises(ud.UserError, match=message):
        made(config, shape, *overrides)


def test_a_clip_that_the_codec_does_not_have_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        made("ddpm_digits.py", (8, 8, 1))
    assert "clip_x0" not in caplog.text
    made("ddpm_digits.py", (8, 8, 1), ("codec.name", "own_codecs:UnitImages"))
    assert "x_0 of the codec UnitImages lies in [0.0, 1.0]: set it to false" in caplog.text


def test_points_of_ones_own_codec(tmp_path):
    """The loss, the samples and the measures of a run with standardised points are those of the same data in x_0."""
    run = ud.train("ddpm_toy.py", tmp_path / "run", [*TOY.items(), *OVERRIDES])
    codec = run.experiment.codec
    assert (codec.mean, codec.std) == ((0.5, -0.25), 0.5)
    x = run.data().examples[:64]
    np.testing.assert_allclose(codec.encode(x), (x.astype(np.float64) - [0.5, -0.25]) / 0.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(codec.decode(np.asarray(codec.encode(x))), x, atol=1e-6)
    samples = run.sample(40)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, np.load(run.folder / "samples.npz")["arr_0"])
    # The same network and noise with the codec Points give x_0, of which these samples are the decoded form.
    plain = dataclasses.replace(run.experiment, codec=Points())
    x0, _ = commands.draw(plain, run.denoiser, 40, run.experiment.sampler)
    np.testing.assert_allclose(samples, x0 * 0.5 + np.float32([0.5, -0.25]), atol=1e-6)
    result = json.loads((run.folder / "eval.json").read_text())
    assert result["bound"]["unit"] == "nats"
    assert "fisher" not in result["levels"][0]  # the exact density is that of the data, and not that of x_0
    assert exact_mixture({**run.config, "codec": {"name": "auto"}}) is not None
    # In data units a distortion is that of x_0 times 0.5.
    about = result["bound"]
    how = {name: about[name] for name in ("num_steps", "variance", "clip_x0", "num_examples")}
    encoded = Dataset(np.asarray(codec.encode(run.data("test").examples)), None)
    found = dataset_bound(run.denoiser, encoded, **how)
    distortions = [row["distortion"] for row in about["diffusion_per_level"]]
    np.testing.assert_allclose(distortions, 0.5 * found.distortion, rtol=1e-5)
    assert ud.open_run(run.folder).experiment.codec == codec
    with pytest.raises(ud.UserError, match="belongs to another config: codec.std is 0.5 there and 1.0 now"):
        ud.train("ddpm_toy.py", run.folder, [*TOY.items(), *OVERRIDES[:2]])


def test_images_of_ones_own_codec(tmp_path):
    overrides = [("codec.name", "own_codecs:UnitImages"), ("sampler.clip_x0", "false")]
    run = ud.train("ddpm_digits.py", tmp_path / "run", [*DIGITS.items(), *overrides])
    samples = run.sample(6)
    assert samples.dtype == np.uint8
    assert samples.shape == (6, 8, 8, 1)
    bound = json.loads((run.folder / "eval.json").read_text())["bound"]
    assert (bound["unit"], bound["clip_x0"]) == ("nats", False)
    assert bound["total"] == pytest.approx(bound["bits_per_dim"] * 64 * np.log(2))
    x = run.data("test").examples
    np.testing.assert_array_equal(run.experiment.codec.decode(np.asarray(run.experiment.codec.encode(x))), x)


def test_the_train_step_takes_a_codec():
    """A step on examples with their codec is a step on x_0 itself."""
    experiment = create(
        resolve(read_config("ddpm_toy.py"), [*OVERRIDES, ("model.width", 16), ("model.depth", 1)]),
        {"shape": (2,), "num_classes": 0},
    )
    optimizer, key = optax.sgd(0.1), jax.random.key(0)
    state = initial_state(experiment.params, optimizer)
    x = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
    own = make_train_step(experiment.model, Denoising(), optimizer, codec=experiment.codec)
    plain = make_train_step(experiment.model, Denoising(), optimizer)
    _, metrics = own(state, {"x0": jnp.asarray(x)}, key)
    _, expected = plain(state, {"x0": experiment.codec.encode(x)}, key)
    assert float(metrics["loss"]) == float(expected["loss"])
    assert float(metrics["gradient_norm"]) == float(expected["gradient_norm"])
    assert float(metrics["gradient_norm"]) != float(plain(state, {"x0": jnp.asarray(x)}, key)[1]["gradient_norm"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diverging(DDIM):
    def step(self, denoiser, x_t, row, key):
        return super().step(denoiser, x_t, row, key) * jnp.nan


@pytest.mark.parametrize(("config", "tiny"), [("ddpm_toy.py", TOY), ("ddpm_digits.py", DIGITS)])
def test_samples_that_are_not_finite_are_refused(config, tiny, tmp_path, monkeypatch, caplog):
    """The training goes on without its picture; the samples at its end are refused, and nothing is written."""
    monkeypatch.setitem(ud.samplers.SAMPLERS, "ancestral", Diverging)
    settings = read_config(config)
    settings["sampler"] = {"name": "ancestral"}
    tiny = {**tiny, "training.sample_every": 2}
    with pytest.raises(NotFinite, match="40 of 40 samples have values that are NaN or infinite"):
        ud.train(settings, tmp_path / "run", tiny)
    assert caplog.text.count("no picture at step") == 2
    assert read_metrics(tmp_path / "run")["step"][-1] == 4
    assert not (tmp_path / "run" / "samples.npz").exists()
    assert not list((tmp_path / "run").glob("samples/*"))
    run = ud.open_run(tmp_path / "run")
    assert run.sample(2, sampler=DDIM(num_steps=2)).shape[0] == 2
    with pytest.raises(NotFinite, match="2 of 2 samples"):
        run.sample(2, sampler=Diverging(num_steps=2))
