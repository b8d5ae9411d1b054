"""What a training run carries from step to step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from unified_diffusion.denoiser import Denoiser
from unified_diffusion.perturbations import Perturbation

_UNOPTIMISED = {"xla_backend_optimization_level": 0}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A pytree of all that training changes, and that a checkpoint holds.

    Attributes:
        step: int32 scalar, the steps taken.
        params: the network's `nnx.State`.
        ema: the parameters' average, another `nnx.State`.
        optimizer: optax's state.
        objective: what the objective remembers, or None.
    """

    # Untyped, since JAX rebuilds pytrees with placeholders for arrays.
    step: Any
    params: Any
    ema: Any
    optimizer: Any
    objective: Any = None


@dataclasses.dataclass(frozen=True)
class Model:
    """A network without its parameters, and how it is read: what training leaves as it is.

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
        """The denoiser with these parameters; with dropout if a key is given."""
        network = nnx.merge(self.graph, params)
        reading = (self.prediction, self.scale_input, self.variance)
        return Denoiser(network, self.perturbation, *reading, dropout_key=dropout_key)


def initialise(build, key, perturbation, **reading):
    """(model, parameters) of a new network.

    Args:
        build: a function from `nnx.Rngs` to an `nnx` network.
        key: of the initial parameters.
        perturbation: whose x_t and t the network is trained on.
        reading: how the network is read, the fields of `Model`.
    """
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    # One program that is run once: not worth optimising, and several times faster than one for each parameter.
    draw = jax.jit(lambda key: nnx.split(build(nnx.Rngs(key)))[1], compiler_options=_UNOPTIMISED)
    return Model(graph, perturbation, **reading), draw(key)


def objective_state(objective, perturbation):
    """What an objective remembers before training: its `initial_state(perturbation)`, or None if it has no such method.

    Raises:
        UserError: the objective is not for this perturbation.
    """
    return objective.initial_state(perturbation) if hasattr(objective, "initial_state") else None


def initial_state(params, optimizer, objective=None):
    """The state before the first step: copies of its arrays, since training donates its state's buffers.

    Args:
        params: the network's parameters.
        optimizer: an optax transformation.
        objective: what the objective remembers, its `objective_state`.
    """
    copies = [jax.tree.map(jnp.copy, tree) for tree in (params, params, objective)]
    return TrainState(jnp.zeros((), jnp.int32), *copies[:2], optimizer.init(params), copies[2])
