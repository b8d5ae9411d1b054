"""What a sweep's command line stands for, and what of it is refused."""

import json

import pytest

from experiments.sweep.__main__ import main
from experiments.sweep.plan import check_runs, make_plan, parse_grid, run_name
from experiments.sweep.record import new_record, write_record
from unified_diffusion.errors import UserError
from unified_diffusion.files import write_json


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=0,1", ("seed", ["0", "1"])),
        ("config.seed = 0 , 1", ("seed", ["0", "1"])),
        ("objective.weighting=simple", ("objective.weighting", ["simple"])),
        ("model.multipliers=(1,2),(1,2,2)", ("model.multipliers", ["(1,2)", "(1,2,2)"])),
        ("model.multipliers=[1, 2],[[1], 2]", ("model.multipliers", ["[1, 2]", "[[1], 2]"])),
        ("data.path='a,b',c", ("data.path", ["'a,b'", "c"])),
        ("data.path=a=b,c", ("data.path", ["a=b", "c"])),
    ],
)
def test_grid(text, expected):
    assert parse_grid(text) == expected


@pytest.mark.parametrize("text", ["seed", "seed=", "=1", "seed=1,,2", "seed=(1,2", "seed='1", "seed=1,1"])
def test_a_grid_that_is_none(text):
    with pytest.raises(UserError, match="--grid="):
        parse_grid(text)
    with pytest.raises(UserError) as mistake:
        make_plan("ddpm_toy.py", [], ["seed=1,2"], only=[text])
    assert "--only=" in str(mistake.value)
    assert "--grid" not in str(mistake.value)


def test_names():
    assert run_name({"objective.weighting": "vlb", "seed": "0"}) == "objective.weighting=vlb,seed=0"
    assert run_name({"model.multipliers": (1, 2), "denoiser.scale_input": False}) == (
        "model.multipliers=(1,2),denoiser.scale_input=False"
    )
    assert run_name({"data.path": "/a b/c:d"}) == "data.path=-a-b-c-d"
    assert run_name({}) == "base"
    long = [run_name({"perturbation.betas": [0.1] * 99 + [last]}) for last in (0.1, 0.2)]
    assert len(set(long)) == 2
    assert all(len(name) == 120 for name in long)
    # A file system that does not tell "A" from "a" would put both runs into one folder.
    assert run_name({"data.path": "A"}, {"data.path=a"}) != "data.path=A"


def test_the_grids_and_the_file_multiply(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        'TITLE = "Mine"\n'
        'PUBLISHED = [{"metric": "fid", "value": 3.17, "match": {"config.seed": 0}}]\n'
        'CONFIG = {"config.model.width": 8, "model.depth": 1}\n\n'
        'def get_sweep():\n    return [{"objective.weighting": name} for name in ("simple", "vlb")]\n'
    )
    plan = make_plan("ddpm_toy.py", [("model.width", "16")], ["seed=0,1"], str(file))
    assert [run.name for run in plan.runs] == [
        f"objective.weighting={name},seed={seed}" for name in ("simple", "vlb") for seed in (0, 1)
    ]
    assert plan.runs[3].overrides == {"objective.weighting": "vlb", "seed": 1}
    assert plan.runs[3].config["objective"]["weighting"] == "vlb"
    # The file's CONFIG is that of all runs, and the command line has the last word.
    assert all((run.config["model"]["width"], run.config["model"]["depth"]) == (16, 1) for run in plan.runs)
    assert plan.title == "Mine"
    assert plan.published == [{"metric": "fid", "value": 3.17, "match": {"seed": 0}, "source": ""}]
    assert json.loads(json.dumps(plan.runs[3].source)) == plan.runs[3].source


