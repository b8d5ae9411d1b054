"""The trained state of a run, from its folder."""

import jax

from unified_diffusion.training import Checkpoints, initial_state
from unified_diffusion.training.mesh import data_mesh, replicated


def newest(experiment, workdir):
    """The state of the newest checkpoint in a folder that can be read, or None without any checkpoint.

    Raises:
        UserError: there are checkpoints, and none can be read, or they are of another network.
    """
    transformation = experiment.optimizer.transformation(experiment.training.steps)
    state = initial_state(experiment.params, transformation, experiment.objective_state)
    state = jax.device_put(state, replicated(data_mesh()))
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    restored = checkpoints.restore(state)
    checkpoints.close()
    return restored
