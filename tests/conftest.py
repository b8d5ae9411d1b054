"""Every call in the tests checks the annotations of the package: shapes, dtypes and types, with beartype."""

import os
import tempfile

import hypothesis
import pytest
from jaxtyping import install_import_hook

# Several tests run the same program in a process of its own: it is compiled once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="unified_diffusion_tests_"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

install_import_hook("unified_diffusion", "beartype.beartype")

# A first call compiles, so a time limit for each example would be a test of the compiler.
hypothesis.settings.register_profile("default", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("default")


@pytest.fixture(autouse=True, scope="module")
def nothing_stays_compiled():
    """Frees what a file has compiled: kept for all files it is gigabytes, which slow down every test after them."""
    yield
    import jax

    jax.clear_caches()
