"""The initial values of parameters, and their number."""

import jax
from flax import nnx

# These are made once, so that two networks of equal options have equal graph definitions and share compiled code.
dense_init = nnx.initializers.variance_scaling(1.0, "fan_avg", "uniform")
zero_init = nnx.initializers.zeros_init()


def count_parameters(module: nnx.Module) -> int:
    """Returns the number of trainable scalars of a module, which is the sum of the sizes of its `nnx.Param`s."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
