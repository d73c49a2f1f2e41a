"""A year of a small utility, from extracts to outcomes: what the policy says happens, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from mlflow.entities import Run

from benchmarks import year
from spanishgas.lifecycle import registry, runs
from spanishgas.monitoring.history import Window
from spanishgas.monitoring.loop import STARTED
from spanishgas.training.experiment import load_policy
from tests.tracked import own_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]  # the first test plays the year


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("year")
    with own_store(root):
        yield root


@pytest.fixture(scope="module")
def played(root: Path) -> dict[int, Window]:
    """The windows by month."""
    return {w.as_of.month: w for w in year.play(root)}


def months_of(shift: str) -> list[int]:
    return [number for number, name in enumerate(year.SHIFTS, start=1) if name == shift]


def trained(version: str) -> date:
    """As-of date of a version's training table."""
    return date.fromisoformat(registry.resolve(version).tags["data.as_of"])


def retrains() -> list[Run]:
    """Oldest first."""
    return runs.find({"stage": "retrain"})[::-1]


def test_every_month_has_its_window_its_estimate_and_its_measure(played: dict[int, Window]) -> None:
    assert sorted(played) == list(range(1, 13))
    assert all(w.rows and w.rows > year.CUSTOMERS / 2 for w in played.values())
    assert [m for m, w in played.items() if w.estimated is None or w.measured is None] == []


def test_quiet_months_ring_no_alarm_and_retrain_nothing(played: dict[int, Window]) -> None:
    assert [m for m in months_of(year.QUIET) if played[m].alarm or played[m].retrain] == []


def test_prices_ring_until_a_champion_of_a_table_with_the_new_ones_and_nothing_rings_after_it(
    played: dict[int, Window],
) -> None:
    dear = year.month_end(months_of(year.PRICES)[0])
    knows = {m: trained(w.version) >= dear for m, w in played.items() if w.as_of >= dear}
    assert {m: played[m].alarm for m in knows} == {m: not known for m, known in knows.items()}
    assert [knows[m] for m in months_of(year.CONCEPT)] == [True] * 4


def test_a_retrain_starts_where_k_of_n_windows_of_its_champion_rang_and_the_cool_down_is_over(
    played: dict[int, Window],
) -> None:
    limits = load_policy().drift
    started: list[Window] = []
    for month in months_of(year.PRICES):
        now = played[month]
        last = [w for w in played.values() if w.version == now.version and w.as_of <= now.as_of]
        serious = now.alarm and sum(w.alarm for w in last[-limits.windows.of :]) >= limits.windows.k
        cool = not started or (now.as_of - started[-1].as_of).days >= limits.cooldown_days
        assert (month, now.retrain in STARTED) == (month, serious and cool)
        assert (month, now.retrain == "cooling down") == (month, serious and not cool)
        started += [now] * (serious and cool)
    assert [r.data.tags["retrain.triggered_by"] for r in retrains()] == [w.run_id for w in started]
    assert len(started) == 2


def test_each_retrain_took_the_newest_labels_that_were_known_and_was_promoted(
    played: dict[int, Window],
) -> None:
    started = [m for m, w in played.items() if w.retrain in STARTED]
    newest = [year.month_end((m - year.LATE) // 3 * 3) for m in started]
    assert [trained(played[m + 1].version) for m in started] == newest
    assert [int(played[m + 1].version) - int(played[m].version) for m in started] == [1, 1]


def test_where_customers_no_longer_mind_the_inputs_lie_still_and_labels_tell(
    played: dict[int, Window],
) -> None:
    months = months_of(year.CONCEPT)
    assert [m for m in months if played[m].alarm or played[m].retrain] == []
    assert [m for m in months if not played[m].concept] == []
    assert all((played[m].measured or 0) < (played[m].estimated or 0) for m in months)


def test_every_alarm_was_told_once(played: dict[int, Window], root: Path) -> None:
    told = [json.loads(line)["window"] for line in (root / "alerts.jsonl").read_text().splitlines()]
    assert sorted(w.rpartition("/")[2] for w in told) == sorted(
        str(w.as_of) for w in played.values() if w.alarm
    )


def test_the_picture_draws_every_month(played: dict[int, Window]) -> None:
    figure = year.picture(list(played.values()))
    assert [len(axis.lines[0].get_xdata()) for axis in figure.axes] == [12, 12, 12]