FILES = [
    ("def get_sweep(): pass", "get_sweep() must return a list"),
    ("def get_sweep(): return [('seed', 1)]", "must be a dict of field and value, not ('seed', 1)"),
    ("def get_sweep(): return [{'seed': {1}}]", "seed = {1}: write it as numbers"),
    ("CONFIG = ['seed']", "CONFIG must be a dict of field and value, not ['seed']"),
    ("CONFIG = {1: 2}", "CONFIG must be a dict of field and value, not {1: 2}"),
    ("CONFIG = {'config.model.wdith': 8}", "did you mean 'width'"),
    ("TITLE = 3", "TITLE must be text, not 3"),
    ("PUBLISHED = {'metric': 'fid'}", "PUBLISHED must be a list"),
    ("PUBLISHED = [3.17]", "PUBLISHED[0] must be a dict with 'metric' and 'value', not 3.17"),
    ("PUBLISHED = [{'metric': 'fid'}]", "PUBLISHED[0] has no 'value'"),
    ("PUBLISHED = [{'value': 1}]", "PUBLISHED[0] has no 'metric'"),
    ("PUBLISHED = [{'metric': 'fid', 'value': 1, 'soruce': 'a paper'}]", "did you mean 'source'"),
    ("PUBLISHED = [{'metric': 'fid', 'value': 1, 'match': 'seed'}]", "PUBLISHED[0], match must be a dict"),
    ("PUBLISHED = [{'metric': 'fid', 'value': {1}}]", "PUBLISHED[0], value = {1}: write it as numbers"),
]


