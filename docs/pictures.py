"""Pictures of the MLflow UI and the dashboard for the documentation: `python docs/pictures.py FOLDER`.

FOLDER is where `spanishgas main` ran. Takes Debian's Chromium and Playwright (`make dev`); serves FOLDER's mlflow.db
and lake for as long as it takes.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.tracking import MlflowClient

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = Path(__file__).parent / "images"
LADDER = "tags.stage = 'experiment' and params.model = 'xgboost'"
PATIENCE = 90


@contextmanager
def serving(folder: Path, words: Sequence[str], health: str) -> Iterator[tuple[str, str]]:
    """A server of what lies in `folder`, on the port for which `words` have {port}; its address, and its first line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder.resolve()}/mlflow.db"}
    with subprocess.Popen(
        [word.format(port=port) for word in words],
        cwd=folder,
        env=os.environ | quiet | store,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        try:
            first = server.stderr.readline().strip()
            threading.Thread(target=server.stderr.read, daemon=True).start()
            _wait(f"http://127.0.0.1:{port}/{health}")
            yield f"http://127.0.0.1:{port}", first
        finally:
            server.terminate()


def _wait(url: str) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)


def addresses(base: str) -> dict[str, tuple[str, str]]:
    """Picture by picture the page, and a text that stands on it once it is drawn."""
    client = MlflowClient(base)
    experiment = client.get_experiment_by_name("spanishgas")
    if experiment is None:
        raise SystemExit("no experiment spanishgas in this folder: run `make run` there first")
    at = experiment.experiment_id
    champion = client.get_model_version_by_alias("spanishgas-churn", "champion")
    query = LADDER.replace(" ", "%20").replace("=", "%3D")
    order = "orderByKey=metrics.%60cv.average_precision%60&orderByAsc=false"
    return {
        "ladder": (
            f"#/experiments/{at}/runs?searchFilter={query}&{order}&compareRunsMode=CHART",
            "E7 xgboost",
        ),
        "version": (f"#/models/spanishgas-churn/versions/{champion.version}", "Gate"),
    }


def take(page: Page, base: str, name: str, path: str, text: str) -> None:
    """One picture, once the page has settled."""
    page.goto(f"{base}/{path}")
    page.get_by_text(text).first.wait_for()
    for panel in page.get_by_label("Close", exact=False).all():
        if panel.is_visible():
            panel.click()  # the assistant covers a fifth of the page
    page.wait_for_timeout(4_000)  # charts are drawn after their data has come
    page.screenshot(path=IMAGES / f"{name}.png")


def customers(page: Page, address: str) -> None:
    """The dashboard's campaign, by the address that its command prints."""
    page.goto(address.replace("/?", "/customers?"))
    page.get_by_text("Expected gain after cost").first.wait_for()
    page.wait_for_timeout(2_000)
    page.screenshot(path=IMAGES / "dashboard-customers.png")


def main(folder: Path) -> None:
    """All pictures."""
    from playwright.sync_api import sync_playwright

    python, mlflow = sys.executable, str(Path(sys.executable).with_name("mlflow"))
    ui = [mlflow, "ui", "--workers", "1", "--port", "{port}", "--backend-store-uri", "sqlite:///mlflow.db"]
    dashboard = [python, "-m", "spanishgas", "dashboard", "--port", "{port}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.set_default_timeout(1000 * PATIENCE)
        with serving(folder, ui, "health") as (base, _):
            for name, (path, text) in addresses(base).items():
                take(page, base, name, path, text)
        with serving(folder, dashboard, "_stcore/health") as (_, address):
            customers(page, address)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
