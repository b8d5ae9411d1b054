"""What is read from a sweep's folder, and summary.csv."""

import csv
import io
import json
import math

import numpy as np
import pytest
from fake_sweep import METRICS, fake_sweep, write

from experiments.sweep.summary import collect, summary_csv, write_summary

GRID = {"objective.weighting": ["simple", "package.module:mine"], "seed": [0, 1]}
TIMES = ["seconds_training", "seconds_sampling", "seconds_evaluation", "images_per_second"]


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_for_each_run_in_the_order_of_the_plan(tmp_path):
    names = fake_sweep(tmp_path, GRID)
    write_summary(tmp_path)
    table = rows((tmp_path / "summary.csv").read_text())
    assert [row["name"] for row in table] == names
    assert [row["objective.weighting"] for row in table] == ["simple", "simple", *["package.module:mine"] * 2]
    assert [row["seed"] for row in table] == ["0", "1", "0", "1"]
    assert {row["state"] for row in table} == {"finished"}
    evaluation = json.loads((tmp_path / "runs" / names[2] / "eval.json").read_text())
    for metric in evaluation["metrics"]:
        key = f"{metric['features']}.{metric['name']}"
        for suffix, name in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert float(table[2][key + suffix]) == metric[name]
    assert float(table[2]["bound"]) == evaluation["bound"]["total"]
    assert float(table[2]["test_loss"]) == evaluation["test_loss"]
    assert (table[2]["reference"], table[2]["num_reference"]) == ("digits train", "1498")
    assert (table[2]["num_samples"], table[2]["num_evaluations"]) == ("100", "50")
    assert table[2]["test_error_standard_error"] == "0.01"
    assert table[2]["neighbours.share_nearer_low"] == "0.28"
    assert list(table[0])[-4:] == TIMES


def change(directory, name, file, edit):
    """Changes a run's file by a function of what it holds."""
    path = directory / "runs" / name / file
    value = json.loads(path.read_text())
    edit(value)
    write(path, value)


def test_metrics_over_pairs_name_their_own_counts(tmp_path):
    names = fake_sweep(tmp_path, GRID)

    def fewer(evaluation):
        evaluation["metrics"][1] |= {"num_samples": 40, "num_reference": 50}

    change(tmp_path, names[0], "eval.json", fewer)
    table = rows(summary_csv(collect(tmp_path)))
    assert (table[0]["reference"], table[0]["num_reference"]) == ("digits train", "1498; 50")
    assert (table[0]["num_samples"], table[1]["num_samples"]) == ("100; 40", "100")


def test_a_seed_that_only_some_runs_set(tmp_path):
    fake_sweep(tmp_path, [{"a.b": 1, "seed": 3}, {"a.b": 1}, {"a.b": 2}], states={2: "waiting"})
    found = collect(tmp_path)
    assert [run.seed for run in found.runs] == ["seed 3", "seed 0", "seed of the config"]
    assert [len(group.runs) for group in found.groups] == [2, 1]


def test_wall_time_has_the_training_that_is_shared(tmp_path):
    fake_sweep(tmp_path, {"sampler.num_steps": [10, 20]}, trained_in={1: 0})
    found = collect(tmp_path)
    assert found.seconds(found.runs[0]) == found.runs[0].total_seconds == 60 + 8 + 4
    assert found.runs[1].total_seconds == 8 + 4 + found.runs[1].seconds["training"]
    assert found.seconds(found.runs[1]) == found.runs[1].total_seconds + 60


def test_but_for_times_it_says_what_the_settings_say(tmp_path):
    """Another machine, more attempts and other times change the last columns alone."""
    names = fake_sweep(tmp_path, GRID)
    before = summary_csv(collect(tmp_path))
    for name in names:
        path = tmp_path / "runs" / name / "run.json"
        record = json.loads(path.read_text())
        record |= {"attempts": 3, "device": "8 x gpu", "versions": {"jax": "1"}, "images_per_second": 9.0}
        write(path, record | {"seconds": {"training": 1.0, "sampling": 2.0, "evaluation": 3.0}})
    after = summary_csv(collect(tmp_path))
    assert after != before

    def without_times(text):
        return [line.rsplit(",", 4)[0] for line in text.splitlines()]

    assert without_times(after) == without_times(before)
    assert summary_csv(collect(tmp_path)) == after


