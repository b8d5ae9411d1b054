"""What stands on a sweep's page, for sweeps in every state."""

import base64
import html.parser
import io
import json
import re

import numpy as np
import plotly.offline
import pytest
from fake_sweep import fake_sweep, write
from PIL import Image

from experiments.sweep.figures import POINTS, figures, set_scale, style, thinned
from experiments.sweep.html_table import duration
from experiments.sweep.page import page, write_page
from experiments.sweep.pictures import first_images, sample_picture
from experiments.sweep.summary import collect, summary_csv

GRID = {"objective.weighting": ["simple", "vlb"], "perturbation.name": ["ddpm", "ncsn"], "seed": [0, 1]}
STATES = {0: "running", 1: "failed", 2: "interrupted", 3: "waiting"}


class Page(html.parser.HTMLParser):
    """A page's references, its texts and its data; its tags are balanced."""

    VOID = {"meta", "img", "link", "input", "line"}

    def __init__(self, text):
        super().__init__()
        self.text = text.replace(plotly.offline.get_plotlyjs(), "")
        self.references, self.open, self.words, self.scripts = [], [], [], []
        self.feed(self.text)
        assert self.open == []
        self.words = " ".join(" ".join(self.words).split())
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attributes):
        self.references += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside == "script" else self.words if inside != "style" else []).append(data)


def written(directory, *arguments, **options):
    fake_sweep(directory, *arguments, **options)
    return Page(page(collect(directory)))


@pytest.mark.parametrize(
    ("grid", "options"),
    [
        ({}, {}),
        (GRID, {}),
        (GRID, {"states": STATES}),
        (GRID, {"metrics": False}),
        ({"seed": [0, 1]}, {"states": {0: "waiting", 1: "waiting"}}),
        ({"seed": [0]}, {"shape": (2,), "metrics": False}),
        ({"sampler.num_steps": [10, 20]}, {"shape": (40, 40, 3), "trained_in": {1: 0}}),
        ([], {}),
    ],
)
def test_the_page_needs_nothing_else(tmp_path, grid, options):
    found = written(tmp_path, grid, **options)
    assert all(reference.startswith(("data:", "#")) for reference in found.references)
    assert "url(" not in found.text
    assert len(found.text) < 1_000_000


def test_the_numbers_are_there(tmp_path):
    sweep = {"title": "A title", "note": "First.\n\nSecond.", "published": PUBLISHED}
    found = written(tmp_path, GRID, sweep=sweep)
    for text in (
        "8 runs of 4 settings: 8 finished",
        "A title",
        "First. Second.",
        "classifier 100 samples against digits train (1,498)",
        "bound of 100 steps on 128 test examples",
        "train with itself real, 100 against 1,498",
        "test accuracy 98.3%",
        "torch-fidelity is not installed",
        "python -m experiments.sweep --config=ddpm_digits.py --workdir=runs/fake",
        "Device: 1 x cpu",
        "jax 0.10.2",
        "training.batch_size = 64",
        "published FID",
        "3.17",
        "Published: Table 9.",
        "median distance of samples 1.25, of test data 1.5",
    ):
        assert text in found.words, text
    assert "training.batch_size = 64" in found.words.split("What all runs have in common")[1]
    assert "Not finished" not in found.words


PUBLISHED = [
    {
        "match": {"objective.weighting": "simple", "perturbation.name": "ddpm"},
        "metric": "FID",
        "value": 3.17,
        "source": "Table 9",
    },
    {"match": {"objective.weighting": "another"}, "metric": "FID", "value": 99.5, "source": "Table 10"},
]


def test_published_figures_stand_with_the_settings_they_are_of(tmp_path):
    found = written(tmp_path, GRID, sweep={"published": PUBLISHED})
    cells = re.findall(r'data-column="published FID" data-value="([^"]*)"', found.text)
    assert cells == ["3.17", "", "", ""]
    assert "99.5" not in found.words
    assert "Table 10" not in found.words


def test_means_are_over_seeds(tmp_path):
    found = written(tmp_path, GRID)
    summary = collect(tmp_path)
    cells = re.findall(r'data-column="classifier.frechet_distance" data-value="([^"]*)"', found.text)
    for cell, group in zip(cells, summary.groups, strict=True):
        values = [measure.value for measure in group.measured("classifier.frechet_distance")]
        assert len(values) == 2
        np.testing.assert_allclose(float(cell), np.mean(values), rtol=1e-12)


FRECHET = "classifier.frechet_distance"


def spoil(directory, name, edit):
    """Changes a run's eval.json by a function of it."""
    path = directory / "runs" / name / "eval.json"
    evaluation = json.loads(path.read_text())
    edit(evaluation)
    write(path, evaluation)


