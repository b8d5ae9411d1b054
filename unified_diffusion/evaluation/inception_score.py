"""The inception-style score: how sure a classifier is of each sample, and how evenly it finds its classes."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import xlogy

from unified_diffusion.evaluation.resampling import Estimate


def inception_score(
    probabilities: Float[np.ndarray, "n classes"], halves: Bool[np.ndarray, "replicates n"] | None = None
) -> Estimate:
    """The score exp E KL(p(y|x) ‖ p(y)), between 1 and the number of classes; p(y) is the mean over all samples.

    The score is taken over all samples at once, and not in ten parts, whose smaller counts would bias it more. Salimans
    et al. 2016, section 4.
    """
    p = np.asarray(probabilities, np.float64)
    certainty = xlogy(p, p).sum(axis=1)
    weights = np.ones((1, len(p))) if halves is None else np.vstack([np.ones(len(p)), halves])
    weights = weights / weights.sum(axis=1, keepdims=True)
    mean = weights @ p
    scores = np.exp(weights @ certainty - xlogy(mean, mean).sum(axis=1))
    return Estimate(float(scores[0]), scores[1:])