def test_runs_that_have_not_finished_have_rows(tmp_path):
    names = fake_sweep(tmp_path, GRID, states={0: "failed", 1: "running", 2: "waiting"})
    table = rows(summary_csv(collect(tmp_path)))
    assert [row["state"] for row in table] == ["failed", "running", "waiting", "finished"]
    assert table[0]["classifier.frechet_distance"] == ""
    assert table[3]["classifier.frechet_distance"] != ""
    running = collect(tmp_path).runs[1]
    assert running.name == names[1]
    assert running.progress == (500, 1400)


def test_files_that_are_missing_or_half_written_are_left_out(tmp_path):
    names = fake_sweep(tmp_path, GRID)
    folder = tmp_path / "runs" / names[0]
    (folder / "eval.json").write_text('{"metrics": [')
    (folder / "run.json").unlink()
    (tmp_path / "runs" / names[1] / "metrics.jsonl").unlink()
    found = collect(tmp_path)
    assert found.runs[0].evaluation is None
    assert found.runs[0].state == "waiting"
    assert found.runs[1].curve == []
    assert len(found.runs[2].curve) == 15
    assert collect(tmp_path / "nowhere").runs == ()


def test_runs_are_gathered_over_their_seeds(tmp_path):
    fake_sweep(tmp_path, GRID)
    found = collect(tmp_path)
    assert [len(group.runs) for group in found.groups] == [2, 2]
    assert found.labels == ["simple", "mine"]
    assert found.differing == ["objective.weighting", "seed"]
    assert found.telling == ["objective.weighting"]
    assert set(found.keys) == {f"{f}.{m}" for f in ("classifier", "pixels") for m in METRICS} | {
        "neighbours.share_nearer",
        "bound",
        "test_error",
        "test_loss",
    }


def test_a_field_that_follows_from_others_is_not_in_the_name(tmp_path):
    settings = [("mean", "learned", 1), ("mean", "large", 2), ("eps", "learned", 1), ("eps", "large", 2)]
    grid = [dict(zip(("denoiser.prediction", "objective.variance", "a.b"), said, strict=True)) for said in settings]
    fake_sweep(tmp_path, grid)
    assert collect(tmp_path).labels == ["mean · learned", "mean · large", "eps · learned", "eps · large"]


@pytest.mark.parametrize("grid", [{}, {"seed": [0]}, {"seed": [0, 1]}])
def test_a_single_setting_is_named_by_its_config(tmp_path, grid):
    fake_sweep(tmp_path, grid)
    assert collect(tmp_path).labels == ["ddpm_digits.py"]


def test_values_that_look_alike_are_named_in_full(tmp_path):
    fake_sweep(tmp_path, {"objective.weighting": ["a:mine", "b:mine"]})
    assert collect(tmp_path).labels == ["objective.weighting=a:mine", "objective.weighting=b:mine"]


def test_a_number_that_is_not_finite_is_not_measured(tmp_path):
    (name,) = fake_sweep(tmp_path, {"seed": [0]})
    path = tmp_path / "runs" / name / "eval.json"
    evaluation = json.loads(path.read_text())
    evaluation["metrics"][0]["value"] = math.nan
    write(path, evaluation)
    run = collect(tmp_path).runs[0]
    assert "classifier.frechet_distance" not in run.measures
    assert np.isfinite(run.measures["classifier.kernel_distance"].value)


def test_the_floor_is_read_from_the_first_run_that_has_it(tmp_path):
    fake_sweep(tmp_path, GRID, states={0: "waiting"})
    floor = collect(tmp_path).floor
    assert list(floor) == ["train with itself", "two halves of train", "test against train"]
    assert floor["two halves of train"]["pixels.frechet_distance"].value == 3.1
