import io
import logging

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory, monkeypatch):
    """Every test has a cache of its own."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home / "unified_diffusion"


@pytest.fixture
def picture():
    """picture(3) is a PNG of 8 x 8 pixels whose values all are 3."""

    def make(value, size=(8, 8), kind="png"):
        out = io.BytesIO()
        Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(out, kind)
        return out.getvalue()

    return make


@pytest.fixture
def warnings():
    """The warnings logged during the test, a list."""
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("unified_diffusion")
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)
