"""The exact log-likelihood in `--mode=eval`."""

import numpy as np

from unified_diffusion.evaluation import dataset_likelihood


def measure_likelihood(experiment, denoiser, dataset):
    """The log-likelihood of the test data by the probability-flow ODE: its part of eval.json.

    "total" is the negative log-likelihood: for images in bits per dimension, dequantised as they were for training, or
    else around the grey levels; for points in nats per example, of a density. A chain is read as its continuous limit.
    "evaluations" counts the network evaluations of an example, each with its derivative along every probe.
    """
    settings, codec = experiment.evaluation, experiment.codec
    how = {
        "trace": settings.flow_trace,
        "num_probes": settings.flow_probes,
        "dequantization": _dequantization(experiment),
        "solver": settings.flow_solver,
        "rtol": settings.flow_rtol,
        "atol": settings.flow_atol,
        "max_steps": settings.flow_max_steps,
    }
    found = dataset_likelihood(
        denoiser,
        dataset,
        num_examples=settings.flow_examples,
        batch_size=settings.batch_size,
        seed=settings.seed,
        conditional=experiment.model.conditional,
        codec=codec,
        **how,
    )
    # The nats of one bit per dimension, in the codec's unit.
    scale = float(codec.in_unit(np.log(2) * np.prod(experiment.shape), experiment.shape))
    return {
        "unit": codec.unit,
        "total": scale * found.bits_per_dim,
        "standard_error": None if found.standard_error is None else scale * found.standard_error,
        "bits_per_dim": found.bits_per_dim,
        "num_examples": found.num_examples,
        "evaluations": {"mean": found.mean_evaluations, "max": found.max_evaluations},
        **how,
    }


def _dequantization(experiment):
    """The way in which `flow_likelihood` makes a density of the data."""
    if not experiment.codec.discretized:
        return "none"
    return "shifted" if experiment.training.dequantize else "centred"
