"""The README's Python runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest

from experiments.main import main
from unified_diffusion.version import __version__

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_tour():
    names = {}
    exec(BLOCKS[0], names)
    for samples in (names["x"], names["y"]):
        right = float(np.mean(np.asarray(samples)[:, 0] > 0.05))
        # 1,000 samples of a mode of weight 0.7: a standard error of 0.015; annealed Langevin mixes a little less well.
        assert right == pytest.approx(0.7, abs=0.06)


def test_the_objective_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_objectives.py").write_text(BLOCKS[1])
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
