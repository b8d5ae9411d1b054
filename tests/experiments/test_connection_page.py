"""`python -m experiments.connection`: the page, its numbers, and what it does to a folder."""

import html.parser
import json
import re

import numpy as np
import pytest

from experiments.connection.__main__ import OWN, SECTIONS, main
from experiments.connection.page import Section, cell, page, templates
from unified_diffusion.objectives import WEIGHTINGS


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with the quick page in it."""
    workdir = tmp_path_factory.mktemp("connection") / "page"
    assert main(["--quick", f"--workdir={workdir}"]) == 0
    return workdir


@pytest.fixture(scope="module")
def numbers(written):
    return json.loads((written / "connection.json").read_text())


class Page(html.parser.HTMLParser):
    """Collects what a page asks for, and sees that its tags are balanced."""

    VOID = {"meta", "img", "br"}

    def __init__(self, text):
        super().__init__()
        self.references, self.open, self.alternatives = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.references += [value for name, value in attributes.items() if name in ("src", "href")]
        self.alternatives += [attributes["alt"]] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_page_needs_nothing_else(written):
    text = (written / "index.html").read_text()
    found = Page(text)
    assert all(reference.startswith(("data:image/png;base64,", "#s")) for reference in found.references)
    assert "url(" not in text
    assert "<script" not in text
    assert len(found.alternatives) == 10
    assert all(found.alternatives)
    assert "A rehearsal" in text


@pytest.mark.slow
@pytest.mark.parametrize("error", ["loss", "gradient"])
def test_the_identities_hold(numbers, error):
    """In float32, to the rounding of its sums."""
    identities = numbers["identities"]["identities"]
    assert len(identities) == 13
    assert all(row[error] <= 1e-5 for row in identities), identities


@pytest.mark.slow
def test_the_bound_comes_to_its_limit(numbers):
    """The relative error falls as 1 / T."""
    for rows in numbers["identities"]["vlb_to_likelihood"].values():
        for what in ("loss", "gradient"):
            errors = np.array([row[what] * row["T"] for row in rows])
            assert errors.max() < 10
            assert errors.max() < 1.5 * errors.min()


@pytest.mark.slow
def test_every_weighting_is_shown(numbers):
    for process in numbers["weightings"].values():
        assert list(process["weight"]) == list(process["effective_weight"]) == list(WEIGHTINGS)
        assert {len(w) for w in process["weight"].values()} == {len(process["log_snr"])}
    assert set(numbers["gradients"]["weightings"]) == set(WEIGHTINGS)


@pytest.mark.slow
def test_an_ancestral_step_is_a_langevin_step_and_as_much_drift_again(numbers):
    steps = numbers["steps"]
    assert max(steps["sum_error"].values()) < 2e-5
    assert max(steps["ddpm_as_ncsn"].values()) < 2e-5
    for found in steps["coefficients"].values():
        drift, noise = np.array(found["langevin_drift"]), np.array(found["langevin_noise"])
        np.testing.assert_allclose(noise**2, 2 * drift, rtol=5e-5)
    ladder = steps["coefficients"]["NCSN, 10 levels"]
    variance = np.square(ladder["sigma"])
    np.testing.assert_allclose(ladder["ancestral_drift"], variance - np.append(0, variance[:-1]), rtol=1e-5)
    np.testing.assert_allclose(ladder["large_noise"][1:], np.sqrt(np.diff(variance)), rtol=1e-5)


@pytest.mark.slow
def test_plain_langevin_dynamics_gets_the_weights_wrong_and_the_others_right(numbers):
    """With the exact score, which needs no training."""
    mixture = numbers["mixture"]
    exact = {name: row["exact"] for name, row in mixture["weights"].items()}
    assert abs(exact["plain Langevin"] - 0.5) < 5 * mixture["standard_error"]
    for name in ("annealed Langevin", "ancestral"):
        assert abs(exact[name] - mixture["truth"]) < 4 * mixture["standard_error"]


def test_the_page_before_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.connection.__main__.SECTIONS", ("weightings", "steps"))  # the fast ones
    for _ in range(2):
        assert main([f"--workdir={tmp_path}"]) == 0
    names = {"index.html", "index.1.html", "connection.json", "connection.1.json", ".lock"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.slow
def test_all_sections_are_there(written, numbers):
    assert set(SECTIONS) <= set(numbers)
    assert set(numbers["seconds"]) == set(SECTIONS)
    assert {path.name for path in written.iterdir()} == OWN


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert main([f"--workdir={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert "has other things in it, such as thesis.tex" in message
    assert message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_quick_networks_are_not_taken_for_trained_ones(written, capsys):
    assert main([f"--workdir={written}"]) == 2
    assert "belongs to another config" in capsys.readouterr().err


def test_numbers_in_tables():
    assert [cell(value) for value in (3, 0.0, 0.25, 1234.5, "text")] == ["3", "0", "0.2500", "1234", "text"]
    assert cell(1.25e-7) == "1.2·10<sup>−7</sup>"
    markup = templates().from_string(TABLE).render(rows=[["a", 1.5], ["b", 2], ["<i>", "–"]])
    assert re.findall(r'<td class="n">(.*?)</td>', markup) == ["1.500", "2", "–"]
    assert re.findall(r"<td>(.*?)</td>", markup) == ["a", "b", "&lt;i&gt;"]
    assert "<caption>A <b>caption</b></caption>" in markup


TABLE = """
{% from "macros.html" import table %}
{% call table(["name", "value"], rows) %}A <b>caption</b>{% endcall %}
"""


def test_what_a_section_is_given_is_escaped():
    evil = "</p><script>alert(1)</script>&\"'"
    values = dict.fromkeys(("everything", "alone", "effective"), np.zeros((4, 6, 3), np.uint8))
    sections = [Section("weightings", evil, values | {"header": ["weighting", evil], "rows": [[evil, 1.5]]}, {})]
    text = page(sections, quick=False, seconds=1.0, devices=evil, jax=evil)
    Page(text)
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 6
