"""docs/objectives.md: its own-weighting example runs as it stands, and its tables name what there is."""

import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.main import main
from unified_diffusion import Denoiser
from unified_diffusion.objectives import OBJECTIVES, TIME_SAMPLERS, WEIGHTINGS
from unified_diffusion.perturbations import DDPM
from unified_diffusion.runs.config import read_config, resolve
from unified_diffusion.runs.sections import build

DOCUMENT = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text()


def section(title):
    return re.split(r"^#+ ", DOCUMENT.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def block(title, language):
    return re.search(rf"```{language}\n(.*?)```", section(title), flags=re.S)[1]


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The documented command's arguments, run from a folder with the documented file in it."""
    (tmp_path / "my_weightings.py").write_text(block("Your own", "python"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m` does
    words = shlex.split(block("Your own", "bash"))
    assert words[:3] == ["python", "-m", "experiments.main"]
    return words[3:]


def test_the_weighting_of_the_users_own_file(command):
    overrides = [argument.removeprefix("--config.").split("=") for argument in command if "--config." in argument]
    objective = build("objective", resolve(read_config("ddpm_toy.py"), overrides)["objective"])
    process, t = DDPM(1000), np.array([1, 500, 1000])
    snr = np.asarray(jnp.square(process.alpha(t) / process.sigma(t)), np.float64)
    np.testing.assert_allclose(objective.weight(process, t), np.maximum(0.1, snr**-0.5), rtol=1e-5)


@pytest.mark.slow
def test_the_command_trains(command, tmp_path):
    tiny = {
        "model.width": 16,
        "model.depth": 1,
        "perturbation.num_steps": 20,
        "training.steps": 20,
        "training.batch_size": 32,
        "sampling.num_images": 40,
        "evaluation.num_levels": 4,
        "evaluation.num_examples": 50,
        "evaluation.bound": "false",
    }
    arguments = [f"--config.{field}={value}" for field, value in tiny.items()]
    assert main([*command, *arguments, f"--workdir={tmp_path / 'run'}"]) == 0
    assert (tmp_path / "run" / "eval.json").exists()


def test_the_other_examples():
    exec(compile(block("One axis", "python"), "objectives.md", "exec"), {})


def test_the_objective_of_the_users_own_file(tmp_path, monkeypatch):
    (tmp_path / "my_distillation.py").write_text(block("One of your own", "python"))
    monkeypatch.syspath_prepend(tmp_path)
    fields = {"name": "my_distillation:Distillation", "scale": "2", "time_sampler": "low_discrepancy"}
    pairs = [(f"objective.{field}", value) for field, value in fields.items()]
    objective = build("objective", resolve(read_config("ddpm_toy.py"), pairs)["objective"])
    denoiser = Denoiser(lambda x, *_, **__: 0 * x, DDPM(10))
    loss, _ = objective(denoiser, np.ones((4, 2)), jax.random.key(0), reference=denoiser)
    np.testing.assert_array_equal(loss, np.zeros(4))


@pytest.mark.parametrize(
    ("title", "names"), [("Weightings", WEIGHTINGS), ("Objectives", OBJECTIVES), ("Time samplers", TIME_SAMPLERS)]
)
def test_the_tables_are_complete(title, names):
    assert re.findall(r"^\| `(\w+)` ", section(title), flags=re.M) == list(names)
