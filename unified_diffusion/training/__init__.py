"""Training: the step, the loop, and the state and checkpoints that they keep."""

from unified_diffusion.training.checkpoints import Checkpoints
from unified_diffusion.training.loop import Training, train
from unified_diffusion.training.optimizer import Optimizer
from unified_diffusion.training.state import Model, TrainState, initial_state, initialise, model_of, objective_state
from unified_diffusion.training.step import make_train_step, scan_steps

__all__ = [
    "Checkpoints",
    "Model",
    "Optimizer",
    "TrainState",
    "Training",
    "initial_state",
    "initialise",
    "make_train_step",
    "model_of",
    "objective_state",
    "scan_steps",
    "train",
]
