"""What eval.json says of samples, in `--mode=train` and `--mode=eval`."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_runs import TINY

from experiments.main import main
from unified_diffusion import UserError, objectives, perturbations
from unified_diffusion.data import SOURCES, Dataset
from unified_diffusion.runs.sample_evaluation import measure_samples
from unified_diffusion.runs.settings import Evaluation


@pytest.fixture(scope="module")
def finished(digits_run, tmp_path_factory):
    return shutil.copytree(digits_run, tmp_path_factory.mktemp("finished") / "run")


def report(workdir):
    return json.loads((workdir / "eval.json").read_text())


def test_the_end_of_training_measures_the_samples(finished):
    result = report(finished)
    assert result["samples"] == {
        "num_samples": 30,
        "num_evaluations": 3,
        "sampler": "Ancestral",
        "perturbation": "DDPM",
        "under": None,
    }
    assert result["notes"] == []
    (features,) = result["features"]
    assert (features["name"], features["dimension"], features["accuracy"]) == ("pixels", 64, None)
    rows = {row["name"]: row for row in result["metrics"]}
    assert list(rows) == ["frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"]
    for row in rows.values():
        assert (row["features"], row["num_samples"]) == ("pixels", 30)
        assert (row["reference"], row["num_reference"]) == ("digits train", 1498)
        assert row["low"] <= row["value"] <= row["high"]
    floor = {row["what"]: row["value"] for row in result["floor"] if row["name"] == "frechet_distance"}
    # A network that has learned nothing is far above the floor.
    assert abs(floor["train with itself"]) < 1e-9
    assert 0 < floor["two halves of train"] < floor["test against train"] < rows["frechet_distance"]["value"]
    near = result["neighbours"]
    assert 0 <= near["share_nearer_low"] <= near["share_nearer"] <= near["share_nearer_high"] <= 1
    assert near["distance_of_test_median"] < near["distance_median"]
    assert (near["num_samples"], near["num_test"], near["num_train"]) == (30, 299, 1498)
    assert np.ptp(np.asarray(Image.open(finished / near["picture"]))) > 0


def test_the_effective_weight_of_each_level(finished):
    """The objective's own, at the levels that were measured."""
    levels = report(finished)["levels"]
    _, exact = objectives.Denoising().effective_weight(perturbations.DDPM(20, "cosine"))
    assert [level["t"] for level in levels] == [1, 20]
    np.testing.assert_allclose([level["effective_weight"] for level in levels], exact[np.array([0, 19])], rtol=1e-6)


def test_eval_draws_samples_that_are_not_there(finished, capsys):
    before = report(finished)
    (finished / "samples.npz").unlink()
    assert main([f"--workdir={finished}", "--mode=eval"]) == 0
    assert report(finished) == before
    output = capsys.readouterr().out
    assert "30 samples by Ancestral, 3 network evaluations each" in output
    assert "30 against 1,498 of digits train" in output
    # And draws them anew under another sampler.
    change = ["--config.sampler.num_steps=2", "--config.evaluation.reference=test", "--config.evaluation.bootstrap=0"]
    assert main([f"--workdir={finished}", "--mode=eval", *change, "--config.evaluation.num_reference=100"]) == 0
    after = report(finished)
    assert after["samples"]["num_evaluations"] == 2
    (row, *_) = after["metrics"]
    assert (row["reference"], row["num_reference"], row["low"]) == ("digits test", 100, None)
    # Without measures of samples none are drawn.
    (finished / "samples.npz").unlink()
    change = ["--config.evaluation.features=none", "--config.evaluation.neighbours=0"]
    assert main([f"--workdir={finished}", "--mode=eval", *change]) == 0
    assert "metrics" not in report(finished)
    assert not (finished / "samples.npz").exists()


def test_points_are_measured_by_their_coordinates(tmp_path):
    measured = ["--config.evaluation.features=auto", "--config.evaluation.neighbours=5"]
    assert main([*TINY, *measured, "--config.training.steps=5", f"--workdir={tmp_path}"]) == 0
    result = report(tmp_path)
    assert {row["features"] for row in result["metrics"]} == {"pixels"}
    assert result["features"][0]["dimension"] == 2
    rows = {row["name"]: row for row in result["metrics"]}
    assert (rows["frechet_distance"]["reference"], rows["frechet_distance"]["num_reference"]) == ("toy train", 10_000)
    assert rows["recall"]["num_reference"] == 2000
    assert result["neighbours"]["picture"] is None
    assert result["neighbours"]["unit"] == "data units"
    assert not (tmp_path / "neighbours.png").exists()


def test_samples_that_are_no_numbers(tmp_path):
    train = Dataset(np.zeros((20, 2), np.float32))
    np.savez(tmp_path / "samples.npz", arr_0=np.array([[0.0, np.nan]], np.float32))
    about = {"num_evaluations": 1, "sampler": "Ancestral", "perturbation": "DDPM"}
    (tmp_path / "samples.json").write_text(json.dumps(about))
    result, pictures = measure_samples(Evaluation(), train, train, tmp_path, "toy")
    assert (result["metrics"], pictures) == ([], {})
    assert "not all finite" in result["notes"][0]


@pytest.mark.slow
def test_digits_in_the_features_of_the_classifier(tmp_path):
    """Held-out digits are as good as any sample can be; noise is not."""
    train, test = SOURCES["digits"]("train"), SOURCES["digits"]("test")
    noise = np.random.default_rng(0).integers(0, 256, test.examples.shape, dtype=np.uint8)
    (tmp_path / "samples.json").write_text(json.dumps({"num_evaluations": 1, "sampler": "", "perturbation": ""}))
    rows = []
    for samples in (test.examples, noise):
        np.savez(tmp_path / "samples.npz", arr_0=samples)
        result, _ = measure_samples(Evaluation(features="classifier"), train, test, tmp_path, "digits")
        rows.append({row["name"]: row for row in result["metrics"]})
    assert result["features"][0]["accuracy"] > 0.97
    good, bad = rows
    for name in good:
        ends = ("high", "low") if good[name]["better"] == "lower" else ("low", "high")
        better, worse = good[name][ends[0]], bad[name][ends[1]]
        assert better < worse if good[name]["better"] == "lower" else better > worse
    assert good["precision"]["value"] > 0.8
    assert good["frechet_distance"]["value"] < 1 < bad["frechet_distance"]["value"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": "pixel"}, "'pixels'"),
        ({"features": "classifier,clasifier"}, "'classifier'"),
        ({"features": "auto,pixels"}, "'auto'"),
        ({"features": "pixels,none"}, "'none'"),
        ({"features": "atuo"}, "'auto'"),
        ({"reference": "tset"}, "'test'"),
        ({"bootstrap": -1}, "bootstrap"),
        ({"neighbours": -1}, "neighbours"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError, match=message):
        Evaluation(**settings)
