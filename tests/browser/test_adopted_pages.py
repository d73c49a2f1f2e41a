"""Every page over a table that was adopted: none breaks, and none speaks of an energy utility."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from spanishgas.settings import settings
from tests.browser.test_pages import OF_THE_LAKE, OF_THE_TRACKING, Open, address, see
from tests.integration.test_adopted_tables import adopted, decide, run
from tests.tracked import own_model, own_store
from tests.unit.test_adopt import shop

__all__ = ["address", "see"]
pytestmark = [
    pytest.mark.dashboard,
    # Streamlit's test runner leaves its event loop to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
UTILITY = re.compile(
    r"\b(gas|electric\w*|kwh|meter\w*|tariff\w*|renew\w*|province\w*|price\w*|supply|dual fuel|etl)\b",
    re.I,
)


@pytest.fixture(scope="module", params=["with a margin", "without one"])
def shop_home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which a shop's table went from a file to a drift report."""
    home = tmp_path_factory.mktemp("shop")
    with own_store(home) as patch, own_model("shop-churn"):
        patch.setenv("SPANISHGAS_LAKE", "lake")
        patch.setenv("SPANISHGAS_STUDY_STORAGE", f"sqlite:///{home}/optuna.db")
        settings.cache_clear()
        value = ("--value", "Margin") if request.param == "with a margin" else ()
        adopted(shop(700), "--without", "Postcode", *value)
        decide(home / "experiments-shop", patch)
        run("experiment", "--id", "E0", "--model", "logistic", "--trials", "1", "--lake", "lake")
        run("ladder", "--models", "logistic", "--trials", "1", "--lake", "lake")
        run("evaluate", "--lake", "lake")
        run("promote", "--reason", "first")
        run("score", "--lake", "lake")
        run("drift", "--lake", "lake")
        yield home
    settings.cache_clear()


def said(app: object) -> list[str]:
    """Every text that a page shows, tables and charts included."""
    from streamlit.testing.v1.element_tree import Element

    out = list[str]()
    for element in app.main:  # type: ignore[attr-defined]
        if isinstance(element, Element):
            out.append(f"{element.type}: {element.proto}"[:20_000])
    return out


@pytest.mark.parametrize("page", [*OF_THE_LAKE, *OF_THE_TRACKING])
def test_a_page_over_an_adopted_table_breaks_nowhere_and_speaks_of_no_utility(
    see: Open, shop_home: Path, page: str
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{shop_home}/mlflow.db")
    app = see(page, shop_home / "lake", {"customer_id": "00007"})
    assert not app.exception
    assert [error.value for error in app.error] == []
    shown = said(app)
    assert len(shown) > 3
    assert [(line[:200], UTILITY.findall(line)) for line in shown if UTILITY.search(line)] == []
