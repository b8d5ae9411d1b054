"""The probability-flow ODE, with an adaptive solver."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion import flow
from unified_diffusion.errors import UserError
from unified_diffusion.samplers.base import Sampler


class ProbabilityFlowRow(NamedTuple):
    """A segment from t to s, and the angles arctan(sigma / alpha) that it starts and stops at."""

    s: Any
    t: Any
    stop: Any
    start: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbabilityFlow(Sampler):
    """The probability-flow ODE has the diffusion's marginals; it is solved from the prior down, with adaptive steps.

    dx = (f - ½ g² score) dt (Song et al. 2021, eq. 13). The variable of integration is the angle a = arctan(sigma /
    alpha), in which the ODE is dy/da = v, the same for every process (see `unified_diffusion.flow`). The solver stops
    at the first level above 0, and the sample is then denoised. A chain is read as its continuous limit. Each sample
    has its own step sizes, so its number of evaluations is known only afterwards: `run` returns it.

    Args:
        solver: a Runge–Kutta method of diffrax: "tsit5", "dopri5", "dopri8", "bosh3" or "heun".
        rtol: the error allowed in a step, relative to x, as a root mean square over a sample's dimensions.
        atol: the same in absolute terms, where x has unit variance.
        max_steps: the number of steps that a sample may take in a segment, rejected steps included. A sample that
            needs more is an error.
        num_segments: the number of segments of equal angle. Each is solved on its own; progress is reported, and frames
            are taken, between them.
        denoise: end with x0_hat, one evaluation more. Without it the sample is x / alpha of the first level, which
            still contains that level's noise.

    Raises:
        UserError: an unknown solver, or a number out of range; when called, a sample that needs more steps.
    """

    continuous: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
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
        """The rows of the segments; the last row is the step to t = 0."""
        last, first = (flow.angle(perturbation, t) for t in (perturbation.times[-1], perturbation.times[0]))
        angles = np.linspace(last, first, self.num_segments + 1)
        t = perturbation.time_of(-2 * np.log(np.tan(angles)))
        t[[0, -1]] = perturbation.times[[-1, 0]]
        return ProbabilityFlowRow(s=np.append(t[1:], 0), t=t, stop=np.append(angles[1:], 0), start=angles)

    def memory(self, x):
        """(evaluations, finished), each `[B]`."""
        return jnp.zeros(len(x), jnp.int32), jnp.ones(len(x), bool)

    def advance(self, denoiser, x_t, memory, row, key):
        del key
        process = denoiser.perturbation
        numbers = {"solver": self.solver, "rtol": self.rtol, "atol": self.atol, "max_steps": self.max_steps}

        def field(y, a, denoiser):
            return flow.velocity(denoiser, y, a)

        def along_the_flow(evaluations, finished):
            y = x_t / jnp.hypot(process.alpha(row.t), process.sigma(row.t))
            y, taken, arrived = flow.solve(field, y, row.start, row.stop, denoiser, **numbers)
            x_s = y * jnp.hypot(process.alpha(row.s), process.sigma(row.s))
            return x_s, (evaluations + taken, finished & arrived)

        def to_data(evaluations, finished):
            if self.denoise:
                return denoiser(x_t, jnp.full(len(x_t), row.t)).x0, (evaluations + 1, finished)
            return x_t / process.alpha(row.t), (evaluations, finished)

        return jax.lax.cond(row.s == 0, to_data, along_the_flow, *memory)

    def num_evaluations(self, perturbation):
        return self.num_segments * flow.evaluations(self.solver, self.max_steps) + self.denoise

    def last_evaluations(self, perturbation):
        return int(self.denoise)

    def evaluations(self, memory):
        evaluations, finished = memory
        flow.refuse_unfinished(finished, self.max_steps)
        return np.asarray(evaluations)

    def with_steps(self, num_steps):
        """Refused, since the solver chooses its own steps.

        Raises:
            UserError: always.
        """
        raise UserError("ProbabilityFlow chooses its own steps: set rtol and atol, or take a sampler with num_steps")
