"""docs/metrics.md: its examples run as they stand, and its tables name what there is."""

import dataclasses
import re
from pathlib import Path

import numpy as np

from unified_diffusion.data import SOURCES
from unified_diffusion.evaluation import FEATURES, feature_extractors
from unified_diffusion.evaluation.features import spread
from unified_diffusion.evaluation.sample_metrics import METRICS
from unified_diffusion.runs.settings import Evaluation

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
OWN, ARRAYS = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.S)


def named(title):
    """The names in the first column of a section's table."""
    section = DOCUMENT.split(f"# {title}\n", 1)[1].split("\n#", 1)[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def test_the_tables_are_complete():
    assert named("Metrics") == list(METRICS)
    assert named("Features") == list(FEATURES)
    defaults = {field.name: field.default for field in dataclasses.fields(Evaluation)}
    for name in named("Settings"):
        shown = re.search(rf"\| `{name}` \| `?([\w,]+)`? \|", DOCUMENT)[1].replace(",", "")
        assert shown == str(defaults[name])
    assert len(named("Settings")) == 6


def test_an_extractor_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_features.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    train = SOURCES["digits"]("train")
    (extractor,), _ = feature_extractors("my_features:Brightness", train)
    found = extractor.extract(train, 7)
    images = train.examples[spread(train, 7)].reshape(7, -1)
    np.testing.assert_allclose(found.vectors, np.stack([images.mean(axis=1), images.std(axis=1)], axis=1), rtol=1e-12)


def test_from_python_on_arrays():
    """The documented lines, in pixels, so that nothing is trained."""
    names = {"train": SOURCES["digits"]("train"), "samples": SOURCES["digits"]("test").examples[:40]}
    exec(ARRAYS.replace('"classifier"', '"pixels"').replace("\nMeasure(", "\nfound = Measure("), names)
    assert [metric.num_samples for metric in names["found"]] == [40] * 6
