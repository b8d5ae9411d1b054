"""Runs and processes that the tests of this folder share."""

import contextlib

import jax
import pytest
from tiny_runs import DIGITS, TINY, Run

from experiments.main import main


@contextlib.contextmanager
def few_optimizations():
    """Has XLA compile with few optimizations, here and in the processes that are started meanwhile.

    Programs of this folder's tests run for milliseconds and compile for seconds. Processes have to do the same: a run
    that is killed and goes on elsewhere ends in the same bits only if it is compiled in the same way.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", True)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True, scope="module")
def compiles_quickly():
    """Holds for the files of this folder alone, since the tests of others compute for long, or check the rounding."""
    with few_optimizations():
        yield


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """The folder of a tiny run on digits, to be copied; files that take it are TOGETHER in one worker.

    It has 4 steps, a chain of 20 levels, 30 samples of 3 evaluations, and their metrics in pixels; no bound.
    """
    workdir = tmp_path_factory.mktemp("digits") / "run"
    with few_optimizations():
        assert main([*DIGITS, f"--workdir={workdir}"]) == 0
    return workdir


@pytest.fixture
def tiny():
    """Arguments of a run that takes seconds."""
    return list(TINY)


@pytest.fixture
def start():
    """Starts a Run, and ends it with the test."""
    runs = []

    def begin(arguments, **environment):
        runs.append(Run(arguments, **environment))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.kill()
        run.process.wait()
