"""The state that a training run carries from step to step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from unified_diffusion.conditions import ClassLabels, Condition, Unconditional, condition_of
from unified_diffusion.denoiser import Denoiser
from unified_diffusion.objectives import as_objective
from unified_diffusion.parameterizations import Eps, Parameterization
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

    # The fields are typed as Any, since JAX rebuilds pytrees with placeholders in place of arrays.
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
        perturbation, parameterization: as in `Denoiser`.
        condition: the kind of condition that the network is told, in training and after it.
    """

    graph: nnx.GraphDef
    perturbation: Perturbation
    parameterization: Parameterization = dataclasses.field(default_factory=Eps)
    condition: Condition = dataclasses.field(default_factory=Unconditional)

    def denoiser(self, params, dropout_key=None) -> Denoiser:
        """The denoiser with these parameters; with dropout if a key is given."""
        network = nnx.merge(self.graph, params)
        return Denoiser(network, self.perturbation, self.parameterization, dropout_key=dropout_key)

    @property
    def conditional(self) -> bool:
        """Whether the network is told anything beside x_t and t."""
        return self.condition.told

    @property
    def prediction(self) -> str:
        """The name of the parameterization."""
        return self.parameterization.name

    @property
    def variance(self) -> str:
        """The variance of the reverse step: "fixed", or "learned" by the network."""
        return self.parameterization.variance


def initialise(build, key, perturbation, prediction="eps", *, conditional=False, **options):
    """Returns (model, parameters) of a new network.

    Args:
        build: a function from `nnx.Rngs` to an `nnx` network.
        key: the key of the initial parameters.
        perturbation: the process whose x_t and t the network is trained on.
        prediction: a `Parameterization` or the name of one.
        conditional: whether the network is told its condition, as `conditions.condition_of(network)` finds it.
        options: options of the parameterization, such as scale_input=True.
    """
    outline = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    graph, _ = nnx.split(outline)
    # One program for all parameters is several times faster than one for each; it runs once, so it is not optimised.
    draw = jax.jit(lambda key: nnx.split(build(nnx.Rngs(key)))[1], compiler_options=_UNOPTIMISED)
    return model_of(graph, outline, perturbation, prediction, conditional=conditional, **options), draw(key)


def model_of(graph, network, perturbation, prediction="eps", *, conditional=False, **options) -> Model:
    """The `Model` of a network; the outline of the network is enough, and the rest is as in `initialise`."""
    reads = Denoiser(network, perturbation, prediction, **options).parameterization
    told = condition_of(network) if conditional else Unconditional()
    return Model(graph, perturbation, reads, ClassLabels(None) if conditional and not told.told else told)


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
    trained, average, memory = (jax.tree.map(jnp.copy, tree) for tree in (params, params, objective))
    return TrainState(jnp.zeros((), jnp.int32), trained, average, optimizer.init(params), memory)
