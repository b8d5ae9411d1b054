import pytest
from tiny_runs import TINY, Run


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
