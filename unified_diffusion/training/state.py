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
    """

    # Untyped, since JAX rebuilds pytrees with placeholders for arrays.
    step: Any
    params: Any
    ema: Any
    optimizer: Any


@dataclasses.dataclass(frozen=True)
class Model:
    """A network without its parameters, and how it is read: what training leaves as it is."""

    graph: nnx.GraphDef
    perturbation: Perturbation
    prediction: str = "eps"
    conditional: bool = False

    def denoiser(self, params, dropout_key=None):
        """The denoiser with these parameters; with dropout if a key is given."""
        network = nnx.merge(self.graph, params)
        return Denoiser(network, self.perturbation, self.prediction, dropout_key=dropout_key)


def initialise(build, key, perturbation, prediction="eps", conditional=False):
    """(model, parameters) of a new network.

    Args:
        build: a function from `nnx.Rngs` to an `nnx` network.
        key: of the initial parameters.
        perturbation, prediction: how the network is read, as in `Denoiser`.
        conditional: whether it is given the class labels.
    """
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    # One program that is run once: not worth optimising, and several times faster than one for each parameter.
    draw = jax.jit(lambda key: nnx.split(build(nnx.Rngs(key)))[1], compiler_options=_UNOPTIMISED)
    return Model(graph, perturbation, prediction, conditional), draw(key)


def initial_state(params, optimizer):
    """The state before the first step: copies of the parameters, since training donates its state's buffers."""
    copies = [jax.tree.map(jnp.copy, params) for _ in range(2)]
    return TrainState(jnp.zeros((), jnp.int32), *copies, optimizer.init(params))