def clear_winner(directory):
    """A sweep of two settings, two seeds each, whose Fréchet distances are near 1 and near 50; its runs' names."""
    names = fake_sweep(directory, {"objective.weighting": ["simple", "vlb"], "seed": [0, 1]})
    for name, value in zip(names, (1.0, 1.1, 50.0, 50.1), strict=True):
        ends = {"value": value, "low": value - 0.05, "high": value + 0.05}
        spoil(directory, name, lambda evaluation, ends=ends: evaluation["metrics"][0].update(ends))
    return names


def bold(directory, key=FRECHET):
    """Whether each setting's number of a column is bold."""
    text = page(collect(directory))
    cells = re.findall(rf'data-column="{re.escape(key)}" data-value="[^"]*"[^>]*>(.*?)</td>', text)
    assert cells
    return ["<b>" in cell for cell in cells]


def test_a_clear_winner_is_bold_and_nothing_else(tmp_path):
    names = clear_winner(tmp_path)
    assert bold(tmp_path) == [True, False]
    assert bold(tmp_path, "bound") == [False, False]
    assert bold(tmp_path, "test_error") == [False, False]
    # As far apart, but two seeds that do not agree.
    spoil(tmp_path, names[1], lambda evaluation: evaluation["metrics"][0].update(value=30.0, low=29.0, high=31.0))
    assert bold(tmp_path) == [False, False]


@pytest.mark.parametrize("other", [{"num_samples": 40}, {"num_reference": 40}, {"reference": "digits test"}])
def test_numbers_that_do_not_compare_have_no_winner(tmp_path, other):
    for name in clear_winner(tmp_path)[2:]:
        spoil(tmp_path, name, lambda evaluation: evaluation["metrics"][0].update(other))
    assert bold(tmp_path) == [False, False]


@pytest.mark.parametrize(
    ("other", "comparable"),
    [({}, True), ({"variance": "learned"}, True), ({"num_steps": 1000}, False), ({"unit": "nats"}, False)],
)
def test_bounds_of_different_chains_have_no_winner(tmp_path, other, comparable):
    """A learned variance is the model's own: its bound is a bound as the others are."""
    for name in clear_winner(tmp_path)[2:]:
        spoil(tmp_path, name, lambda evaluation: evaluation["bound"].update(other, total=9.0))
    assert bold(tmp_path, "bound") == [comparable, False]


def test_a_mean_over_fewer_seeds_says_so(tmp_path):
    names = fake_sweep(tmp_path, GRID, states={1: "running"})
    found = Page(page(collect(tmp_path)))
    (cell, *others) = re.findall(rf'data-column="{FRECHET}"[^>]*>(.*?)</td>', found.text)
    assert "1 of 2 seeds" in cell
    assert not any("of 2 seeds" in other for other in others)
    # What one evaluation alone had to say is said with its run.
    note = "the samples are not all finite numbers"
    spoil(tmp_path, names[2], lambda evaluation: evaluation["notes"].append(note))
    found = Page(page(collect(tmp_path)))
    assert f"{names[2]} : {note}" in found.words
    assert f"{names[2]} : inception" not in found.words


def test_the_floor_is_drawn_under_what_was_measured_against_the_same(tmp_path):
    names = fake_sweep(tmp_path, GRID)

    def drawn():
        figure = next(figure for figure in figures(collect(tmp_path)) if figure.name == "metrics")
        lines = figure.views["classifier: Fréchet distance"]["layout"].get("shapes", [])
        return [line["x0"] for line in lines], figure.note

    lines, note = drawn()
    assert lines == [6.2]
    assert "100 of them against 1,498 of digits train, where a run has 100 samples" in note
    assert f"the dots of a row are the seeds. {note}" in Page(page(collect(tmp_path))).words
    for name in names:
        spoil(tmp_path, name, lambda evaluation: [row.update(reference="test") for row in evaluation["metrics"]])
    lines, note = drawn()
    assert lines == []
    assert note == ""


def test_a_seed_that_only_some_runs_set_is_named(tmp_path):
    found = written(tmp_path, [{"a.b": 1, "seed": 3}, {"a.b": 1}, {"a.b": 2}])
    assert "seed 3" in found.words
    assert found.data["figures"]["training"]["loss"]["data"][1]["name"].endswith("seed 0")


