"""The checks of constructor arguments that all networks share."""

import jax.numpy as jnp

from unified_diffusion.errors import UserError

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def compute_dtype(name):
    """Returns the JAX dtype called `name`, and raises UserError for a name that is not in `DTYPES`."""
    if name not in DTYPES:
        raise UserError(f"unknown dtype {name!r}: a network computes in one of {', '.join(DTYPES)}")
    return DTYPES[name]


def check_dropout(rate):
    """Raises UserError unless 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise UserError(f"dropout is {rate}: it is a probability, at least 0 and below 1")


def check_at_least(minimum, **values):
    """Raises UserError for the first of the named `values` that is below `minimum`."""
    for name, value in values.items():
        if value < minimum:
            raise UserError(f"{name} is {value}: it must be at least {minimum}")


def check_input(x, example_shape):
    """Raises UserError unless `x` is a batch of examples of the shape that the network was built for."""
    if x.shape[1:] != example_shape:
        wanted = ", ".join(map(str, ("B", *example_shape)))
        raise UserError(f"this network was built for inputs of shape [{wanted}] but was given {list(x.shape)}")
