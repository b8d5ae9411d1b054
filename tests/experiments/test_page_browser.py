"""The page of a sweep in headless Chromium: sorting, switches, and that nothing goes wrong or out."""

import shutil

import pytest
from fake_sweep import fake_sweep

from experiments.sweep.page import write_page

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install -e '.[test]'")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
GRID = {"objective.weighting": ["simple", "vlb", "min_snr"], "perturbation.name": ["ddpm", "ncsn"], "seed": [0, 1]}
FRECHET = "classifier.frechet_distance"


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the path: apt-get install chromium")
    with playwright.sync_playwright() as context:
        opened = context.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens the page of a fake sweep; what it logged and asked for is checked at the end."""
    pages = []

    def begin(*arguments, **options):
        fake_sweep(tmp_path, *arguments, **options)
        write_page(tmp_path)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "index.html").as_uri())
        pages.append((page, said, asked))
        return page

    yield begin
    for page, said, asked in pages:
        page.wait_for_timeout(100)
        assert said == []
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        page.close()


def sorted_by(page, key):
    """The values of a column, as the rows stand."""
    cells = page.locator(f'tbody tr.group [data-column="{key}"]')
    return [cell.get_attribute("data-value") for cell in cells.all()]


def traces(page):
    """{figure: {run, or runs: whether it is seen}}, of traces that are lines and of what Plotly drew of them."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('.figure[data-figure]')].map((section) => [
            section.dataset.figure,
            Object.fromEntries(section.querySelector('.plot').data.map((trace) => [
                trace.meta,
                trace.visible !== false && section.querySelector(`.trace${trace.uid}`) !== null,
            ])),
        ]))"""
    )


def test_a_click_on_a_header_sorts(open_page):
    page = open_page(GRID, states={10: "failed", 11: "waiting"})
    header = page.locator(f'thead button[data-key="{FRECHET}"]')
    planned = sorted_by(page, FRECHET)
    known = [value for value in planned if value]
    assert len(known) == 5
    assert known != sorted(known, key=float)
    header.click()
    assert sorted_by(page, FRECHET) == [*sorted(known, key=float), ""]
    assert header.locator("xpath=..").get_attribute("aria-sort") == "ascending"
    header.click()
    assert sorted_by(page, FRECHET) == [*sorted(known, key=float, reverse=True), ""]
    page.locator('thead button[data-by="field"]', has_text="objective.weighting").click()
    labels = page.locator("tbody tr.group .run label").all_inner_texts()
    assert [label.split(" · ")[0] for label in labels] == ["min_snr", "min_snr", "simple", "simple", "vlb", "vlb"]


def test_a_box_hides_its_runs_everywhere(open_page):
    page = open_page(GRID)
    before = traces(page)
    assert set(before) == {"training", "levels", "weights", "metrics"}
    assert all(seen == {str(run): True for run in range(12)} for seen in before.values())
    page.locator("tbody tr.group input").nth(1).uncheck()
    expected = {str(run): run not in (2, 3) for run in range(12)}
    assert all(seen == expected for seen in traces(page).values())
    shown = page.locator("figure[data-run]:visible").evaluate_all("all => all.map((figure) => figure.dataset.run)")
    assert set(shown) == {run for run, seen in expected.items() if seen}
    page.locator(".bar input").first.check()
    assert traces(page) == before


def test_a_view_that_is_changed_keeps_what_is_hidden(open_page):
    page = open_page(GRID)
    page.locator("tbody tr.group input").first.uncheck()
    page.locator('[data-figure="levels"] select').select_option("cost in the bound")
    assert traces(page)["levels"] == {str(run): run > 1 for run in range(12)}


def test_a_seed_has_its_own_box(open_page):
    page = open_page(GRID)
    row = page.locator("tbody").first
    assert row.locator("tr.seed").first.is_hidden()
    row.locator(".expand").click()
    row.locator("tr.seed input").nth(1).uncheck()
    assert traces(page)["training"] == {str(run): run != 1 for run in range(12)}
    assert row.locator("tr.group input").evaluate("box => box.indeterminate")


def test_features_can_be_chosen(open_page):
    page = open_page(GRID)
    pixels = page.locator('thead button[data-key="pixels.frechet_distance"]')
    assert pixels.is_hidden()
    page.locator('input[data-family="pixels"]').check()
    assert pixels.is_visible()


def test_the_page_is_as_wide_as_the_window(open_page):
    page = open_page(GRID, states={0: "running", 1: "failed"})
    for width in (1280, 800):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_sweep_that_has_nothing_yet(open_page):
    page = open_page(GRID, states=dict.fromkeys(range(12), "waiting"))
    assert page.locator("tbody tr.group").count() == 6
    assert page.locator(".figure").count() == 0


def test_a_line_through_several_runs_goes_with_the_last_of_them(open_page):
    page = open_page({"sampler.name": ["ddim", "heun"], "sampler.num_steps": [10, 20]}, evaluations=[10, 20, 19, 39])
    assert traces(page)["evaluations"] == {"0,1": True, "2,3": True}
    page.locator("tbody tr.group input").nth(0).uncheck()
    assert traces(page)["evaluations"] == {"0,1": True, "2,3": True}
    page.locator("tbody tr.group input").nth(1).uncheck()
    assert traces(page)["evaluations"] == {"0,1": False, "2,3": True}
    page.locator("tbody tr.group").nth(3).hover()
    lines = page.locator('[data-figure="evaluations"] .trace.lit')
    lit = lines.evaluate_all("all => all.map((trace) => trace.className.baseVal)")
    assert len(lit) == 1
    assert "tracerun2-run3-" in lit[0]