def test_a_shared_training_counts_in_the_wall_time_of_each(tmp_path):
    fake_sweep(tmp_path, {"sampler.num_steps": [10, 20]}, trained_in={1: 0})
    path = tmp_path / "runs" / "sampler.num_steps=20" / "run.json"
    write(path, json.loads(path.read_text()) | {"seconds": {"training": 0.0, "sampling": 8.0, "evaluation": 4.0}})
    cells = re.findall(r'data-column="seconds" data-value="([^"]*)"[^>]*>(.*?)</td>', page(collect(tmp_path)))
    assert [float(value) for value, _ in cells] == [72.0, 72.0]
    assert ["shared training" in cell for _, cell in cells] == [False, True]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.02, 0.5], {"type": "log", "dtick": "D2", "tickformat": "~g"}),
        ([1e-3, 1.0], {"type": "log", "dtick": 1}),
        ([1e-14, 1.0], {"type": "log", "dtick": 2}),
        ([0.0, 1.0], {}),
    ],
)
def test_ticks_of_a_logarithmic_axis(values, ticks):
    axis = {}
    set_scale(axis, values)
    assert axis == ticks


def test_runs_that_did_not_finish_are_told_with_their_log(tmp_path):
    found = written(tmp_path, GRID, states=STATES)
    assert "2 runs did not finish" in found.words
    assert "running 500 / 1,400" in found.words
    assert (
        "failed , 2 attempts Traceback (most recent call last): <b>ValueError</b>: the loss is nan & void"
        in (found.words.split("Not finished")[1])
    )
    assert "4 finished, 1 running, 1 waiting, 1 interrupted, 1 failed" in found.words


def test_everything_is_escaped(tmp_path):
    evil = "</script><script>alert(1)</script>&\"'"
    sweep = {"title": evil, "note": evil, "command": evil}
    grid = [{"objective.weighting": "a</script><b>"}, {"objective.weighting": '"><img src=x onerror=alert(1)>'}]
    found = written(tmp_path, grid, sweep=sweep)
    assert "alert(1)</script>" not in found.text
    assert "<img src=x" not in found.text
    assert evil in found.words


EVIL = "'><img src=x onerror=alert(1)>\" </script><!--<script>\u2028\u2029{{ 7 * 7 }}{% raw %}&lt;"


def test_what_runs_say_is_escaped(tmp_path):
    """Names, values of settings, logs, notes and facts of files, wherever they stand, are text and nothing else."""
    sweep = {"published": [{"metric": EVIL, "value": EVIL, "source": EVIL, "match": {}}], "started": EVIL}
    names = fake_sweep(tmp_path, [{"a.b": EVIL, "a.c": c, "seed": c} for c in (EVIL, 0, 1)], {0: "failed"}, sweep=sweep)
    path = tmp_path / "runs" / names[0] / "run.json"
    write(path, json.loads(path.read_text()) | {"error": EVIL, "device": EVIL, "versions": {EVIL: EVIL}})
    for name in names[1:]:
        spoil(tmp_path, name, add_evil)
    text = page(collect(tmp_path))
    found = Page(text)
    assert "<img src=x" not in found.text
    assert "<!--" not in found.text
    assert "49" not in found.words.split("How it was made")[1]
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', found.text, re.DOTALL)
    assert not set("<>&\u2028\u2029") & set(data)
    assert json.loads(data)["runs"] == names
    shown = " ".join(EVIL.split())
    assert found.words.count(shown) > 20
    fields = [json.loads(html.unescape(said)) for said in re.findall(r"data-fields='(.*?)'", text)]
    assert fields == [[EVIL], ["0"], ["1"]]


def add_evil(evaluation):
    """Puts EVIL wherever eval.json has text."""
    evaluation["notes"].append(EVIL)
    evaluation["features"][0] |= {"name": EVIL, "note": EVIL, "fingerprint": EVIL}
    evaluation["neighbours"]["unit"] = EVIL
    evaluation["floor"][0]["what"] = EVIL
    for row in evaluation["metrics"]:
        row["reference"] = EVIL
    evaluation["metrics"][0] |= {"name": EVIL, "features": EVIL}


def test_the_table_downloads_as_summary_csv(tmp_path):
    found = written(tmp_path, GRID)
    (link,) = [reference for reference in found.references if reference.startswith("data:text/csv")]
    assert base64.b64decode(link.partition("base64,")[2]).decode() == summary_csv(collect(tmp_path))


def test_every_run_is_a_trace_of_every_figure(tmp_path):
    found = written(tmp_path, GRID)
    assert set(found.data["figures"]) == {"training", "levels", "weights", "metrics"}
    for figure in found.data["figures"].values():
        for view in figure.values():
            assert sorted(trace["meta"] for trace in view["data"]) == list(range(8))
    training = found.data["figures"]["training"]["loss"]["data"][0]
    lines = collect(tmp_path).runs[0].curve
    assert training["x"] == [line["step"] for line in lines]
    np.testing.assert_allclose(training["y"], [line["loss"] for line in lines], rtol=1e-4)


