"""The page in a real browser: nothing logged, nothing asked for, nothing wider than the window."""

import os
import pathlib

import pytest

from aft_jax.experiments.reporting.report import report
from tests.experiments.browser import CHROMIUM, Browser
from tests.experiments.conftest import write_predictions

LABELS = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
VIEWS = {"wide": (1100, "light"), "narrow": (390, "light"), "dark": (1100, "dark")}
LOADED = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory, with_trials, write_run):
    record = with_trials(stl=[0.5, 0.5], aft=[1.0, 1.0])
    workdir = write_run(tmp_path_factory.mktemp("run"), record)
    for trial in record.trials:
        predicted = LABELS if trial.method == "aft" else [0] * 10
        write_predictions(workdir / trial.directory, LABELS, predicted, [0.9] * 10)
    return report(workdir)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("view", VIEWS)
def test_a_browser_shows_the_page_without_a_word(browser, page, view, tmp_path):
    width, scheme = VIEWS[view]
    browser.requests.clear()
    browser.open(page, width=width, scheme=scheme)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.images.length") == 9
    assert browser.value(LOADED)
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    kept = pathlib.Path(os.environ.get("AFT_JAX_SCREENSHOTS") or str(tmp_path))
    kept.mkdir(parents=True, exist_ok=True)
    browser.screenshot(kept / f"report_{view}.png")
    print(f"screenshot: {kept / f'report_{view}.png'}")
    assert (kept / f"report_{view}.png").stat().st_size > 20_000
    assert browser.requests == [page.as_uri()]
    assert browser.problems == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_browser_tells_what_goes_wrong(browser, tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<script>undefined.x</script><img src='missing.png'>")
    browser.open(page, width=400)
    assert any("TypeError" in problem for problem in browser.problems)
    assert any("request failed" in problem for problem in browser.problems)
    assert browser.requests[-1] == (tmp_path / "missing.png").as_uri()
    browser.problems.clear()
