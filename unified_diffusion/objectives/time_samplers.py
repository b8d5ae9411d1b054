"""Time samplers: which noise levels a batch of examples gets."""

import jax


def uniform(perturbation, key, batch_size):
    """t uniform over 1 … num_steps, independent for each example: `[batch_size]`. Ho et al. 2020, algorithm 1."""
    return jax.random.randint(key, (batch_size,), 1, perturbation.num_steps + 1)


TIME_SAMPLERS = {"uniform": uniform}