def test_a_shared_training_is_drawn_once(tmp_path):
    fake_sweep(tmp_path, {"sampler.num_steps": [10, 20]}, trained_in={1: 0})
    drawn = {figure.name: figure for figure in figures(collect(tmp_path))}
    assert [trace["meta"] for trace in drawn["training"].views["loss"]["data"]] == [0]
    assert [trace["meta"] for trace in drawn["levels"].views["error in ε"]["data"]] == [0, 1]


def test_colours_tell_one_field_and_dashes_another(tmp_path):
    fake_sweep(tmp_path, {"objective.weighting": list("abcde"), "perturbation.name": ["ddpm", "ncsn"]})
    drawn = style(collect(tmp_path))
    assert drawn.dashed == "perturbation.name"
    assert drawn.dashes == ("solid", "dash") * 5
    assert len(set(drawn.colors)) == 5
    assert drawn.colors[::2] == drawn.colors[1::2]


def test_curves_are_thinned_but_keep_their_ends():
    xs, ys = thinned(list(range(10_001)), [1 / 3] * 10_001)
    assert (len(xs), xs[0], xs[-1]) == (POINTS, 0, 10_000)
    assert ys[0] == 0.33333
    assert thinned([1, 2], [None, 2.0]) == ([1, 2], [None, 2.0])


def test_pictures_are_the_first_samples(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "samples.npz", arr_0=images, labels=np.arange(70))
    np.testing.assert_array_equal(first_images(tmp_path / "samples.npz", lambda height, width: 5), images[:5])
    picture = sample_picture(tmp_path)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))).convert("L"))
    assert picture.pixelated
    assert (picture.width, picture.height) == pixels.shape == (8 * 9 + 1, 8 * 9 + 1)
    np.testing.assert_array_equal(pixels[1:9, 1:9], images[0, ..., 0])
    np.testing.assert_array_equal(pixels[-9:-1, -9:-1], images[63, ..., 0])


def test_a_damaged_archive_has_no_picture(tmp_path):
    (tmp_path / "samples.npz").write_bytes(b"PK not a zip")
    assert sample_picture(tmp_path) is None
    assert sample_picture(tmp_path / "nowhere") is None


def test_forty_runs_fit(tmp_path):
    grid = {"objective.weighting": [f"w{number}" for number in range(20)], "seed": [0, 1]}
    fake_sweep(tmp_path, grid)
    write_page(tmp_path)
    assert (tmp_path / "index.html").stat().st_size < 8_000_000
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "runs", "sweep.json"}


def test_times_as_people_say_them():
    assert [duration(seconds) for seconds in (48.2, 95, 1500, 8640)] == ["48 s", "1.6 min", "25 min", "2.4 h"]


def test_a_line_over_evaluations_is_a_sampler(tmp_path):
    """With the mean over its seeds at each number of evaluations, whatever the order of the plan."""
    plans = [
        {"sampler.name": name, **more, "sampler.num_steps": steps, "seed": seed}
        for name, more in (("ddim", {}), ("ddim", {"sampler.eta": 1.0}), ("heun", {}))
        for steps in (20, 10)
        for seed in (0, 1)
    ]
    evaluations = [20, 20, 10, 10] * 2 + [39, 39, 19, 19]
    names = fake_sweep(tmp_path, plans, evaluations=evaluations)
    distances = {run.name: run.measures[FRECHET].value for run in collect(tmp_path).runs}
    (figure,) = [figure for figure in figures(collect(tmp_path)) if figure.name == "evaluations"]
    assert list(figure.views) == ["classifier", "pixels"]
    view = figure.views["classifier"]
    assert view["layout"]["xaxis"]["type"] == "log"
    assert [trace["name"] for trace in view["data"]] == ["ddim", "ddim, eta 1.0", "heun"]
    assert [trace["x"] for trace in view["data"]] == [[10, 20], [10, 20], [19, 39]]
    assert [trace["meta"] for trace in view["data"]] == [[2, 3, 0, 1], [6, 7, 4, 5], [10, 11, 8, 9]]
    for trace in view["data"]:
        values = [distances[names[index]] for index in trace["meta"]]
        np.testing.assert_allclose(trace["y"], [np.mean(values[:2]), np.mean(values[2:])], rtol=1e-4)


def test_without_different_evaluations_there_is_no_such_figure(tmp_path):
    fake_sweep(tmp_path, {"sampler.num_steps": [10, 20]}, evaluations=[50, 50])
    assert "evaluations" not in {figure.name for figure in figures(collect(tmp_path))}
