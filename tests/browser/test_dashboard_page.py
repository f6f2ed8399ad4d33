"""The dashboard as a user sees it, in a real browser."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator

import pytest
from conftest import skip_or_fail
from finished_study import finished_study
from playwright.sync_api import Page, expect, sync_playwright

from tuner.report.serve import dashboard_of


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    study = finished_study(tmp_path_factory.mktemp("browser"))
    with dashboard_of(study.spec.storage, None, "127.0.0.1", 0) as (server, page):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield page.removesuffix("/dashboard")
        server.shutdown()
        thread.join()
    study.close()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    chromium = shutil.which("chromium")
    if chromium is None:
        skip_or_fail("there is no chromium to show the dashboard in (Debian's package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        page.set_default_timeout(30_000)
        yield page
        browser.close()


def test_the_first_page_lists_the_study(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.get_by_text("scenes").first).to_be_visible(timeout=30_000)


def test_a_trial_shows_its_note_and_its_pictures(page: Page, address: str) -> None:
    number = page.request.get(f"{address}/api/studies").json()["study_summaries"][0]["study_id"]
    page.goto(f"{address}/dashboard/studies/{number}/trials?numbers=1")
    expect(page.get_by_text("Operating point").first).to_be_visible(timeout=30_000)
    for name in ("1-anchors.png", "2-learning-curve.png", "3-precision-recall.png", "4-examples.jpg"):
        expect(page.get_by_text(name).first).to_be_visible(timeout=30_000)
    pictures = page.locator("img[src*='/artifacts/']")
    expect(pictures).to_have_count(4, timeout=30_000)
    for i in range(4):
        picture = pictures.nth(i)
        picture.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete && image.naturalWidth > 100", arg=picture.element_handle())
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
