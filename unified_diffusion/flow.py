"""The probability-flow ODE and its adaptive solution, which the sampler and the likelihood share.

With y = x_t / sqrt(alpha² + sigma²) = cos(a) x_0 + sin(a) eps, where tan(a) = sigma / alpha, the flow of Song et al.
2021, eq. 13, is the same for every process: dy/da = cos(a) eps_hat - sin(a) x0_hat, the v of Salimans & Ho 2022,
section 4. This flow is smooth up to both ends, so an adaptive solver takes long steps.
"""

from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from unified_diffusion.errors import UserError
from unified_diffusion.perturbations import expand
from unified_diffusion.registry import lookup

SOLVERS = {
    "bosh3": diffrax.Bosh3,
    "dopri5": diffrax.Dopri5,
    "dopri8": diffrax.Dopri8,
    "heun": diffrax.Heun,
    "tsit5": diffrax.Tsit5,
}


class Solution(NamedTuple):
    """The solution of the ODE.

    Attributes:
        state: the pytree of arrays `[B, ...]` at the end.
        evaluations: how many evaluations of the field each example took, `[B]`.
        finished: whether each example came to the end, `[B]`.
    """

    state: jax.Array | tuple[jax.Array, ...]
    evaluations: jax.Array
    finished: jax.Array


def angle(process, t):
    """The angle a = arctan(sigma / alpha) of known times, float64."""
    return np.arctan(np.exp(-process.exact(t).log_snr / 2))


def velocity(denoiser, y, a):
    """The velocity dy/da of the flow, shaped like y `[B, ...]`, at angles a `[B]`."""
    process = denoiser.perturbation
    t = process.time_of(-2 * jnp.log(jnp.tan(a)))
    scale = jnp.hypot(process.alpha(t), process.sigma(t))
    prediction = denoiser(expand(scale, y) * y, t)
    return expand(jnp.cos(a), y) * prediction.eps - expand(jnp.sin(a), y) * prediction.x0


def solve(field, state, start, stop, args, *, solver, rtol, atol, max_steps):
    """Solves dstate/da = field from angle `start` to angle `stop`: the `Solution` for the whole batch.

    Each example has its own step sizes. An example that is done waits for the others, so a batch takes as long as its
    slowest example.

    Args:
        field: a function (state `[B, ...]`, angles `[B]`, args) -> the derivative of the state, of all examples at
            once.
        state: the state at `start`, a pytree of arrays `[B, ...]`.
        args: anything that the field needs, such as the denoiser.
        solver, rtol, atol, max_steps: as `check` describes them.
    """
    number = len(jax.tree.leaves(state)[0])

    # diffrax solves for one example, and vmap makes it solve for all. The rule `of_all` then evaluates the field for
    # the whole batch at once; `of_one` itself only tells the shapes of the output, which are those of the state.
    @jax.custom_batching.custom_vmap
    def of_one(a, state, index, args):
        del a, index, args
        return state

    @of_one.def_vmap
    def of_all(size, batched, a, state, index, args):
        assert size == number
        assert not any(jax.tree.leaves(batched[3]))
        a, state = jax.tree.map(
            lambda x, is_batched: x if is_batched else jnp.broadcast_to(x, (size, *jnp.shape(x))),
            (a, state),
            tuple(batched[:2]),
        )
        out = field(state, a, args)
        return out, jax.tree.map(lambda _: True, out)

    method = SOLVERS[solver]()
    term = diffrax.ODETerm(lambda a, state, given: of_one(a, state, given[0], given[1]))
    start, stop = (jnp.asarray(a, jnp.float32) for a in (start, stop))

    def run(state, index):
        given = (index, args)
        # The first stage of the first step is given, since diffrax would lose it if that step were rejected.
        first = (False, term.vf(start, state, given)) if method.tableau.fsal else None
        return diffrax.diffeqsolve(
            term,
            method,
            start,
            stop,
            (stop - start) / 100,
            state,
            given,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol, norm=_largest),
            solver_state=first,
            max_steps=max_steps,
            adjoint=diffrax.ForwardMode(),
            throw=False,
        )

    solution = jax.vmap(run)(state, jnp.arange(number))
    finished = solution.result == diffrax.RESULTS.successful
    final = jax.tree.map(lambda x: x[:, 0], solution.ys)
    return Solution(final, evaluations(solver, solution.stats["num_steps"]), finished)


def evaluations(solver, steps):
    """The number of evaluations of the field in `steps` steps, rejected steps included.

    In many methods the last stage of a step is also the first stage of the next step, and is evaluated once for both.
    """
    tableau = SOLVERS[solver].tableau
    return 1 + (tableau.num_stages - 1) * steps if tableau.fsal else tableau.num_stages * steps


def check(solver, rtol, atol, max_steps):
    """Checks the settings of the solver.

    Args:
        solver: a Runge–Kutta method of diffrax: "tsit5", "dopri5", "dopri8", "bosh3" or "heun".
        rtol, atol: the error allowed in a step is atol + rtol |y|, as a root mean square over an example's dimensions.
        max_steps: how many steps an example may take, rejected steps included.

    Raises:
        UserError: an unknown solver, a negative tolerance, no tolerance at all, or no steps.
    """
    lookup(SOLVERS, solver, "ODE solver")
    if rtol < 0 or atol < 0 or not 0 < rtol + atol < np.inf:
        raise UserError(f"rtol = {rtol} and atol = {atol}: neither may be negative, and one must be above 0")
    if max_steps < 1:
        raise UserError(f"max_steps = {max_steps}: take at least 1")


def refuse_unfinished(finished, max_steps):
    """Raises UserError unless every example came to the end."""
    unfinished = int(np.sum(~np.asarray(finished)))
    if unfinished:
        raise UserError(
            f"{unfinished} of {np.size(finished)} examples did not come to the end of the probability flow in "
            f"max_steps = {max_steps} steps: allow more, or a larger rtol and atol"
        )


def _largest(state):
    """The largest root mean square of the state's arrays, so that a scalar beside an image counts as much."""
    return jnp.max(jnp.stack([jnp.sqrt(jnp.mean(jnp.square(x))) for x in jax.tree.leaves(state)]))
