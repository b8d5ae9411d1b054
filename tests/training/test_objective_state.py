"""An objective that remembers: its memory is in the state, in checkpoints, and in a resumed run."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unified_diffusion import data, models
from unified_diffusion.objectives import Denoising
from unified_diffusion.perturbations import DDPM
from unified_diffusion.training import (
    Optimizer,
    Training,
    initial_state,
    initialise,
    make_train_step,
    objective_state,
    scan_steps,
    train,
)

IMPORTANCE = Denoising(weighting="vlb", time_sampler="importance", time_sampler_options={"history": 3})
POINTS = np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)
KEY = jax.random.key(0)


def make_model():
    def build(rngs):
        return models.MLP((2,), width=8, depth=1, rngs=rngs)

    return initialise(build, jax.random.key(0), DDPM(6, beta_start=0.05, beta_end=0.5))


def run(workdir, steps):
    """A run of `train` that ends, or goes on, at `steps`."""
    model, params = make_model()
    optimizer = Optimizer(learning_rate=1e-2, warmup_steps=0)
    training = Training(steps=steps, batch_size=16, ema_decay=0.9, log_every=5, checkpoint_every=12)
    return train(model, params, IMPORTANCE, optimizer, data.Dataset(POINTS), training, workdir, seed=0)[0]


def losses(workdir):
    return [(row["step"], row["loss"]) for row in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())]


def test_an_interrupted_run_ends_in_the_same_bits(tmp_path):
    whole = run(tmp_path / "whole", 24)
    for stop in (10, 24):
        parts = run(tmp_path / "parts", stop)
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    assert losses(tmp_path / "whole")[-1] == losses(tmp_path / "parts")[-1]
    # and by then the levels are not drawn alike
    p = np.asarray(IMPORTANCE._time_sampler.probabilities(make_model()[0].perturbation, whole.objective))
    assert int(whole.objective.count.sum()) == 24 * 16
    assert p.max() > 1.5 * p.min()


def test_scanned_steps_remember_the_same():
    model, params = make_model()
    optimizer = optax.sgd(0.01)
    step = make_train_step(model, IMPORTANCE, optimizer)
    one = state = initial_state(params, optimizer, objective_state(IMPORTANCE, model.perturbation))
    batches = POINTS[:96].reshape(6, 16, 2)
    for x0 in batches:
        one, _ = jax.jit(step)(one, {"x0": x0}, KEY)
    many, metrics = jax.jit(scan_steps(step))(state, {"x0": batches}, KEY)
    assert metrics["loss"].shape == (6,)
    np.testing.assert_array_equal(one.objective.count, many.objective.count)
    np.testing.assert_allclose(one.objective.losses, many.objective.losses, rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Counting:
    """One's own objective that remembers how often it was called."""

    def initial_state(self, perturbation):
        return jnp.zeros((), jnp.int32)

    def __call__(self, denoiser, x0, key, label=None, state=None):
        return jnp.mean((denoiser(x0, 1, label).eps - 1) ** 2, axis=1) * state, {"state": state}

    def update(self, state, metrics):
        return metrics["state"] + 1


@dataclasses.dataclass(frozen=True)
class Plain:
    """One's own objective that remembers nothing, and whose metrics are its own affair."""

    def __call__(self, denoiser, x0, key, label=None):
        return jnp.mean((denoiser(x0, 1, label).eps - 1) ** 2, axis=1), {"name": "plain"}


def test_ones_own_objective_may_remember_or_not():
    model, params = make_model()
    optimizer = optax.sgd(0.0)
    for objective, final in ((Counting(), 3), (Plain(), None)):
        state = initial_state(params, optimizer, objective_state(objective, model.perturbation))
        step = jax.jit(make_train_step(model, objective, optimizer))
        for _ in range(3):
            state, metrics = step(state, {"x0": POINTS[:16]}, KEY)
        assert state.objective == final
        assert float(metrics["loss"]) > 0


DEVICES = """
import sys, pathlib, jax, numpy as np
sys.path.insert(0, "tests/training")
from test_objective_state import run
state = run(pathlib.Path(sys.argv[1]), 20)
assert jax.device_count() == 2
assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))
np.savez(sys.argv[2], losses=state.objective.losses, count=state.objective.count)
"""


def test_two_devices_remember_what_one_does(tmp_path):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    saved = tmp_path / "state.npz"
    subprocess.run([sys.executable, "-c", DEVICES, str(tmp_path / "two"), str(saved)], check=True, env=environment)
    one, two = run(tmp_path / "one", 20).objective, np.load(saved)
    np.testing.assert_array_equal(one.count, two["count"])
    np.testing.assert_allclose(one.losses, two["losses"], rtol=1e-4)
