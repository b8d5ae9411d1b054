"""Configs resolve to what was said, and mistakes are refused with what to write instead."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_diffusion import UserError
from unified_diffusion.runs import config as configs
from unified_diffusion.runs.convert import convert
from unified_diffusion.runs.sections import build

FILES = sorted(path.name for path in configs.shipped_configs().glob("*.py") if not path.name.startswith("_"))


def resolve(name="ddpm_digits.py", *overrides):
    return configs.resolve(configs.read_config(name), [tuple(item.split("=", 1)) for item in overrides])


@pytest.mark.parametrize("name", FILES)
def test_every_shipped_config_resolves_completely(name):
    config = resolve(name)
    assert set(config) == {"seed", *configs.NAMED, *configs.UNNAMED}
    assert json.loads(json.dumps(config)) == config
    # A resolved config is a config: resolving it again changes nothing.
    assert configs.resolve(config) == config
    for section in ("perturbation", "objective", "sampler", "optimizer", "training", "sampling", "evaluation"):
        build(section, config[section])


def test_published_cifar_settings():
    ddpm, ncsn = resolve("ddpm_cifar.py"), resolve("ncsn_cifar.py")
    assert ddpm["perturbation"] | {"betas": None} == {
        "name": "ddpm",
        "num_steps": 1000,
        "schedule": "linear",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "betas": None,
    }
    assert (ddpm["model"]["dropout"], ddpm["training"]["batch_size"], ddpm["optimizer"]["learning_rate"]) == (
        0.1,
        128,
        2e-4,
    )
    assert (ddpm["optimizer"]["warmup_steps"], ddpm["optimizer"]["gradient_clip"]) == (5000, 1.0)
    assert (ddpm["training"]["ema_decay"], ddpm["training"]["steps"], ddpm["training"]["flip"]) == (
        0.9999,
        800_000,
        True,
    )
    assert (ncsn["perturbation"]["num_steps"], ncsn["perturbation"]["sigma_max"]) == (10, 2.0)
    assert (ncsn["perturbation"]["sigma_min"], ncsn["optimizer"]["learning_rate"]) == (0.02, 1e-3)
    assert (ncsn["sampler"]["steps_per_level"], ncsn["sampler"]["step_size"]) == (100, 0.2)
    assert ncsn["training"]["steps"] == 200_000


def test_the_swap_is_one_field():
    swapped = resolve("ddpm_digits.py", "perturbation.name=ncsn")
    assert swapped["perturbation"]["name"] == "ncsn"
    assert swapped["perturbation"] == resolve("ncsn_digits.py")["perturbation"]
    changed = configs.differences(resolve("ddpm_digits.py"), swapped)
    assert all(field.startswith("perturbation.") for field in changed)


def test_fields_beside_a_name_belong_to_the_files_own_name():
    file = {
        **configs.read_config("ddpm_toy.py"),
        "perturbation": {"name": "ddpm", "num_steps": 7, "schedule": "cosine"},
    }
    assert configs.resolve(file)["perturbation"]["num_steps"] == 7
    assert configs.resolve(file, [("perturbation.name", "ncsn")])["perturbation"]["num_steps"] == 10


def test_values_take_the_type_of_the_argument():
    config = resolve(
        "ddpm_digits.py",
        "training.steps=1e3",
        "optimizer.learning_rate=1",
        "training.flip=TRUE",
        "model.multipliers=1,2",
        "model.attention_resolutions=4",
        "sampler.num_steps=none",
        "objective.weighting=vlb",
        "objective.weighting_options.variance=small",
        "seed=3",
    )
    assert config["training"]["steps"] == 1000
    assert isinstance(config["training"]["steps"], int)
    assert config["optimizer"]["learning_rate"] == 1.0
    assert config["training"]["flip"] is True
    assert config["model"]["multipliers"] == [1, 2]
    assert config["model"]["attention_resolutions"] == [4]
    assert config["sampler"]["num_steps"] is None
    assert config["objective"]["weighting_options"] == {"variance": "small"}
    assert config["seed"] == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.stpes=3", "'steps'"),
        ("trainig.steps=3", "'training'"),
        ("perturbation.name=ncns", "'ncsn'"),
        ("perturbation.sigma_max=3", "unknown field 'sigma_max'"),
        ("objective.weighting_options=3", "it must be fields"),
        ("training.steps=many", "it must be a whole number"),
        ("training.steps=1.5", "it must be a whole number"),
        ("training.steps=true", "it must be a whole number"),
        ("training.flip=1", "it must be true or false"),
        ("optimizer.learning_rate=fast", "it must be a number"),
        ("model.multipliers=wide", "it must be a list like"),
        ("model.num_classes=3", "unknown field 'num_classes'"),
        ("perturbation=ncsn", "is a section"),
        ("seed.x=3", "config.seed"),
        ("data.name=no_such_module:load", "no module"),
        ("data.name=unified_diffusion.data:lood", "has no 'lood'"),
    ],
)
def test_mistakes_are_refused(override, message):
    with pytest.raises(UserError, match=re.escape(message)):
        resolve("ddpm_digits.py", override)


def test_a_misspelt_file_is_answered_with_its_neighbours():
    with pytest.raises(UserError, match=r"ddpm_digits\.py"):
        configs.read_config("ddpm_digit.py")


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from experiments.configs import ddpm_toy\nget_config = ddpm_toy.get_config\n")
    assert configs.read_config(str(path)) == configs.read_config("ddpm_toy.py")
    path.write_text("x = 1\n")
    with pytest.raises(UserError, match="get_config"):
        configs.read_config(str(path))


def test_a_new_name_forgets_what_was_said_of_the_old_one():
    said = [("sampler.num_steps", "5"), ("seed", "1")]
    assert configs.later(said, [("sampler.name", "annealed_langevin")]) == [
        ("seed", "1"),
        ("sampler.name", "annealed_langevin"),
    ]
    assert configs.later(said, [("sampler.num_steps", "6")])[-1] == ("sampler.num_steps", "6")


@given(
    st.sampled_from([int, float, bool, str, tuple[int, ...], int | None]),
    st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.none(), st.text("abc xyz", max_size=5)),
)
def test_a_value_converts_to_its_type_or_is_refused(hint, value):
    try:
        converted = convert("field", value, hint)
    except UserError:
        return
    expected = {tuple[int, ...]: tuple, int | None: (int, type(None))}.get(hint, hint)
    assert isinstance(converted, expected)
    assert convert("field", converted, hint) == converted


LOOSE = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Loose:
    options: dict = dataclasses.field(default_factory=lambda: {"a": 1})
    path: str = "factory/x"

class Bare:
    def __init__(self, gain=1.0, flag=False, sizes=(1, 2), anything=None):
        self.gain, self.flag, self.sizes, self.anything = gain, flag, sizes, anything
"""


