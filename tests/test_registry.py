"""Names: found, suggested, or looked for in one's own module."""

import json

import pytest

from unified_diffusion.errors import UserError
from unified_diffusion.registry import choose, lookup, suggest

REGISTRY = {"linear": 1, "cosine": 2, "uniform": 3}


def test_a_known_name():
    assert lookup(REGISTRY, "cosine", "schedule") == 2
    assert choose("cosine", REGISTRY, "schedule") == "cosine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cosin", "unknown schedule 'cosin': did you mean 'cosine'?"),
        ("unifrom", "unknown schedule 'unifrom': did you mean 'uniform'?"),
        ("zzz", "unknown schedule 'zzz': valid: cosine, linear, uniform"),
        ("", "unknown schedule '': valid: cosine, linear, uniform"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_or_with_all(name, message):
    for find in (lambda: lookup(REGISTRY, name, "schedule"), lambda: choose(name, REGISTRY, "schedule")):
        with pytest.raises(UserError) as error:
            find()
        assert str(error.value) == message


def test_suggestions_are_at_most_three_and_the_nearest_first():
    names = ["vlb", "vlb1", "vlb2", "vlb3", "simple"]
    assert suggest("vlb", names).startswith("did you mean 'vlb' or 'vlb")
    assert suggest("vlb", names).count("'") == 6


def test_ones_own_object_is_named_by_module_and_attribute():
    assert lookup(REGISTRY, "json:loads", "schedule") is json.loads
    assert lookup(REGISTRY, "json.decoder:JSONDecoder", "schedule") is json.JSONDecoder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:thing", "schedule 'no_such_module:thing': no module 'no_such_module' on the Python path"),
        ("json.nothing:thing", "schedule 'json.nothing:thing': no module 'json.nothing' on the Python path"),
        ("json:laods", "schedule 'json:laods': json has no 'laods'; did you mean 'loads'"),
        (":thing", "schedule ':thing': write it as 'package.module:attribute'"),
        (".json:loads", "schedule '.json:loads': write it as 'package.module:attribute'"),
    ],
)
def test_what_cannot_be_imported_is_refused(name, message):
    with pytest.raises(UserError) as error:
        lookup(REGISTRY, name, "schedule")
    assert str(error.value).startswith(message)


def test_an_import_that_fails_inside_ones_own_module_is_shown_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "needs_another.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        lookup(REGISTRY, "needs_another:thing", "schedule")


def test_what_is_no_name_is_refused():
    with pytest.raises(UserError, match="schedule is named by a string, not by 3"):
        lookup(REGISTRY, 3, "schedule")
