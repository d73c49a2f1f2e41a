"""The dashboard as a person meets it: Debian's Chromium on a served dashboard, over a small run of the
whole chain, with nothing red on its console.

SPANISHGAS_SCREENSHOTS=docs/images makes the pictures of the documentation.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from spanishgas.lake import Lake
from spanishgas.pipeline import LATER
from tests.cheap_experiments import cheap_search, lenient

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

pytestmark = [pytest.mark.browser, pytest.mark.dashboard]
PAGES = {
    "": "Overview",
    "customers": "Customers",
    "customer": "Customer",
    "recommendations": "Recommendations",
    "model": "Model",
    "drift": "Drift",
    "pipeline": "Pipeline",
}
PATIENCE = 60_000
"""Milliseconds."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole chain ran, for a few hundred customers: its lake and its tracking store."""
    root = tmp_path_factory.mktemp("ran")
    words = ["main", "--customers", "600", "--trials", "1", "--lake", "lake"]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
        "SPANISHGAS_STUDY_STORAGE": f"sqlite:///{root}/optuna.db",
        "SPANISHGAS_EXPERIMENTS": str(lenient(cheap_search(root / "experiments"))),
    }
    subprocess.run([sys.executable, "-m", "spanishgas", *words], cwd=root, env=environment, check=True)
    return root


@pytest.fixture(scope="module")
def offers(ran: Path) -> pd.DataFrame:
    """What was recommended, the best offer first."""
    return (
        Lake(ran / "lake")
        .current("recommendations")
        .pandas()
        .sort_values("expected_margin_impact", ascending=False)
    )


@pytest.fixture(scope="module")
def served(ran: Path) -> Iterator[str]:
    """Address that the command prints of a dashboard over what the chain left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "spanishgas", "dashboard", "--port", str(port), "--lake", "lake"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{ran}/mlflow.db"}
    with subprocess.Popen(words, cwd=ran, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            printed = server.stderr.readline().strip()
            threading.Thread(target=server.stderr.read, daemon=True).start()
            wait(f"http://127.0.0.1:{port}/_stcore/health")
            yield printed
        finally:
            server.terminate()


def at(served: str, path: str) -> str:
    """Address of a page, with the key that the command printed."""
    return served.replace("/?", f"/{path}?")


def wait(url: str) -> None:
    """Until a server answers."""
    until = time.monotonic() + PATIENCE / 1000
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root Chromium has no sandbox; all it opens is the project's own page.
        launched = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; whatever it says that is an error fails the test."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(PATIENCE)
    faults: list[str] = []
    opened.on(
        "console", lambda said: faults.append(f"{said.text} {said.location}") if at_fault(said) else None
    )
    opened.on("pageerror", lambda fault: faults.append(str(fault)))
    yield opened
    opened.close()
    assert faults == []


def at_fault(said: ConsoleMessage) -> bool:
    """Streamlit itself looks for its server below a page's own address first, and does not find it there."""
    return said.type == "error" and "/_stcore/" not in said.location["url"]


def settled(page: Page) -> None:
    """Until Streamlit has run the script to its end."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_function("document.querySelectorAll('[data-stale=\"true\"]').length === 0")


def picture(page: Page, name: str) -> None:
    if folder := os.environ.get("SPANISHGAS_SCREENSHOTS"):
        page.wait_for_timeout(1000)  # charts are drawn after the script has ended
        page.screenshot(path=Path(folder) / f"dashboard-{name}.png")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_opened_by_its_address_shows_its_title_and_no_failure(
    served: str, page: Page, path: str
) -> None:
    page.goto(at(served, path))
    page.get_by_role("heading", name=PAGES[path], exact=True).wait_for()
    settled(page)
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_test_id("stAlertContentError").count() == 0
    picture(page, path or "overview")


def test_a_page_of_customers_is_shown_by_the_printed_address_alone_and_when_it_is_loaded_again(
    served: str, page: Page
) -> None:
    page.goto(at(served, "customers").partition("?")[0])
    page.get_by_test_id("stAlertContentError").get_by_text("address with a key").wait_for()
    assert page.get_by_test_id("stDataFrame").count() == 0
    page.goto(served)
    page.get_by_role("link", name="Customers").click()
    page.get_by_test_id("stDataFrame").wait_for()
    page.reload()
    page.get_by_test_id("stDataFrame").wait_for()


def test_a_filtered_campaign_is_taken_along_as_csv_and_excel(
    served: str, offers: pd.DataFrame, page: Page
) -> None:
    page.goto(at(served, "customers"))
    page.get_by_role("combobox", name="Risk tier").click()
    page.get_by_role("option", name="Critical").click()
    page.keyboard.press("Escape")
    settled(page)
    critical = set(offers.loc[offers["risk_tier"] == "Critical", "customer_id"])
    assert critical
    for kind, ending, read in (("CSV", "csv", pd.read_csv), ("Excel", "xlsx", pd.read_excel)):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=f"Download {kind}").click()
        assert waiting.value.suggested_filename == f"campaign-{LATER}.{ending}"
        assert set(read(waiting.value.path())["customer_id"]) == critical


def test_a_customer_is_found_and_told_with_reasons(served: str, offers: pd.DataFrame, page: Page) -> None:
    from playwright.sync_api import expect

    best = offers.iloc[0]
    page.goto(at(served, "customer"))
    box = page.get_by_role("textbox", name="Customer id")
    box.fill(best["customer_id"])
    box.press("Enter")
    page.get_by_role("heading", name=best["customer_id"]).wait_for()
    for reason in best["reason_codes"]:
        page.get_by_role("listitem").filter(has_text=reason).wait_for()
    settled(page)
    # What moves the risk, usage, margin.
    expect(page.get_by_test_id("stVegaLiteChart")).to_have_count(3)
    picture(page, "one-customer")


def test_a_row_that_is_marked_leads_to_its_customer(served: str, page: Page) -> None:
    page.goto(at(served, "customers"))
    settled(page)
    page.get_by_test_id("stDataFrame").locator(".dvn-scroller").click(position={"x": 15, "y": 52})
    page.get_by_role("heading", name="Why").wait_for()


def test_evidentlys_report_is_shown_and_cannot_reach_into_the_dashboard(served: str, page: Page) -> None:
    page.goto(at(served, "drift"))
    page.get_by_text("the model's inputs").click()
    report = page.frame_locator('[data-testid="stIFrame"]').frame_locator("iframe")
    report.get_by_text("months_to_renewal").first.wait_for()
    assert report.locator("body").evaluate("() => window.origin") == "null"
