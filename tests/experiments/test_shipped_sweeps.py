"""The sweeps in experiments/sweeps: each is a plan for the digits and for CIFAR-10, and runs."""

import itertools
import json

import pytest

from experiments.sweep.__main__ import main
from experiments.sweep.plan import check_runs, make_plan
from experiments.sweep.summary import collect
from experiments.sweeps import ddpm_table2, samplers, swap, weightings
from unified_diffusion.objectives import WEIGHTINGS
from unified_diffusion.runs.build import create, outline
from unified_diffusion.runs.sections import build

SHIPPED = {"weightings.py": weightings, "ddpm_table2.py": ddpm_table2, "swap.py": swap, "samplers.py": samplers}
CONFIGS = ("ddpm_digits.py", "ddpm_cifar.py")
CIFAR = {"shape": (32, 32, 3), "num_classes": 10, "num_examples": 50_000, "fingerprint": ""}
SMALL = [
    "--config.training.steps=2",
    "--config.training.sample_every=0",
    "--config.sampling.num_images=8",
    "--config.evaluation.num_levels=2",
    "--config.evaluation.num_examples=20",
    "--config.evaluation.bound_examples=8",
    "--config.evaluation.bound_steps=4",
    "--config.model.channels=8",
    "--config.model.attention_resolutions=()",
]


def plan(sweep, config="ddpm_digits.py", *grids):
    return make_plan(config, [], list(grids), sweep)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("sweep", SHIPPED)
def test_it_is_a_plan_of_distinct_runs(sweep, config):
    made = plan(sweep, config, "seed=0,1")
    assert len(made.runs) == 2 * len(SHIPPED[sweep].get_sweep())
    assert made.merged == ()
    assert made.title == SHIPPED[sweep].TITLE
    assert made.note == SHIPPED[sweep].NOTE


def test_weightings_are_all_of_them_under_both_perturbations():
    runs = plan("weightings.py").runs
    kinds = [(run.config["objective"]["weighting"], run.config["perturbation"]["name"]) for run in runs]
    assert kinds == [(weighting, name) for weighting in WEIGHTINGS for name in ("ddpm", "ncsn")]


@pytest.mark.parametrize("config", CONFIGS)
def test_weightings_differ_in_nothing_else(config):
    """Nothing but what stands under the perturbation's own name."""

    def rest(run):
        settings = json.loads(json.dumps(run.config))
        del settings["objective"]["weighting"], settings["perturbation"]
        return settings

    runs = plan("weightings.py", config).runs
    assert all(rest(run) == rest(runs[0]) for run in runs)
    assert {run.config["perturbation"]["num_steps"] for run in runs} == {weightings.LEVELS}


def test_the_published_figures_are_each_of_one_row():
    runs = plan("ddpm_table2.py").runs
    values = []
    for run in runs:
        values += [
            row["value"]
            for row in ddpm_table2.PUBLISHED
            if all(run.overrides.get(field) == value for field, value in row["match"].items())
        ]
    assert values == [23.69, 13.22, "unstable", "unstable", 13.51, 3.17]
    assert [run.config["denoiser"]["prediction"] for run in runs] == ["mean"] * 3 + ["eps"] * 3


def test_swap_trains_once_for_each_perturbation():
    runs = plan("swap.py").runs
    trained = [run.trained_in or run.name for run in runs]
    assert len(set(trained)) == 2
    assert [run.config["perturbation"]["name"] for run in runs] == ["ddpm"] * 3 + ["ncsn"] * 3


@pytest.mark.parametrize("config", CONFIGS)
def test_swap_samples_with_equal_numbers_of_evaluations(config):
    """As the samplers that the runs build count them, on the ladders that they sample under."""
    calls = []
    for run in plan("swap.py", config).runs:
        sampler, ladder = (build(name, run.config[name]) for name in ("sampler", "under"))
        calls.append(sampler.num_evaluations(ladder))
    assert calls == [swap.STEPS] * 6 == [100] * 6


@pytest.mark.parametrize("config", CONFIGS)
def test_samplers_have_near_the_evaluations_they_are_said_to_have(config):
    """As the samplers that the runs build count them, of one training."""
    runs = plan("samplers.py", config).runs
    assert sum(run.trained_in is None for run in runs) == 1
    for run, number in zip(runs, itertools.cycle(samplers.EVALUATIONS)):
        ladder = build("under", run.config["under"]) or build("perturbation", run.config["perturbation"])
        assert number - 1 <= build("sampler", run.config["sampler"]).num_evaluations(ladder) <= number


@pytest.mark.slow
@pytest.mark.parametrize("sweep", SHIPPED)
def test_it_traces_on_digits(sweep):
    (same,) = [line for line in check_runs(plan(sweep).runs) if line.startswith("the same")]
    assert ("network evaluations per sample" in same) == (sweep != "samplers.py")
    assert "data order" in same


@pytest.mark.slow
@pytest.mark.parametrize("sweep", SHIPPED)
def test_it_traces_on_cifar(sweep):
    """Of the weightings, of which all are traced on digits, four are enough."""
    runs = plan(sweep, "ddpm_cifar.py").runs
    calls = set()
    for run in runs[-4:] if sweep == "weightings.py" else runs[::3] if sweep == "samplers.py" else runs:
        experiment = create(run.config, CIFAR, outline)
        calls.add(experiment.sampler.num_evaluations(experiment.sampled_under))
    assert calls == {"swap.py": {100}, "samplers.py": {9, 10}}.get(sweep, {1000})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sweep", "chosen"),
    [("weightings.py", (0, 3)), ("ddpm_table2.py", (0, 2)), ("swap.py", ()), ("samplers.py", (0, 18, 21, -3))],
)
def test_it_runs_on_digits(sweep, chosen, tmp_path):
    """Two steps, of some of its runs or of all."""
    entries = SHIPPED[sweep].get_sweep()
    entries = [entries[index] for index in chosen] or entries
    file = tmp_path / sweep
    common = SHIPPED[sweep].CONFIG
    file.write_text(f"CONFIG = {common!r}\n\ndef get_sweep():\n    return {entries!r}\n")
    workdir = tmp_path / "sweep"
    assert main(["--config=ddpm_digits.py", f"--workdir={workdir}", f"--sweep={file}", "--cluster=debug", *SMALL]) == 0
    summary = collect(workdir)
    assert [run.state for run in summary.runs] == ["finished"] * len(entries)
    assert all(("bound" in run.measures) == common.get("evaluation.bound", True) for run in summary.runs)
    assert (workdir / "index.html").exists()
