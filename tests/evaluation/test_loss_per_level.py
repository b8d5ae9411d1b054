"""The error per level against the optimal denoiser's, which for one Gaussian is known."""

import numpy as np
import pytest

from unified_diffusion import analytic, data, evaluation, perturbations


@pytest.mark.parametrize("process", [perturbations.DDPM(), perturbations.NCSN(num_steps=50)])
def test_the_optimal_error_of_a_gaussian(process):
    mean, std = 0.3, 0.5
    points = np.random.default_rng(0).normal(mean, std, (4000, 8)).astype(np.float32)
    denoiser = analytic.GaussianMixture(np.ones(1), np.full((1, 8), mean), np.full(1, std)).denoiser(process)
    times = np.asarray([1, process.num_steps // 3, process.num_steps // 2, process.num_steps], np.int32)
    errors = evaluation.loss_per_level(denoiser, data.Dataset(points), times, batch_size=1000)
    signal = (np.asarray(process.alpha(times), np.float64) * std) ** 2
    # Var(eps | x_t); its mean over 32,000 values has a relative standard error of sqrt(2 / 32000).
    optimal = signal / (signal + np.asarray(process.sigma(times), np.float64) ** 2)
    np.testing.assert_allclose(errors, optimal, rtol=4 * np.sqrt(2 / 32000))


def test_the_figures_do_not_depend_on_the_batch_size():
    process = perturbations.NCSN(num_steps=5)
    points = np.random.default_rng(1).normal(size=(103, 2)).astype(np.float32)
    denoiser = analytic.GaussianMixture(np.ones(1), np.zeros((1, 2)), np.ones(1)).denoiser(process)
    times = np.arange(1, 6, dtype=np.int32)
    figures = [
        evaluation.loss_per_level(denoiser, data.Dataset(points), times, batch_size=size, num_examples=number)
        for size, number in ((103, 0), (10, 0), (500, 0), (50, 1000))
    ]
    each = evaluation.error_per_level(denoiser, data.Dataset(points), times, batch_size=10)
    assert each.shape == (103, 5)
    np.testing.assert_allclose(each.mean(axis=0), figures[0], rtol=1e-6)
    np.testing.assert_array_equal(
        each[:50], evaluation.error_per_level(denoiser, data.Dataset(points), times, batch_size=10, num_examples=50)
    )
    for other in figures[1:]:
        np.testing.assert_allclose(other, figures[0], rtol=1e-6)
