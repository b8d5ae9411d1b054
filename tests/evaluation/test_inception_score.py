"""The inception-style score where it is known."""

import numpy as np

from unified_diffusion.evaluation import inception_score, random_halves


def test_sure_and_even_is_the_number_of_classes():
    np.testing.assert_allclose(inception_score(np.eye(7)[np.arange(70) % 7]).value, 7, rtol=1e-12)


def test_unsure_or_all_one_class_is_one():
    np.testing.assert_allclose(inception_score(np.full((20, 5), 0.2)).value, 1, rtol=1e-12)
    np.testing.assert_allclose(inception_score(np.eye(5)[np.zeros(20, int)]).value, 1, rtol=1e-12)


def test_it_is_exp_of_the_mean_divergence():
    p = np.random.default_rng(0).dirichlet(np.ones(4), size=30)
    halves = random_halves(30, 4)
    estimate = inception_score(p.astype(np.float32), halves)
    for score, part in zip([estimate.value, *estimate.replicates], [p, *(p[half] for half in halves)], strict=True):
        exact = np.exp(np.mean(np.sum(part * np.log(part / part.mean(0)), axis=1)))
        np.testing.assert_allclose(score, exact, rtol=1e-6)
