"""A sampler of one's own that is prepared on data, and what every sampler answers without being asked how."""

import dataclasses
import json
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from experiments.main import main
from unified_diffusion import Denoiser, UserError
from unified_diffusion.perturbations import DDPM, NCSN
from unified_diffusion.samplers import SAMPLERS, AnalyticDPM, Ancestral, Conditioned, PredictorCorrector, Row, Sampler

TOY = [
    "--config=ddpm_toy.py",
    "--config.model.width=8",
    "--config.model.depth=1",
    "--config.perturbation.num_steps=20",
    "--config.training.steps=2",
    "--config.training.sample_every=0",
    "--config.sampler.name=ancestral",
    "--config.sampling.num_images=12",
    "--config.evaluation.bound=false",
    "--config.evaluation.num_levels=1",
    "--config.evaluation.features=none",
    "--config.evaluation.neighbours=0",
]


class CentredRow(NamedTuple):
    """A step from t to s, with the weight of the data's mean."""

    s: Any
    t: Any
    weight: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Centred(Sampler):
    """DDIM's step with an x0_hat that is drawn towards the mean of some training data."""

    num_steps: int = 4
    mean: tuple[float, ...] | None = None

    @property
    def needs_data(self):
        return self.mean is None

    def schedule(self, perturbation):
        times = perturbation.timesteps(self.num_steps)
        return CentredRow(s=times[1:], t=times[:-1], weight=np.linspace(0, 1, self.num_steps))

    def step(self, denoiser, x_t, row, key):
        del key
        x0, eps, *_ = denoiser(x_t, row.t)
        x0 = (1 - row.weight) * x0 + row.weight * np.array(self.mean)
        return denoiser.perturbation.perturb(x0, row.s, eps)

    def num_evaluations(self, perturbation):
        return self.num_steps

    def prepare(self, denoiser, data, key, label=None, batch_size=250):
        return dataclasses.replace(self, mean=tuple(data.mean(0).tolist())) if self.needs_data else self


def test_a_sampler_of_ones_own_is_prepared_by_the_commands(tmp_path, capsys):
    assert main([*TOY, f"--workdir={tmp_path}"]) == 0
    new = ["--config.sampler.name=test_preparation:Centred", "--config.sampling.fitting_examples=30"]
    for answer in ("fitting the sampler to 30 training examples", "is there already"):
        assert main([f"--workdir={tmp_path}", "--mode=sample", *new]) == 0
        assert answer in capsys.readouterr().out
    how = json.loads((tmp_path / "samples.json").read_text())
    assert (how["sampler"], how["num_evaluations"], how["mean"]) == ("Centred", 4, None)
    assert how["fitting"] == {"examples": 30, "evaluations": 0}
    mean = how["fitted"]["mean"]
    # In the last step the mean stands for x0_hat.
    samples = np.load(tmp_path / "samples.npz")["arr_0"]
    np.testing.assert_allclose(samples, np.broadcast_to(mean, samples.shape), rtol=1e-5)
    given = [new[0], f"--config.sampler.mean=({','.join(map(str, mean))})"]
    assert main([f"--workdir={tmp_path}", "--mode=sample", *given]) == 0
    how = json.loads((tmp_path / "samples.json").read_text())
    assert (how["mean"], how["fitting"], "fitted" in how) == (mean, None, False)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "analytic_dpm"])
def test_most_samplers_need_no_preparation(name):
    sampler = SAMPLERS[name]()
    assert not sampler.needs_data
    assert sampler.prepare(None, None, jax.random.key(0)) is sampler
    assert sampler.preparation_evaluations(DDPM()) == 0


def test_a_conditioned_sampler_is_prepared_within():
    denoiser = Denoiser(lambda x, *_, **__: 0 * x, DDPM(9), "x0")
    sampler = Conditioned(AnalyticDPM(num_steps=3), 0.5, np.array([True, False]))
    assert (sampler.needs_data, sampler.preparation_evaluations(DDPM(9))) == (True, 3)
    ready = sampler.prepare(denoiser, np.zeros((4, 2)), jax.random.key(0))
    assert (ready.needs_data, len(ready.sampler.moments)) == (False, 3)
    plain = Conditioned(Ancestral(num_steps=3), 0.5, np.array([True, False]))
    assert plain.prepare(denoiser, None, jax.random.key(0)) is plain


