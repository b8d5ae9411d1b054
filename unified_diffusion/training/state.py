"""The state that a training run carries from step to step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.objectives import as_objective
from unified_diffusion.perturbations import Perturbation

_UNOPTIMISED = {"xla_backend_optimization_level": 0}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A pytree of everything that training changes and that a checkpoint holds.

    Attributes:
        step: int32 scalar, the number of steps taken.
        params: the network's `nnx.State`.
        ema: the average of the parameters, another `nnx.State`.
        optimizer: optax's state.
        objective: the memory of the objective, or None.
    """

    # Untyped, since JAX rebuilds pytrees with placeholders for arrays.
    step: Any
    params: Any
    ema: Any
    optimizer: Any
    objective: Any = None


@dataclasses.dataclass(frozen=True)
class Model:
    """A network without its parameters, and how its output is read: the part that training does not change.

    Args:
        graph: the network's `nnx.GraphDef`.
        perturbation, prediction, scale_input, variance: as in `Denoiser`.
        conditional: whether the network is given the class labels.
    """

    graph: nnx.GraphDef
    perturbation: Perturbation
    prediction: str = "eps"
    scale_input: bool = False
    variance: str = "fixed"
    conditional: bool = False

    def denoiser(self, params, dropout_key=None):
        """Returns the denoiser with these parameters; with dropout if a key is given."""
        network = nnx.merge(self.graph, params)
        reading = (self.prediction, self.scale_input, self.variance)
        return Denoiser(network, self.perturbation, *reading, dropout_key=dropout_key)


def initialise(build, key, perturbation, **reading):
    """Returns (model, parameters) of a new network.

    Args:
        build: a function from `nnx.Rngs` to an `nnx` network.
        key: of the initial parameters.
        perturbation: the process whose x_t and t the network is trained on.
        reading: how the network's output is read, the fields of `Model`.
    """
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    # One program is several times faster than one for each parameter. It runs once, so it is not worth optimising.
    draw = jax.jit(lambda key: nnx.split(build(nnx.Rngs(key)))[1], compiler_options=_UNOPTIMISED)
    return Model(graph, perturbation, **reading), draw(key)


def objective_state(objective, perturbation):
    """Returns the memory of an objective before training, or None for one that remembers nothing.

    Args:
        objective: an `Objective`, or any callable, as in `make_train_step`.
        perturbation: the process whose levels the objective draws.

    Raises:
        UserError: the objective is not for this perturbation.
    """
    return as_objective(objective).initial_state(perturbation)


def initial_state(params, optimizer, objective=None):
    """Returns the state before the first step. Its arrays are copies, since training donates the state's buffers.

    Args:
        params: the network's parameters.
        optimizer: an optax transformation.
        objective: the memory of the objective, its `objective_state`.
    """
    copies = [jax.tree.map(jnp.copy, tree) for tree in (params, params, objective)]
    return TrainState(jnp.zeros((), jnp.int32), *copies[:2], optimizer.init(params), copies[2])
