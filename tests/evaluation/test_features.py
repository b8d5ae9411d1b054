"""Feature extractors: pixels, the classifier on two kinds of images, and what is said where one cannot be had."""

import logging

import numpy as np
import pytest

from unified_diffusion import UserError
from unified_diffusion.data import SOURCES, Dataset
from unified_diffusion.data.cache import cache_dir
from unified_diffusion.evaluation import FEATURES, FeatureExtractor, Features, Unavailable, feature_extractors
from unified_diffusion.evaluation.features import classifier, spread


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def stripes(count, shape=(16, 16, 3), seed=0):
    """Images in two classes: stripes across and stripes down, at any phase and in noise."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count).astype(np.int32)
    phase = generator.integers(0, 4, (count, 1, 1, 1))
    down, across = np.indices(shape[:2])[..., None]
    waves = np.where(labels[:, None, None, None], np.expand_dims(across, 0), np.expand_dims(down, 0)) + phase
    noisy = 128 + 60 * np.cos(np.pi * waves / 2) + 40 * generator.normal(size=(count, *shape))
    return Dataset(np.clip(noisy, 0, 255).astype(np.uint8), labels, ("down", "across"))


def test_pixels():
    data = stripes(7, (4, 4, 3))
    found, rows = FEATURES["pixels"](data).extract(data, 3), spread(data, 3)
    np.testing.assert_allclose(found.vectors, data.examples[rows].reshape(3, -1) / 127.5 - 1, atol=1e-6)
    assert found.probabilities is None
    np.testing.assert_array_equal(found.labels, data.labels[rows])
    points = Dataset(np.random.default_rng(0).normal(size=(1001, 2)).astype(np.float32))
    np.testing.assert_array_equal(FEATURES["pixels"](points).extract(points).vectors, points.examples)


def test_rows_are_all_or_some_in_order_each_once():
    data = stripes(10, (4, 4, 1))
    assert spread(data, None).tolist() == spread(data, 0 or None).tolist() == spread(data, 99).tolist()
    rows = spread(data, 4)
    assert len(rows) == 4
    assert (np.diff([-1, *rows, 10]) > 0).all()


RECIPE = classifier.Recipe(width=8, batch_size=16, epochs=1, fewest_steps=40)


def test_a_classifier_of_colour_images_and_its_cache(caplog, monkeypatch, tmp_path):
    train, test = stripes(64), stripes(50, seed=1)
    first = classifier.load(train, RECIPE)
    found = first.extract(test)
    assert found.vectors.shape == (50, 16)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)
    # What is extracted does not depend on what is extracted with it.
    np.testing.assert_allclose(first.extract(test, 5).vectors, found.vectors[spread(test, 5)], rtol=1e-4, atol=1e-5)
    assert first.accuracy(found) > 0.9
    assert first.accuracy(Features(found.vectors, found.probabilities)) is None
    # The same data: the same parameters, read and not trained; in another cache trained anew, to the same bits.
    (file,) = cache_dir().glob("classifier-*.npz")
    written = file.stat().st_mtime_ns
    assert classifier.load(train, RECIPE).fingerprint == first.fingerprint
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        assert classifier.load(train, RECIPE).fingerprint == first.fingerprint
    assert "is damaged and will be written again" in caplog.text
    # Other data, or another recipe: another file.
    relabelled = Dataset(train.examples, 1 - train.labels, train.class_names)
    assert classifier.load(relabelled, RECIPE).fingerprint != first.fingerprint
    assert len(list(cache_dir().glob("classifier-*.npz"))) == 2
    # A cache that cannot be written is no reason to stop.
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert classifier.load(train, RECIPE).fingerprint == first.fingerprint
    assert "the classifier is not cached" in caplog.text


@pytest.mark.slow
def test_a_classifier_of_digits():
    train, test = SOURCES["digits"]("train"), SOURCES["digits"]("test")
    (extractor,), _ = feature_extractors("classifier", train)
    found = extractor.extract(test)
    assert found.vectors.shape == (299, 64)
    assert extractor.accuracy(found) > 0.97


def test_auto_takes_the_first_that_can_be_had(monkeypatch):
    made = []

    def missing(train):
        raise Unavailable("inception: not here")

    monkeypatch.setitem(FEATURES, "inception", missing)
    monkeypatch.setitem(FEATURES, "classifier", lambda train: made.append(train) or "a classifier")
    labelled, plain = stripes(4, (4, 4, 1)), Dataset(stripes(4, (4, 4, 1)).examples)
    assert feature_extractors("auto", labelled) == (["a classifier"], ["inception: not here"])
    assert feature_extractors("none", labelled) == ([], [])
    monkeypatch.setitem(FEATURES, "classifier", classifier.load)
    (extractor,), notes = feature_extractors("auto", plain)
    assert extractor.name == "pixels"
    assert notes == ["inception: not here", "classifier: the data have no labels to train it on"]
    (extractor,), notes = feature_extractors("auto", Dataset(np.zeros((5, 2), np.float32)))
    assert (extractor.name, notes) == ("pixels", [])


class Brightness(FeatureExtractor):
    """An extractor of one's own."""

    name, fingerprint, note = "brightness", "1", "the mean of all pixels"

    def __init__(self, train):
        pass

    def extract(self, dataset, count=None):
        return Features(dataset.examples[spread(dataset, count)].mean(axis=(1, 2)))


def test_a_list_and_ones_own():
    own = f"{__name__}:Brightness"
    found, notes = feature_extractors(f"pixels, {own}", stripes(4))
    assert [extractor.name for extractor in found] == ["pixels", "brightness"]
    assert notes == []
    with pytest.raises(UserError, match="'pixels'"):
        feature_extractors("pixel", stripes(4))
