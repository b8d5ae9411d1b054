"""experiments.benchmark: every sampler is timed, over as many forward passes as it takes."""

import pytest

from experiments import benchmark as benchmarks
from experiments.benchmark import measure_sampling, shortened, synthetic_batch
from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import DDPM
from unified_diffusion.runs.build import create
from unified_diffusion.runs.config import read_config, resolve
from unified_diffusion.samplers import SAMPLERS
from unified_diffusion.training.mesh import data_mesh


@pytest.mark.parametrize(("name", "evaluations"), [("heun", 9), ("pndm", 14), ("dpm_solver", 5)])
def test_the_ratio_is_over_the_evaluations_that_the_sampler_takes(name, evaluations, monkeypatch):
    """And a sampler that remembers is given what it remembers."""
    called = []

    def run(functions, rounds):
        called.append([len(functions[1]()), functions[0]().shape])
        return [3.0, 2.0]

    monkeypatch.setattr(benchmarks, "interleaved", run)
    overrides = [("model.width", "8"), ("model.depth", "1"), ("sampler.name", name)]
    experiment = create(resolve(read_config("ddpm_toy.py"), overrides), {"shape": (2,), "num_classes": 10})
    figures = measure_sampling(experiment, synthetic_batch((2,), 4, False), data_mesh(), 5, 1)
    assert called == [[evaluations, (4, 2)]]
    assert figures["timed_evaluations"] == evaluations
    assert figures["num_evaluations"] == experiment.sampler.num_evaluations(experiment.sampled_under)
    assert figures["sampler_overhead"] == 1.5
    assert figures["evaluations_per_second"] == pytest.approx(4 * evaluations / 3, abs=0.01)


REFUSED = ("probability_flow", "analytic_dpm")


@pytest.mark.parametrize("name", REFUSED)
def test_a_sampler_without_a_fixed_number_is_refused(name):
    with pytest.raises(UserError, match="time "):
        shortened(SAMPLERS[name](), 5)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in REFUSED])
def test_every_sampler_of_a_fixed_number_of_evaluations_can_be_shortened(name):
    assert shortened(SAMPLERS[name](), 5).num_evaluations(DDPM(num_steps=1000)) <= 14
