"""The likelihood of data under a denoiser: the variational bound of its chain, and the exact one of its flow."""

from unified_diffusion.likelihood.bound import Bound, variational_bound
from unified_diffusion.likelihood.flow import FlowLikelihood, flow_likelihood

__all__ = ["Bound", "FlowLikelihood", "flow_likelihood", "variational_bound"]