def test_arguments_of_a_users_class(tmp_path, monkeypatch):
    (tmp_path / "loose.py").write_text(LOOSE)
    monkeypatch.syspath_prepend(tmp_path)
    config = resolve("ddpm_toy.py", "objective.name=loose:Loose")
    assert config["objective"] == {"name": "loose:Loose", "options": {"a": 1}, "path": "factory/x"}
    said = ["objective.gain=2", "objective.flag=false", "objective.sizes=3,4"]
    config = resolve("ddpm_toy.py", "objective.name=loose:Bare", *said)
    assert config["objective"] == {"name": "loose:Bare", "gain": 2.0, "flag": False, "sizes": [3, 4], "anything": None}
    with pytest.raises(UserError, match="true or false"):
        resolve("ddpm_toy.py", "objective.name=loose:Bare", "objective.flag=2")


def test_a_file_of_arrays_and_functions(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n"
        "from experiments.configs import ddpm_toy\n"
        "from unified_diffusion.objectives.weightings import dsm\n"
        "def get_config():\n"
        "    config = ddpm_toy.get_config().to_dict()\n"
        "    config['perturbation'] = {'name': 'ddpm', 'betas': np.linspace(0.1, 0.2, 3)}\n"
        "    config['objective']['weighting'] = dsm\n"
        "    config['seed'] = np.int64(3)\n"
        "    return config\n"
    )
    config = configs.resolve(configs.read_config(str(path)))
    assert config["perturbation"]["betas"] == pytest.approx([0.1, 0.15, 0.2])
    assert config["objective"]["weighting"] == "unified_diffusion.objectives.weightings:dsm"
    assert config["seed"] == 3
    assert build("perturbation", config["perturbation"]).num_steps == 3


def test_sections_are_dicts():
    with pytest.raises(UserError, match="it is a section"):
        configs.resolve({"data": {"name": "digits"}, "perturbation": "ncsn"})
    with pytest.raises(UserError, match="set one of its fields"):
        resolve("ddpm_digits.py", "perturbation.ddpm=5")


def test_a_run_from_before_a_field_was_there_did_what_its_value_now_says():
    older, newer = {"model": {"name": "mlp"}}, {"model": {"name": "mlp", "noise_embedding": "sinusoidal"}}
    assert configs.differences(older, newer) == {}
    newer["model"]["noise_embedding"] = "fourier"
    assert configs.differences(older, newer) == {"model.noise_embedding": ("sinusoidal", "fourier")}
