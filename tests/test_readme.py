"""The README's Python runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unified_diffusion as ud
from experiments.main import main
from unified_diffusion.version import __version__

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TOUR, RUN, OBJECTIVE = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_tour():
    names = {}
    exec(TOUR, names)
    for samples in (names["x"], names["y"]):
        right = float(np.mean(np.asarray(samples)[:, 0] > 0.05))
        # 1,000 samples of a mode of weight 0.7: a standard error of 0.015; annealed Langevin mixes a little less well.
        assert right == pytest.approx(0.7, abs=0.06)


def test_a_finished_run_in_a_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = {"model.channels": 4, "model.multipliers": 1, "model.attention_resolutions": (), "sampler.num_steps": 2}
    few = {"training.steps": 2, "training.batch_size": 8, "training.sample_every": 0, "sampling.num_images": 4}
    none = {"bound": False, "features": "none", "neighbours": 0, "num_levels": 1, "num_examples": 4}
    ud.train("ddpm_digits.py", "runs/ddpm_digits", {**tiny, **few, **{f"evaluation.{n}": v for n, v in none.items()}})
    assert len([line for line in RUN.splitlines() if line]) <= 10
    exec(RUN, {})
    assert Image.open("ddim.png").size == (10 * 34 + 2, 10 * 34 + 2)


def test_the_objective_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_objectives.py").write_text(OBJECTIVE)
    monkeypatch.syspath_prepend(tmp_path)
    code = main(
        [
            "--config=ddpm_toy.py",
            "--config.objective.name=my_objectives:LogCosh",
            "--config.objective.sharpness=2",
            "--config.training.steps=3",
            "--config.sampling.num_images=10",
            "--config.sampling.batch_size=10",
            "--config.evaluation.num_levels=2",
            "--config.evaluation.batch_size=100",
            "--config.evaluation.num_examples=100",
            f"--workdir={tmp_path / 'run'}",
        ]
    )
    assert code == 0


def test_the_citation_has_the_packages_version():
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {__version__}" in lines
