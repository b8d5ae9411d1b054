"""Conditional runs and classifiers from the command line: what guides, what samples.json tells, and mistakes."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments.main import main
from unified_diffusion import UserError
from unified_diffusion.runs.build import create, outline
from unified_diffusion.runs.config import read_config, resolve

SMALL = [
    "--config.perturbation.num_steps=20",
    "--config.optimizer.learning_rate=0.02",
    "--config.optimizer.warmup_steps=0",
    "--config.training.steps=3",
    "--config.training.log_every=1",
    "--config.training.batch_size=8",
    "--config.training.sample_every=0",
    "--config.sampler.num_steps=4",
    "--config.sampling.num_images=23",
    "--config.evaluation.features=none",
    "--config.evaluation.neighbours=0",
    "--config.evaluation.bound=false",
    "--config.evaluation.num_levels=3",
    "--config.evaluation.num_examples=20",
]
NETWORK = ["--config.model.channels=8", "--config.model.multipliers=1", "--config.model.attention_resolutions=8"]
FACTS = {"shape": [8, 8, 1], "num_classes": 10, "num_examples": 1498, "fingerprint": "x"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a conditional run and of a classifier's, both trained to their ends."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("ddpm_digits_conditional", "classifier_digits"):
        assert main([f"--config={name}.py", *NETWORK, *SMALL, f"--workdir={folder / name}"]) == 0
    return folder / "ddpm_digits_conditional", folder / "classifier_digits"


def sampled(workdir, *options):
    """(samples.json, samples, labels) of `--mode=sample`."""
    options = [f"--config.sampling.{option}" for option in options]
    assert main(["--mode=sample", f"--workdir={workdir}", *SMALL[7:9], *options]) == 0
    samples = np.load(workdir / "samples.npz")
    return json.loads((workdir / "samples.json").read_text()), samples["arr_0"], samples["labels"]


def test_guidance_from_the_command_line(runs):
    conditional, classifier = runs
    how, plain, labels = sampled(conditional)
    assert (how["num_evaluations"], how["label"], how["guidance"], how["classifier"]) == (4, None, None, None)
    np.testing.assert_array_equal(labels, np.arange(23) % 10)
    how, guided, _ = sampled(conditional, "guidance_scale=20")
    assert (how["num_evaluations"], how["guidance"]) == (8, {"scale": 20.0, "interval": None})
    assert not np.array_equal(guided, plain)
    how, _, _ = sampled(conditional, "guidance_scale=4", "guidance_interval=0.3,3")
    assert how["guidance"] == {"scale": 4.0, "interval": [0.3, 3.0]}
    assert 4 < how["num_evaluations"] < 8
    # A training of three steps has a classifier that says little: a great scale is seen in the pixels.
    how, guided, labels = sampled(conditional, f"classifier={classifier}", "classifier_scale=1000", "label=7")
    told = {"workdir": str(classifier), "step": 3, "scale": 1000.0, "num_gradients": 4}
    assert (how["num_evaluations"], how["label"], how["classifier"]) == (4, 7, told)
    np.testing.assert_array_equal(labels, np.full(23, 7))
    assert not np.array_equal(guided, sampled(conditional, "label=7")[1])


def test_a_picture_has_a_class_a_column(runs):
    sampled(runs[0])
    picture = Image.open(runs[0] / "samples.png")  # 23 images of 32 pixels and 2 between them
    assert picture.size == (10 * 34 + 2, 3 * 34 + 2)


def test_what_a_classifier_leaves(runs, capsys):
    _, classifier = runs
    assert not (classifier / "samples.npz").exists()
    result = json.loads((classifier / "eval.json").read_text())
    assert [level["t"] for level in result["levels"]] == [1, 10, 20]
    assert 0 <= result["accuracy"] <= 1
    np.testing.assert_allclose(result["accuracy"], np.mean([level["accuracy"] for level in result["levels"]]))
    lines = [json.loads(line) for line in (classifier / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["accuracy"] <= 1 for line in lines)
    assert main(["--mode=sample", f"--workdir={classifier}"]) == 2
    assert "--config.sampling.classifier=" in capsys.readouterr().err


def created(name, *overrides):
    return create(resolve(read_config(name), [tuple(item.split("=", 1)) for item in overrides]), FACTS, outline)


def test_a_run_of_another_kind_is_no_classifier(runs):
    conditional, classifier = runs
    with pytest.raises(UserError, match=r"holds no classifier: train one with --config=classifier_digits\.py"):
        created("ddpm_digits.py", f"sampling.classifier={conditional}")
    config = resolve(read_config("ddpm_digits.py"), [("sampling.classifier", str(classifier))])
    with pytest.raises(UserError, match="num_classes 10, and these have 3"):
        create(config, {**FACTS, "num_classes": 3}, outline)


MISTAKES = [
    ("ddpm_digits.py", ["sampling.guidance_scale=3"], "denoiser.conditional=true"),
    ("ddpm_digits.py", ["sampling.guidance_interval=0.2,5"], "denoiser.conditional=true"),
    ("ddpm_digits.py", ["denoiser.conditional=true", "sampling.guidance_scale=3"], "label_dropout=0.1"),
    ("ddpm_digits.py", ["training.label_dropout=0.1"], "denoiser.conditional=true"),
    ("ddpm_digits.py", ["sampling.label=3"], "knows of classes"),
    ("ddpm_digits.py", ["sampling.classifier_scale=3"], "there is no classifier"),
    ("ddpm_digits.py", ["sampling.classifier=nowhere"], r"classifier_digits\.py --workdir=nowhere"),
    ("ddpm_digits_conditional.py", ["sampling.label=10"], "classes are 0 to 9"),
    ("ddpm_digits_conditional.py", ["sampling.guidance_interval=5,0.2"], "LOW < HIGH"),
    ("classifier_digits.py", ["denoiser.conditional=false"], "conditional=true"),
    ("classifier_digits.py", ["training.label_dropout=0.1"], "set it to 0"),
    ("classifier_digits.py", ["objective.name=denoising"], "does not go with"),
    ("ddpm_digits.py", ["objective.name=classification"], "does not go with"),
]


@pytest.mark.parametrize(("name", "overrides", "message"), MISTAKES)
def test_a_mistake_says_what_to_do(name, overrides, message):
    with pytest.raises(UserError, match=message):
        created(name, *overrides)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ncsn_digits_conditional", marks=pytest.mark.slow),
        pytest.param("ddpm_cifar_conditional", marks=pytest.mark.slow),
        pytest.param("ncsn_cifar_conditional", marks=pytest.mark.slow),
    ],
)
def test_the_other_conditional_configs_train(name, tmp_path):
    """With a small network, and those of CIFAR-10 on digits."""
    options = ["--config.model.num_blocks=1", "--config.model.num_groups=4", "--config.data.name=digits", *SMALL]
    options = [option for option in options if not option.startswith("--config.sampler") or "ddpm" in name]
    if name.startswith("ncsn"):
        options.append("--config.sampler.steps_per_level=1")
    assert main([f"--config={name}.py", *NETWORK, *options, f"--workdir={tmp_path / 'run'}"]) == 0
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (about["denoiser"]["conditional"], about["training"]["label_dropout"]) == (True, 0.1)
    np.testing.assert_array_equal(np.load(tmp_path / "run" / "samples.npz")["labels"], np.arange(23) % 10)


def test_the_cifar_network_is_told_ten_classes():
    experiment = create(resolve(read_config("ddpm_cifar_conditional.py")), {**FACTS, "shape": [32, 32, 3]}, outline)
    assert experiment.model.denoiser(experiment.params).no_label == 10
