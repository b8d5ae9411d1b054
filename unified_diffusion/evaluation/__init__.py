"""Measuring a trained model."""

from unified_diffusion.evaluation.bound import DatasetBound, dataset_bound
from unified_diffusion.evaluation.fisher import FisherDivergence, fisher_divergence
from unified_diffusion.evaluation.levels import loss_per_level

__all__ = ["DatasetBound", "FisherDivergence", "dataset_bound", "fisher_divergence", "loss_per_level"]
