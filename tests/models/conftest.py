import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx


@pytest.fixture
def randomise():
    """Builds a module with every parameter random and of its layer's size, the zero-initialised ones too.

    In NumPy: initialising with JAX compiles one program for each parameter shape.
    """

    def apply(build):
        graph, shapes = nnx.split(nnx.eval_shape(build))
        rng = np.random.default_rng(0)

        def draw(leaf):
            fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 4
            return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(fan_in), jnp.float32)

        return nnx.merge(graph, jax.tree.map(draw, shapes))

    return apply
