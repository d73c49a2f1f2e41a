"""Hostile names on every page and in every file: shown as they are, never run as markup or as a formula."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from spanishgas import rendering
from spanishgas.config.policy import load_policy
from spanishgas.etl import quality
from spanishgas.evaluation import card
from spanishgas.lake import Lake
from spanishgas.lifecycle import compare, history
from spanishgas.lifecycle.compare import Comparison
from spanishgas.lifecycle.history import How, Move, MoveRecord, MoveState
from spanishgas.lifecycle.records import Bound, Check, Verdict
from spanishgas.monitoring import reports
from spanishgas.monitoring.alarm import AlarmJudgement
from spanishgas.scoring import campaign
from tests.unit.test_card import a_slice
from tests.unit.test_card import evaluation as evaluated

MARKUP = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><svg onload=alert(1)>",
    "</td></tr></table><iframe src=//evil.example>",
    "[click](https://evil.example)",
    "[click](javascript:alert(1))",
    "![seen](https://evil.example/pixel.png)",
    "<https://evil.example>",
    "https://evil.example",
    "a | b | c",
    "`code` *em* **strong** _em_ ~~gone~~ :red[x] $x$",
    "line\n\n# heading\n\n- item\n\n<b>bold</b>",
    "&lt;script&gt;",
    "back\\slash\\| bar",
]
FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "-2+3",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\uff1d1+1",
    "\x00=1",
]


class Elements(HTMLParser):
    """Every element with the names of its attributes, and every address."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(f"{k}={v}" if k in ("src", "href") else k for k, v in attrs)))