@pytest.mark.parametrize(
    ("name", "settings", "last"),
    [
        ("ancestral", {"num_steps": 7}, 1),
        ("annealed_langevin", {"steps_per_level": 3}, 1),
        ("heun", {"num_steps": 7}, 1),
        ("pndm", {"num_steps": 7}, 1),
        ("pndm", {"num_steps": 1}, 1),
        ("unipc", {"num_steps": 7}, 1),
        ("probability_flow", {}, 1),
        ("probability_flow", {"denoise": False}, 0),
        ("predictor_corrector", {"num_steps": 7, "corrector_steps": 2}, 3),
        ("predictor_corrector", {"predictor": "none", "num_steps": 7}, 2),
        ("predictor_corrector", {"predictor": "annealed_langevin"}, 2),
    ],
)
def test_evaluations_of_the_last_step(name, settings, last):
    assert SAMPLERS[name](**settings).last_evaluations(NCSN(20)) == last


def test_with_another_number_of_steps():
    process = NCSN(20)
    for name, sampler in SAMPLERS.items():
        if name == "probability_flow":
            with pytest.raises(UserError, match="chooses its own steps"):
                sampler().with_steps(5)
        else:
            rows = sampler().with_steps(5).rows(process)
            assert len(rows.s) == len(rows.t) == 5 + (name == "annealed_langevin")
    assert AnalyticDPM(num_steps=2, moments=(0.5, 0.5)).with_steps(5) == AnalyticDPM(num_steps=5)
    steps = PredictorCorrector(predictor="annealed_langevin").with_steps(5)
    assert len(steps.rows(process).s) == 6


@pytest.mark.parametrize("name", SAMPLERS)
def test_rows_are_named_and_keep_their_type(name):
    sampler, process = SAMPLERS[name](), NCSN(2000)
    exact, rows = sampler.schedule(sampler.process(process)), sampler.rows(process)
    assert type(rows) is type(exact)
    assert rows._fields[:2] == ("s", "t")
    assert (rows.s[-1], np.all(rows.t > 0)) == (0, True)
    for column, cast in zip(exact, rows, strict=True):
        kind = np.float32 if np.issubdtype(column.dtype, np.floating) else np.int32
        assert cast.dtype == kind
        np.testing.assert_array_equal(cast, column.astype(kind))
        assert len(cast) == len(rows.s)


def test_the_rows_of_a_conditioned_sampler_hold_the_samplers_own():
    rows = Conditioned(AnalyticDPM(num_steps=3), 0.5, True, resamplings=2).rows(DDPM(9))
    np.testing.assert_array_equal(rows.again, [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(rows.inner.t, rows.t)
    inner = AnalyticDPM(num_steps=3).rows(DDPM(9))
    np.testing.assert_array_equal(rows.inner.scale, np.repeat(inner.scale, (2, 2, 1)))


class Nameless(Ancestral):
    """A sampler whose rows have no names."""

    def schedule(self, perturbation):
        return tuple(super().schedule(perturbation))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stepless(Sampler):
    """A sampler without a step."""

    def schedule(self, perturbation):
        return Row(s=np.array([0]), t=np.array([1]))

    def num_evaluations(self, perturbation):
        return 1


def test_what_a_sampler_lacks_is_told():
    denoiser = Denoiser(lambda x, *_, **__: x, DDPM(9))
    with pytest.raises(UserError, match=r"Nameless.schedule must return a NamedTuple .* s and t"):
        Nameless()(denoiser, jax.random.key(0), (1, 2))
    with pytest.raises(NotImplementedError, match="Stepless defines neither step nor advance"):
        Stepless()(denoiser, jax.random.key(0), (1, 2))
