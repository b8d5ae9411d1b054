"""Runs and processes that the tests of this folder share."""

import pytest
from tiny_runs import TINY, Run, few_optimizations


@pytest.fixture(autouse=True, scope="module")
def compiles_quickly():
    """Holds for the files of this folder alone, since the tests of others compute for long, or check the rounding."""
    with few_optimizations():
        yield


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
