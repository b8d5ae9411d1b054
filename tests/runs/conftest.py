"""The tests of tiny runs compile quickly, as those of the programs do."""

import pytest
from tiny_runs import few_optimizations


@pytest.fixture(autouse=True, scope="module")
def compiles_quickly():
    """Holds for the files of this folder."""
    with few_optimizations():
        yield
