"""Runs that take seconds, as processes that can be killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

# Without the bound, and the metrics and neighbours of samples: they would take half of such a run's time.
TINY = [
    "--config=ddpm_toy.py",
    "--config.model.width=16",
    "--config.model.depth=1",
    "--config.perturbation.num_steps=20",
    "--config.training.batch_size=32",
    "--config.training.log_every=10",
    "--config.sampling.num_images=40",
    "--config.sampling.batch_size=16",
    "--config.evaluation.num_levels=4",
    "--config.evaluation.num_examples=50",
    "--config.evaluation.bound=false",
    "--config.evaluation.features=none",
    "--config.evaluation.neighbours=0",
]

DIGITS = [
    "--config=ddpm_digits.py",
    "--config.model.channels=4",
    "--config.model.multipliers=1",
    "--config.model.attention_resolutions=()",
    "--config.perturbation.num_steps=20",
    "--config.training.steps=4",
    "--config.training.sample_every=0",
    "--config.training.batch_size=8",
    "--config.sampler.num_steps=3",
    "--config.sampling.num_images=30",
    "--config.evaluation.bound=false",
    "--config.evaluation.num_levels=2",
    "--config.evaluation.num_examples=10",
    "--config.evaluation.bootstrap=10",
    "--config.evaluation.features=pixels",
]


class Run:
    """`python -m experiments.main` as a process of its own."""

    def __init__(self, arguments, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.main", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )

    def wait(self, timeout=240):
        """(exit code, all output)."""
        output, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, output

    def kill_at(self, workdir, step, number=signal.SIGKILL, timeout=240):
        """Sends a signal once metrics.jsonl has reached a step; (exit code, all output)."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.process.poll() is None:
            if last_step(workdir) >= step:
                self.process.send_signal(number)
                break
            time.sleep(0.02)
        return self.wait()


def last_step(workdir):
    """The last whole line's step in metrics.jsonl, or 0."""
    try:
        lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else 0


@contextlib.contextmanager
def few_optimizations():
    """Has XLA compile with few optimizations, here and in the processes that are started meanwhile.

    Programs of tiny runs run for milliseconds and compile for seconds. Processes have to do the same: a run
    that is killed and goes on elsewhere ends in the same bits only if it is compiled in the same way.
    """
    import jax

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", True)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)
