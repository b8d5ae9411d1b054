"""The adapter to torch-fidelity, with stand-ins for torch and torch-fidelity that record what they are handed."""

import hashlib
import importlib.machinery
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from unified_diffusion.data import Dataset
from unified_diffusion.evaluation import FEATURES, Unavailable, feature_extractors
from unified_diffusion.evaluation.features import spread

GRAY = Dataset(np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype=np.uint8))
COLOUR = Dataset(np.random.default_rng(1).integers(0, 256, (9, 4, 5, 3), dtype=np.uint8))
RESULT = {
    "frechet_inception_distance": 3.17,
    "kernel_inception_distance_mean": 0.002,
    "kernel_inception_distance_std": 0.001,
    "inception_score_mean": 9.46,
    "inception_score_std": 0.1,
    "precision": 0.7,
    "recall": 0.6,
    "f_score": 0.65,
}


def stacked(images):
    return np.stack([images[i] for i in range(len(images))])


@pytest.fixture
def fidelity(tmp_path, monkeypatch):
    """torch-fidelity with weights, and the list of calls to it."""
    calls = []
    torch = module("torch")
    torch.utils = types.SimpleNamespace(data=types.SimpleNamespace(Dataset=object))
    torch.hub = types.SimpleNamespace(get_dir=lambda: str(tmp_path / "hub"))
    torch.cuda = types.SimpleNamespace(is_available=lambda: False)
    torch.from_numpy = lambda array: array
    package, utils, network = (
        module(f"torch_fidelity{name}") for name in ("", ".utils", ".feature_extractor_inceptionv3")
    )
    weights = b"weights"
    name = f"weights-inception-{hashlib.sha256(weights).hexdigest()[:8]}.pth"
    network.URL_INCEPTION_V3 = f"https://somewhere/{name}"

    def calculate_metrics(**keywords):
        calls.append(keywords)
        keywords["cache_root"].mkdir(parents=True, exist_ok=True)
        for number in (1, 2):
            (keywords["cache_root"] / f"{keywords[f'input{number}_cache_name']}-features.pt").touch()
        return RESULT

    def extract(number, extractor, **keywords):
        calls.append(keywords)
        pixels = stacked(keywords[f"input{number}"]).reshape(len(keywords[f"input{number}"]), -1)
        return {layer: pixels[:, :4].astype(np.float32) for layer in extractor}

    package.calculate_metrics = calculate_metrics
    utils.create_feature_extractor = lambda name, layers, **keywords: layers
    utils.extract_featuresdict_from_input_id_cached = extract
    package.utils = utils
    for part in (torch, package, utils, network):
        monkeypatch.setitem(sys.modules, part.__name__, part)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(weights)
    return calls, folder / name


def module(name):
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    return made


@pytest.mark.parametrize("data", [GRAY, COLOUR], ids=["gray", "colour"])
def test_it_is_handed_the_same_arrays_and_its_numbers_are_returned(fidelity, data):
    calls, weights = fidelity
    extractor = FEATURES["inception"](data)
    numbers = extractor.own_numbers(data, COLOUR, 4)
    (call,) = calls
    assert numbers == {
        "frechet_distance": 3.17,
        "kernel_distance": 0.002,
        "inception_score": 9.46,
        "precision": 0.7,
        "recall": 0.6,
    }
    for images, exact in ((call["input1"], data.examples), (call["input2"], COLOUR.examples[spread(COLOUR, 4)])):
        assert stacked(images).dtype == np.uint8
        np.testing.assert_array_equal(
            stacked(images).transpose(0, 2, 3, 1), np.broadcast_to(exact, (*exact.shape[:3], 3))
        )
    assert (call["kid_subset_size"], call["isc_splits"]) == (4, min(10, len(data)))
    assert call["fid"] is call["kid"] is call["isc"] is call["prc"] is True
    assert call["feature_extractor_weights_path"] == str(weights)
    # Its default for precision and recall is another network, whose weights it would download.
    assert call["feature_extractor"] == "inception-v3-compat"
    # The reference's features stay in the cache, under a name that says how many there are.
    (kept,) = call["cache_root"].iterdir()
    assert kept.name == f"{COLOUR.fingerprint}-4-features.pt"


def test_features_are_those_that_it_extracts(fidelity):
    found = FEATURES["inception"](GRAY).extract(GRAY)
    np.testing.assert_array_equal(found.vectors, GRAY.examples[:, 0, :, 0])
    odds = np.exp(found.vectors.astype(float))
    np.testing.assert_allclose(found.probabilities, odds / odds.sum(axis=1, keepdims=True), rtol=1e-6)


def test_one_line_where_it_cannot_be_had(fidelity, monkeypatch):
    calls, weights = fidelity
    weights.write_bytes(b"other")
    damaged = feature_extractors("inception,pixels", GRAY)
    weights.unlink()
    missing = feature_extractors("inception,pixels", GRAY)
    sys.modules["torch_fidelity.feature_extractor_inceptionv3"].URL_INCEPTION_V3 = None
    broken = feature_extractors("inception,pixels", GRAY)
    points = feature_extractors("inception,pixels", Dataset(np.zeros((3, 2), np.float32)))
    monkeypatch.delitem(sys.modules, "torch_fidelity")
    monkeypatch.setattr(sys, "path", [])
    absent = feature_extractors("inception,pixels", GRAY)
    for (found, notes), text in (
        (damaged, "is damaged"),
        (missing, f"no weights at {weights}"),
        (broken, "torch-fidelity failed with AttributeError"),
        (points, "these data are points"),
        (absent, "pip install 'unified_diffusion[fid]'"),
    ):
        assert [extractor.name for extractor in found] == ["pixels"]
        (note,) = notes
        assert note.startswith("inception: ")
        assert text in note
        assert "\n" not in note
    assert not calls


def test_its_failure_is_no_crash(fidelity, monkeypatch):
    extractor = FEATURES["inception"](GRAY)
    broken = types.SimpleNamespace(calculate_metrics=None)
    monkeypatch.setitem(sys.modules, "torch_fidelity", broken)
    with pytest.raises(Unavailable, match="torch-fidelity failed with TypeError"):
        extractor.own_numbers(GRAY, GRAY)


def test_the_real_one_agrees_with_ours(tmp_path, monkeypatch):
    """torch-fidelity itself, with a small network in Inception's place: it takes what it is handed."""
    torch_fidelity = pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    from unified_diffusion.evaluation import Measure, Reference
    from unified_diffusion.evaluation.features.inception import Inception

    class Tiny(torch_fidelity.FeatureExtractorBase):
        """The first pixels as vectors, and as logits."""

        def __init__(self, name, features_list, **keywords):
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list():
            return "2048", "logits_unbiased"

        def forward(self, images):
            pixels = images.float().flatten(1)[:, :6] / 100
            return tuple(pixels for _ in self.features_list)

    torch_fidelity.register_feature_extractor("tiny", Tiny)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    samples, reference = (
        Dataset(np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8))
        for seed, count in ((0, 200), (1, 300))
    )
    extractor = Inception(Path("none"), "", "", network="tiny")
    numbers = extractor.own_numbers(samples, reference)
    ours = Measure("inception").metrics(
        extractor.extract(samples), Reference("test", extractor.extract(reference).vectors)
    )
    ours = {metric.name: metric.value for metric in ours}
    np.testing.assert_allclose(numbers["frechet_distance"], ours["frechet_distance"], rtol=1e-4)
    for name in ("precision", "recall"):
        np.testing.assert_allclose(numbers[name], ours[name], rtol=1e-6)
