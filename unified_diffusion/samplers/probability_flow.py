"""The probability-flow ODE, with an adaptive solver."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion import flow
from unified_diffusion.errors import UserError
from unified_diffusion.samplers.base import Sampler


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbabilityFlow(Sampler):
    """dx = (f - ½ g² score) dt, which has the diffusion's marginals, from the prior down. Song et al. 2021, eq. 13.

    It is solved in the angle arctan(sigma / alpha), where it is dy/da = v and the same for every process (see
    `unified_diffusion.flow`), down to the first level above 0, and then denoised. A chain is read as its continuous
    limit. Each sample has its own step sizes, so how many evaluations it takes is known only afterwards: `run` says it.

    Args:
        solver: a Runge–Kutta method of diffrax: "tsit5", "dopri5", "dopri8", "bosh3" or "heun".
        rtol: error allowed in a step, relative to x, as a root mean square over a sample's dimensions.
        atol: the same in absolute terms, where x has unit variance.
        max_steps: steps that a sample may take in a segment, the rejected ones too; one that needs more is an error.
        num_segments: parts of equal angle, each solved on its own, between which progress is told and frames are taken.
        denoise: end with x0_hat, one evaluation more; otherwise with x / alpha of the first level, its noise in it.

    Raises:
        UserError: an unknown solver, or a number out of range; when called, a sample that needs more steps.
    """

    continuous: ClassVar[bool] = True
    adaptive: ClassVar[bool] = True

    solver: str = "tsit5"
    rtol: float = 1e-4
    atol: float = 1e-4
    max_steps: int = 1000
    num_segments: int = 1
    denoise: bool = True

    def __post_init__(self):
        flow.check(self.solver, self.rtol, self.atol, self.max_steps)
        if self.num_segments < 1:
            raise UserError(f"num_segments = {self.num_segments}: take at least 1")

    def schedule(self, perturbation):
        """s, t and their angles; the last row is the step to t = 0."""
        ends = [flow.angle(perturbation, t) for t in (perturbation.times[-1], perturbation.times[0])]
        angles = np.linspace(*ends, self.num_segments + 1)
        t = perturbation.levels.time_of(-2 * np.log(np.tan(angles)))
        t[[0, -1]] = perturbation.times[[-1, 0]]
        return np.append(t[1:], 0), t, np.append(angles[1:], 0), angles

    def history(self, x):
        """(evaluations, finished), each `[B]`."""
        return jnp.zeros(len(x), jnp.int32), jnp.ones(len(x), bool)

    def step(self, denoiser, state, s, t, to, at, key):
        del key
        process, (x_t, history) = denoiser.perturbation, state
        numbers = {"solver": self.solver, "rtol": self.rtol, "atol": self.atol, "max_steps": self.max_steps}

        def field(y, a, denoiser):
            return flow.velocity(denoiser, y, a)

        def along_the_flow(evaluations, finished):
            y = x_t / jnp.hypot(process.alpha(t), process.sigma(t))
            y, taken, arrived = flow.solve(field, y, at, to, denoiser, **numbers)
            return y * jnp.hypot(process.alpha(s), process.sigma(s)), (evaluations + taken, finished & arrived)

        def to_data(evaluations, finished):
            if self.denoise:
                return denoiser(x_t, jnp.full(len(x_t), t)).x0, (evaluations + 1, finished)
            return x_t / process.alpha(t), (evaluations, finished)

        return jax.lax.cond(s == 0, to_data, along_the_flow, *history)

    def num_evaluations(self, perturbation):
        """The most that a sample may take."""
        return self.num_segments * flow.evaluations(self.solver, self.max_steps) + self.denoise

    def evaluations(self, history):
        evaluations, finished = history
        flow.refuse_unfinished(finished, self.max_steps)
        return np.asarray(evaluations)
