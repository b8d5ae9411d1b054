"""Every call in the tests checks the annotations of the package: shapes, dtypes and types, with beartype."""

import os

import compilation_cache
import hypothesis
import pytest
from jaxtyping import install_import_hook
from xdist.scheduler import LoadFileScheduling

# JAX reads these when it is imported, and processes that tests start inherit them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compilation_cache.folder()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

install_import_hook("unified_diffusion", "beartype.beartype")

# A first call compiles, so a time limit for each example would be a test of the compiler.
hypothesis.settings.register_profile("default", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("default")


# Files whose tests share a trained run, and so a worker.
TOGETHER = {
    "tests/experiments/test_flow.py": "digits_run",
    "tests/runs/test_inpainting.py": "digits_run",
    "tests/experiments/test_sample_evaluation.py": "digits_run",
}
# Files whose tests share nothing, so that each may go to any worker: in one worker they would take minutes.
SPREAD = {"tests/samplers/test_recovery_table.py"}


class ByFile(LoadFileScheduling):
    """Gives the tests of a file, which share what is compiled and trained for them, to one worker."""

    def _split_scope(self, nodeid):
        file = nodeid.partition("::")[0]
        return nodeid if file in SPREAD else TOGETHER.get(file, file)


def pytest_configure(config):
    """Bounds the size of the compilation cache, once and before any worker starts."""
    if not hasattr(config, "workerinput"):
        compilation_cache.bound(compilation_cache.folder())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Has `--dist loadfile` follow `TOGETHER` and `SPREAD`. The mark xdist_group does nothing under pytest 9.2."""
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True, scope="module")
def nothing_stays_compiled():
    """Frees what a file has compiled: kept for all files it is gigabytes, which slow down every test after them."""
    yield
    import jax

    jax.clear_caches()


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """The folder of a tiny run on digits, to be copied; files that take it are TOGETHER in one worker.

    It has 4 steps, a chain of 20 levels, 30 samples of 3 evaluations, and their metrics in pixels; no bound.
    """
    workdir = tmp_path_factory.mktemp("digits") / "run"
    from tiny_runs import DIGITS, few_optimizations

    from experiments.main import main

    with few_optimizations():
        assert main([*DIGITS, f"--workdir={workdir}"]) == 0
    return workdir
