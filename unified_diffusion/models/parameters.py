"""How parameters start, and how many there are."""

import jax
from flax import nnx

# Module-level objects, so that two networks of the same options have equal graph definitions and share compiled code.
dense_init = nnx.initializers.variance_scaling(1.0, "fan_avg", "uniform")
zero_init = nnx.initializers.zeros_init()


def count_parameters(module: nnx.Module) -> int:
    """The number of trainable scalars in `module`: the sizes of all its `nnx.Param`s, added up."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