def rendered(markdown: str) -> str:
    """As strictly as MLflow's UI and Streamlit would: with tables and struck-out text, and HTML let through."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)


def card_page(name: str) -> str:
    policy = load_policy()
    waivers = [w.model_copy(update={"reason": name}) for w in policy.waivers]
    found = evaluated(
        slices=[a_slice(name, worse=True)], policy=policy.model_copy(update={"waivers": waivers})
    )
    return card.html(card.markdown(found, name), name)


def short_card(name: str) -> str:
    evaluation = evaluated(slices=[a_slice(name, worse=True)])
    return rendered(card.short(evaluation, "refused", verdict(name).table(), "where"))


def verdict(name: str) -> Verdict:
    check = Check(
        name="slices.worse",
        value=1.0,
        limit=0,
        interval=None,
        passed=False,
        way_out="",
        bound=Bound.AT_MOST,
        note=name,
    )
    waivers = [load_policy().waivers[0].model_copy(update={"reason": name})]
    return Verdict(checks=[check], waivers=waivers)


def moves(name: str) -> str:
    fields = {
        "number": 1,
        "at": "2025-01-01T00:00:00+00:00",
        "version": "1",
        "replaced": None,
        "verdict": None,
    }
    move = Move(how=How.PROMOTED, state=MoveState.DONE, by=name, reason=name, override=name, **fields)
    return rendered(history.as_markdown(MoveRecord(moves=[move])))


def comparison(name: str) -> str:
    return rendered(compare.as_markdown(compared(name)))


def compared(name: str) -> Comparison:
    moved = pd.DataFrame(
        {"customer_id": [name], "before": ["Low"], "after": ["High"], "probability after": [0.7]}
    )
    tiers = pd.DataFrame([[1]], index=["Low"], columns=["Low"])
    return Comparison("1", "2", 1, tiers, moved, pd.Series({"f": 0.1}))


def drift_page(name: str) -> str:
    row = {
        "effect": 9.0,
        "bin": name,
        "words": f"channel {name}",
        "before": 0.1,
        "after": 0.5,
        "expected": 0.0,
    }
    weighed = pd.DataFrame([row | {"moved": 0.4, "weight": 0.1, "matters": 0.04}], index=["sales_channel"])
    judged = AlarmJudgement(True, 9.0, 3.0, True, [f"channel {name} moved"], weighed)
    quality = pd.DataFrame({"feature": ["sales_channel"], "before": [0.0], "after": [0.1], "new": [name]})
    day = date(2024, 12, 31)
    shown = {"version": "1", "dates": (day, day), "customers": (1, 1), "source": name, "rate": 0.05}
    return reports.html(judged, weighed, quality, shown | {"prediction": name, "files": {}, "rows": ""})


def campaign_page(name: str) -> str:
    policy = load_policy()
    menu = {name: next(iter(policy.offers.menu.values()))}
    offers = policy.offers.model_copy(update={"menu": menu})
    one = {"probability": [0.9], "margin": [45.0], "tier": ["High"], "action": [name]}
    return campaign.page(pd.DataFrame(one), offers, date(2024, 12, 31))


def quality_report(name: str) -> str:
    values = {"rows_in": 1, "kept": 1, "null_rate.province": 0.0, "min.province": name, "max.province": name}
    return rendered(quality.markdown({"customer": values | {f"odd.{name}": 3}}))


PAGES: Mapping[str, Callable[[str], str]] = {
    "model card": card_page,
    "version's description": short_card,
    "verdict": lambda name: rendered(verdict(name).table()),
    "history": moves,
    "comparison": comparison,
    "drift": drift_page,
    "campaign": campaign_page,
    "data quality": quality_report,
}


@pytest.mark.parametrize("shown", PAGES)
def test_a_hostile_name_brings_no_element_no_handler_and_no_address_of_its_own(shown: str) -> None:
    expected = Elements(PAGES[shown]("name")).elements
    for name in [*MARKUP, *FORMULAS]:
        assert Elements(PAGES[shown](name)).elements == expected, name


@pytest.mark.parametrize("make", [card_page, drift_page, campaign_page])
def test_a_page_allows_itself_no_script_and_nothing_from_outside(make: Callable[[str], str]) -> None:
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in make("name")


@pytest.mark.parametrize("name", [n for n in MARKUP if "\n" not in n])
def test_a_name_in_markdown_is_read_as_itself(name: str) -> None:
    text: list[str] = []
    parser = HTMLParser()
    parser.handle_data = text.append  # type: ignore[method-assign]
    parser.feed(rendered(rendering.markdown(name)))
    assert "".join(text).strip() == name


@pytest.mark.parametrize("name", ["average_precision", "0.25 to 0.30", "months to renewal: 2", "Own Website"])
def test_a_plain_name_needs_no_escape(name: str) -> None:
    assert rendering.markdown(name) == name


@pytest.mark.parametrize("name", [*FORMULAS, *MARKUP])
def test_a_cell_of_a_spreadsheet_is_text(name: str) -> None:
    table = rendering.spreadsheet(pa.table({"customer_id": [name, None], "loss": [-1.5, 2.0]}))
    told = table["customer_id"][0].as_py()
    assert told == ("'" + name if name in FORMULAS else name).replace("\x00", "\ufffd")
    assert table["customer_id"][1].as_py() is None
    assert table["loss"].to_pylist() == [-1.5, 2.0]
    book, file = openpyxl.Workbook(write_only=True), io.BytesIO()
    book.create_sheet().append([told])
    book.save(file)
    (cell,) = next(openpyxl.load_workbook(file).active.iter_rows())  # type: ignore[union-attr]
    assert cell.data_type == "s"


def test_the_file_of_a_comparison_holds_no_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spanishgas.cli import lifecycle

    monkeypatch.setattr(lifecycle, "require_tracking", lambda **options: None)
    monkeypatch.setattr(compare, "compare", lambda *_: compared("=1+1"))
    lifecycle.compare("1", "2", Lake(tmp_path), tmp_path / "moved.csv")
    assert pd.read_csv(tmp_path / "moved.csv")["customer_id"].tolist() == ["'=1+1"]


@pytest.mark.slow
def test_evidentlys_reports_hold_no_tag_of_a_category(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"channel": rng.choice([MARKUP[0], MARKUP[2], "b"], 200), "kwh": rng.random(200)})
    kinds = {"channel": "category", "kwh": "numeric"}
    evaluated_reports = {
        "drift": reports.compare(frame, frame[::-1], kinds, 0.1),
        "quality": reports.summarise(frame, frame, kinds),
    }
    for name, made in evaluated_reports.items():
        made.save_html(str(tmp_path / f"{name}.html"))
        text = (tmp_path / f"{name}.html").read_text()
        assert "alert(1)" in text
        assert not [hostile for hostile in (MARKUP[0], MARKUP[2]) if hostile in text]
