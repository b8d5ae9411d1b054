"""The train step takes one batch of the data to new parameters."""

import jax
import jax.numpy as jnp
import optax

from unified_diffusion.codecs import Images, Points
from unified_diffusion.keys import fold_name
from unified_diffusion.objectives import as_objective
from unified_diffusion.training.state import TrainState


def make_train_step(model, objective, optimizer, *, ema_decay=0.9999, dequantized=False, label_dropout=0.0, codec=None):
    """Returns the pure function (state, batch, key) -> (state, metrics), to be put under `jax.jit`.

    Args:
        model: the `Model` that turns parameters into a denoiser.
        objective: an `Objective`, or any callable (denoiser, x0, key, label) -> (loss per example, metrics).
        optimizer: an optax transformation.
        ema_decay: the decay of the exponential moving average of the parameters. In step n the decay is
            min(ema_decay, (1 + n) / (10 + n)), so that the average of a short run forgets its start; 0 keeps the
            parameters themselves.
        dequantized: whether uniform noise of one grey level is added to uint8 data, as in NCSN.
        label_dropout: how often the network is told nothing in place of the condition. Ho & Salimans 2022, algorithm 1.
        codec: the `Codec` that turns the batch's examples into x_0; None takes uint8 as images and floats as points.

    The returned metrics are scalars: the mean loss of the batch, the norm of the gradient before clipping, and the
    means of the metrics that `objective.logged` names.
    """
    objective = as_objective(objective)

    def train_step(state, batch, key):
        step_key = jax.random.fold_in(key, state.step)
        data_key, loss_key, dropout_key = jax.random.split(step_key, 3)
        coded = codec or (Images() if batch["x0"].dtype == jnp.uint8 else Points())
        x0 = coded.dequantize(batch["x0"], data_key) if dequantized else coded.encode(batch["x0"])
        condition = model.condition.of(batch)
        if label_dropout:
            condition = model.condition.drop(condition, fold_name(step_key, "label dropout"), label_dropout)
        remembers = state.objective is not None

        def mean_loss(params):
            denoiser = model.denoiser(params, dropout_key)
            given = memory_and_reference(objective, state.objective, model, state.ema)
            loss, metrics = objective(denoiser, x0, loss_key, condition, **given)
            logged = {name: jnp.mean(metrics[name]) for name in objective.logged}
            return jnp.mean(loss), (metrics if remembers else None, logged)

        (loss, (metrics, logged)), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        ema = optax.incremental_update(params, state.ema, 1 - decay)
        objective_state = objective.update(state.objective, metrics) if remembers else None
        scalars = {"loss": loss, "gradient_norm": optax.tree.norm(gradient), **logged}
        return TrainState(state.step + 1, params, ema, optimizer_state, objective_state), scalars

    return train_step


def memory_and_reference(objective, memory, model, ema):
    """Returns the arguments of a call that only some objectives take, by name.

    An objective with a memory gets it as `state`. One that sets `needs_reference` gets the denoiser with the averaged
    parameters `ema` as `reference`, without dropout; no gradient flows into it.
    """
    given = {} if memory is None else {"state": memory}
    if objective.needs_reference:
        given["reference"] = model.denoiser(jax.lax.stop_gradient(ema))
    return given


def scan_steps(train_step):
    """Returns the function (state, batches, key) -> (state, metrics), one step for each batch along a new first axis.

    One dispatch for several steps keeps an accelerator busy. This function is not for XLA:CPU, which runs the gradient
    of a convolution's weights some 80 times slower inside a loop than outside (jax issue 12868).
    """

    def train_steps(state, batches, key):
        return jax.lax.scan(lambda state, batch: train_step(state, batch, key), state, batches)

    return train_steps
