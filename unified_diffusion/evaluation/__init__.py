"""Evaluation measures a trained model, and the samples that it gives."""

from unified_diffusion.evaluation.accuracy import accuracy_per_level
from unified_diffusion.evaluation.bound import DatasetBound, dataset_bound
from unified_diffusion.evaluation.features import FEATURES, FeatureExtractor, Features, Unavailable, feature_extractors
from unified_diffusion.evaluation.fisher import FisherDivergence, fisher_divergence
from unified_diffusion.evaluation.frechet import frechet_distance, gaussian_frechet, gaussian_moments, moments
from unified_diffusion.evaluation.inception_score import inception_score
from unified_diffusion.evaluation.kernel import kernel_distance
from unified_diffusion.evaluation.levels import error_per_level, loss_per_level
from unified_diffusion.evaluation.likelihood import DatasetLikelihood, dataset_likelihood
from unified_diffusion.evaluation.manifold import density_coverage, precision_recall
from unified_diffusion.evaluation.memorisation import TrainingNeighbours, training_neighbours
from unified_diffusion.evaluation.resampling import Estimate, interval, random_halves
from unified_diffusion.evaluation.sample_metrics import Measure, Metric, Reference

__all__ = [
    "FEATURES",
    "DatasetBound",
    "DatasetLikelihood",
    "Estimate",
    "FeatureExtractor",
    "Features",
    "FisherDivergence",
    "Measure",
    "Metric",
    "Reference",
    "TrainingNeighbours",
    "Unavailable",
    "accuracy_per_level",
    "dataset_bound",
    "dataset_likelihood",
    "density_coverage",
    "error_per_level",
    "feature_extractors",
    "fisher_divergence",
    "frechet_distance",
    "gaussian_frechet",
    "gaussian_moments",
    "inception_score",
    "interval",
    "kernel_distance",
    "loss_per_level",
    "moments",
    "precision_recall",
    "random_halves",
    "training_neighbours",
]
