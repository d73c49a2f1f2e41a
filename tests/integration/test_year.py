"""A year of a small utility, from extracts to outcomes: what the policy says happens, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Run

from benchmarks import year
from spanishgas.lifecycle import runs
from spanishgas.monitoring.history import Window
from spanishgas.monitoring.loop import STARTED
from spanishgas.training.experiment import load_policy
from tests.tracked import own_store

pytestmark = pytest.mark.slow
CUSTOMERS = 3_000


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("year")
    with own_store(root), year.by_hand(root):
        yield root


@pytest.fixture(scope="module")
def played(root: Path) -> dict[int, Window]:
    """The windows by month."""
    return {w.as_of.month: w for w in year.play(root, CUSTOMERS)}


def months_of(shift: str) -> list[int]:
    return [number for number, name in enumerate(year.SHIFTS, start=1) if name == shift]


def test_every_month_has_its_window(played: dict[int, Window]) -> None:
    assert sorted(played) == list(range(1, 13))
    assert all(w.rows and w.rows > CUSTOMERS / 2 for w in played.values())


def test_quiet_months_ring_no_alarm_and_retrain_nothing(played: dict[int, Window]) -> None:
    assert [(m, played[m].alarm, played[m].retrain) for m in months_of("none")] == [
        (m, False, "") for m in months_of("none")
    ]


def test_rising_prices_ring_every_month(played: dict[int, Window]) -> None:
    assert [m for m in months_of("prices") if not played[m].alarm] == []


def test_one_retrain_starts_when_k_of_n_windows_rang_and_the_cool_down_allows_no_second(
    played: dict[int, Window],
) -> None:
    limits = load_policy().drift
    first = months_of("prices")[limits.windows.k - 1]
    assert [m for m, w in played.items() if w.retrain in STARTED] == [first]
    [retrained] = runs.find({"stage": "retrain"})
    assert retrained.data.tags["retrain.triggered_by"] == played[first].run_id
    later = played[first + limits.windows.k]
    assert later.retrain == "cooling down"
    assert (later.as_of - played[first].as_of).days < limits.cooldown_days


def test_the_retrain_took_the_newest_labels_that_were_known(played: dict[int, Window]) -> None:
    [experiment] = runs.find({"stage": "experiment", "mlflow.parentRunId": _retrain().info.run_id})
    assert str(year.month_end(3)) in experiment.data.tags["data.uri"]


def _retrain() -> Run:
    [found] = runs.find({"stage": "retrain"})
    return found


def test_that_others_leave_moves_no_input_and_every_month_has_its_estimate_and_its_measure(
    played: dict[int, Window],
) -> None:
    assert [m for m in months_of("concept") if played[m].alarm or played[m].retrain] == []
    assert [m for m, w in played.items() if w.estimated is None or w.measured is None] == []


def test_every_alarm_was_told_once(played: dict[int, Window], root: Path) -> None:
    told = [json.loads(line)["window"] for line in (root / "alerts.jsonl").read_text().splitlines()]
    assert sorted(w.rpartition("/")[2] for w in told) == sorted(
        str(w.as_of) for w in played.values() if w.alarm
    )


def test_the_picture_draws_every_month(played: dict[int, Window]) -> None:
    figure = year.picture(list(played.values()))
    assert [len(axis.lines[0].get_xdata()) for axis in figure.axes] == [12, 12, 12]
