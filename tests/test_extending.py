"""Things of one's own in one file outside the package: the page docs/extending.md, run as it stands there."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import unified_diffusion as ud
from experiments.main import main, split_overrides

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
THINGS, TOUR = re.findall(r"```python\n(.*?)```", PAGE, re.S)
(COMMAND,) = re.findall(r"```bash\n(.*?)```", PAGE, re.S)
FEW = {
    "training.steps": 3,
    "training.batch_size": 16,
    "sampling.num_images": 10,
    "evaluation.num_levels": 2,
    "evaluation.num_examples": 20,
    "evaluation.bound": False,
    "evaluation.features": "none",
    "evaluation.neighbours": 0,
}


@pytest.fixture
def outside(tmp_path, monkeypatch):
    (tmp_path / "my_things.py").write_text(THINGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_things", None)


def test_a_config_names_all_of_them_and_they_run(outside):
    arguments = COMMAND.replace("\\\n", " ").split()[3:]
    assert main([*arguments, *(f"--config.{field}={value}" for field, value in FEW.items())]) == 0
    config = json.loads((outside / "runs/mine/config.json").read_text())
    named = {config[section]["name"] for section in ("perturbation", "sampler", "codec")}
    assert named == {"my_things:Circle", "my_things:Plain", "my_things:Halved"}
    assert config["denoiser"]["prediction"] == "my_things:ScaledData"
    run = ud.open_run(outside / "runs/mine")
    assert run.denoiser.parameterization.scale == 1.5
    assert run.denoiser.perturbation.end == 1.55
    found = np.load(outside / "runs/mine/samples.npz")["arr_0"]
    assert found.shape == (10, 2)
    np.testing.assert_array_equal(run.sample(10), found)
    # Another end of the circle is another process, which the run refuses.
    assert main([*arguments, "--config.perturbation.end=1.2", "--config.training.steps=3"]) == 2


def test_python_takes_them_as_objects(outside):
    names = {}
    exec(TOUR, names)
    assert names["loss"].shape == (8,)
    assert np.all(np.isfinite(names["x"]))


def test_the_command_is_one_that_the_parser_knows():
    overrides, rest = split_overrides(COMMAND.replace("\\\n", " ").split()[3:], None)
    assert len(overrides) == 8
    assert {argument.split("=")[0] for argument in rest} == {"--config", "--workdir"}