@pytest.mark.parametrize(("text", "message"), FILES)
def test_a_sweep_file_with_a_mistake(text, message, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(text if "get_sweep" in text else f"{text}\ndef get_sweep(): return [{{'seed': 1}}]\n")
    with pytest.raises(UserError) as mistake:
        make_plan("ddpm_toy.py", [], [], str(file))
    assert message in str(mistake.value)


def test_only_leaves_runs_out(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def get_sweep(): return [{'objective.weighting': 'vlb'}, {'training.flip': False}]\n")

    def names(*only):
        return [run.name for run in make_plan("ddpm_toy.py", [], ["seed=0,1,2"], str(file), only).runs]

    # The second entry does not set the weighting, so that --only says nothing of it.
    assert names("objective.weighting=vlb", "config.seed=0,2") == [
        f"{name},seed={seed}" for name in ("objective.weighting=vlb", "training.flip=False") for seed in (0, 2)
    ]
    assert len(names("training.flip=false")) == 6
    with pytest.raises(UserError, match="--only=sede=0: no run sets sede; did you mean 'seed'"):
        names("sede=0")
    with pytest.raises(UserError, match="unknown value of objective.weighting in --only 'vbl': did you mean 'vlb'"):
        names("objective.weighting=vbl")
    with pytest.raises(UserError, match="no run is left by --only=seed=0 --only=seed=1"):
        names("seed=0", "seed=1")


def test_equal_runs_are_done_once():
    plan = make_plan("ddpm_toy.py", [], ["training.batch_size=256,256.0"])
    assert len(plan.runs) == 1
    assert "is the same run as training.batch_size=256:" in plan.merged[0]


def test_what_comes_after_training_shares_it():
    grids = ["objective.weighting=simple,vlb", "sampler.num_steps=5,10", "evaluation.seed=0,1"]
    runs = make_plan("ddpm_toy.py", [], grids).runs
    trainers = {run.name for run in runs if run.trained_in is None}
    assert trainers == {
        f"objective.weighting={name},sampler.num_steps=5,evaluation.seed=0" for name in ("simple", "vlb")
    }
    for run in runs:
        assert run.trained_in is None or run.trained_in in trainers
        assert run.trained_in is None or run.name.split(",")[0] == run.trained_in.split(",")[0]


def test_the_training_that_is_there_is_shared(tmp_path):
    def trainers(*values):
        plan = make_plan("ddpm_toy.py", [], [f"sampler.num_steps={','.join(values)}"], directory=tmp_path)
        return [run.trained_in for run in plan.runs]

    def leave(value, checkpoints, trained, trained_in=None):
        (run,) = make_plan("ddpm_toy.py", [], [f"sampler.num_steps={value}"]).runs
        write_record(tmp_path / run.name, {**new_record(run), "trained": trained, "trained_in": trained_in})
        write_json(tmp_path / run.name / "config.json", run.config)
        if checkpoints:
            (tmp_path / run.name / "checkpoints" / "1").mkdir(parents=True)
        return run.name

    assert trainers("5", "10", "20") == [None, "sampler.num_steps=5", "sampler.num_steps=5"]
    begun = leave("10", checkpoints=True, trained=False)
    assert trainers("5", "10", "20") == [begun, None, begun]
    whole = leave("20", checkpoints=True, trained=True)
    assert trainers("5", "10", "20") == [whole, whole, None]
    # One that shares a training knows where that is, though it is not in the sweep any more.
    sharing = leave("5", checkpoints=False, trained=True, trained_in=whole)
    assert trainers("40", "5") == [sharing, None]
    assert trainers("5", "20") == [whole, None]


def test_under_starts_from_the_files_settings_of_that_name():
    plan = make_plan("ddpm_digits.py", [("perturbation.num_steps", "20")], ["under.name=none,ddpm,ncsn"])
    unders = [run.config["under"] for run in plan.runs]
    assert unders[0] == {"name": None}
    assert (unders[1]["num_steps"], unders[1]["schedule"]) == (20, "cosine")
    assert (unders[2]["num_steps"], unders[2]["sigma_min"], unders[2]["sigma_max"]) == (50, 0.05, 5.0)


def test_what_differs_is_said():
    overrides = [("model.width", "8"), ("model.depth", "1")]
    same, different = check_runs(
        make_plan("ddpm_toy.py", overrides, ["sampler.num_steps=5,10", "denoiser.variance=fixed,learned"]).runs
    )
    assert same == "the same in all runs: data order, number of steps"
    assert different == "not the same in all runs: network, network evaluations per sample (5, 10)"
    (same,) = check_runs(make_plan("ddpm_toy.py", overrides, ["seed=0,1"]).runs)
    assert same.startswith("the same in all runs: data order (for each seed), network")


MISTAKES = [
    (["--grid=objective.weightin=simple,vlb"], "did you mean 'weighting'"),
    (["--grid=objective.weighting=simple,vbl"], "run objective.weighting=vbl: unknown weighting 'vbl'"),
    (["--grid=objectiv.weighting=simple"], "'objective'"),
    (["--grid=seed=0,one"], "it must be a whole number"),
    (["--grid=seed=0,1", "--config.seed=2"], "seed is set by both --config and --grid"),
    (["--grid=seed=0,1", "--grid=seed=2"], "seed is set by two --grid"),
    (["--grid=sampler.num_steps=5,5000"], "1 to 200"),
    (["--grid=under.name=ncnn"], "'ncsn'"),
    (["--grid=under.num_steps=5"], "config.under.name is not"),
    (["--sweep=nowhere.py"], "--sweep=nowhere.py: no such file"),
    (["--config.training.stpes=3"], "'steps'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, message, tmp_path, capsys):
    assert main(["--config=ddpm_toy.py", f"--workdir={tmp_path / 'sweep'}", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--partition=gpu"], ["--time=5", "--cluster=debug"], ["--cluster=cloud"], ["--grids=seed=1"]],
)
def test_options_that_do_not_go_together(arguments, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["--config=ddpm_toy.py", f"--workdir={tmp_path}", *arguments])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--jobs=0", "'0' is not a whole number of at least 1"),
        ("--jobs=x", "'x' is not a whole number of at least 1"),
        ("--gpus=-1", "'-1' is not a whole number of at least 0"),
        ("--cpus=1.5", "'1.5' is not a whole number of at least 1"),
        ("--mem=0", "'0' is not a number of GB above 0"),
        ("--mem=nan", "'nan' is not a number of GB above 0"),
    ],
)
def test_options_that_are_no_numbers(argument, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--config=ddpm_toy.py", f"--workdir={tmp_path}", argument])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
