"""A year of a small utility, from extracts to outcomes: what the policy says happens, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from benchmarks import year
from spanishgas.config.policy import load_policy
from spanishgas.lifecycle import runs
from spanishgas.monitoring.history import Window
from spanishgas.monitoring.loop import STARTED
from tests.tracked import own_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]  # the first test plays the year


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("year")
    with own_store(root):
        yield root


@pytest.fixture(scope="module")
def played(root: Path) -> Iterator[dict[int, Window]]:
    """The windows by month; tests look at what the backtest left in its own experiment and registered model."""
    replayed = year.play(year.draw(root), root / "backtest")
    with replayed.replay.installed():
        yield {w.as_of.month: w for w in year.watched(replayed)}


def months_of(shift: str) -> list[int]:
    return [number for number, name in enumerate(year.SHIFTS, start=1) if name == shift]


def retrains() -> list[Run]:
    """Those that drift set off, oldest first: the first champion's is the backtest's own."""
    all_of_them = runs.find({"stage": "retrain"})[::-1]
    return [run for run in all_of_them if run.data.tags["retrain.triggered_by"] != "backtest"]


def over(window: Window) -> set[str]:
    """Inputs that moved further than the alarm allows."""
    metrics, prefix = MlflowClient().get_run(window.run_id).data.metrics, "drift.standardised."
    effects = {m.removeprefix(prefix): v for m, v in metrics.items() if m.startswith(prefix)}
    return {name for name, effect in effects.items() if effect > (window.threshold or 0)}


def test_every_month_has_its_window_its_estimate_and_its_measure(played: dict[int, Window]) -> None:
    assert sorted(played) == list(range(1, 13))
    assert all(w.rows and w.rows > year.CUSTOMERS / 2 for w in played.values())
    assert [m for m, w in played.items() if w.estimated is None or w.measured is None] == []


def test_quiet_months_ring_no_alarm_and_retrain_nothing(played: dict[int, Window]) -> None:
    assert [m for m in months_of(year.QUIET) if played[m].alarm or played[m].retrain] == []


def test_prices_ring_when_they_rise_and_own_months_know_them_from_then_on(played: dict[int, Window]) -> None:
    dear, later = months_of(year.PRICES), months_of(year.CONCEPT)
    assert len(over(played[dear[0]])) > 5
    assert [m for m in (*dear, *later) if played[m].alarm] == dear[:1]


def test_a_retrain_starts_where_k_of_n_windows_of_its_champion_rang_and_the_cool_down_is_over(
    played: dict[int, Window],
) -> None:
    limits = load_policy().drift
    started: list[Window] = []
    for month, now in played.items():
        last = [w for w in played.values() if w.version == now.version and w.as_of <= now.as_of]
        serious = now.alarm and sum(w.alarm for w in last[-limits.windows.of :]) >= limits.windows.k
        cool = not started or (now.as_of - started[-1].as_of).days >= limits.cooldown_days
        assert (month, now.retrain in STARTED) == (month, serious and cool)
        assert (month, now.retrain == "cooling down") == (month, serious and not cool)
        started += [now] * (serious and cool)
    assert [r.data.tags["retrain.triggered_by"] for r in retrains()] == [w.run_id for w in started]


def test_each_retrain_took_the_newest_labels_known_and_was_promoted_where_its_gate_passed(
    played: dict[int, Window],
) -> None:
    started = [m for m, w in played.items() if w.retrain in STARTED]
    promoted = []
    for month, retrain in zip(started, retrains(), strict=True):
        [experiment] = runs.find({"stage": "experiment", "mlflow.parentRunId": retrain.info.run_id})
        assert str(year.month_end(month - year.LATE)) in experiment.data.tags["data.uri"]
        came = MlflowClient().get_run(played[month].run_id).data.tags["retrain.result"]
        new = played[month + 1].version != played[month].version
        assert (new, not new) == ("gate passed" in came, came.endswith("not promoted"))
        promoted.append(new)


def test_that_customers_no_longer_mind_is_told_by_labels(played: dict[int, Window]) -> None:
    assert [m for m in months_of(year.CONCEPT) if not played[m].concept] == []


def test_every_alarm_was_told_once(played: dict[int, Window], root: Path) -> None:
    alerts = root / "backtest" / "policy" / "alerts.jsonl"
    told = [json.loads(line)["window"] for line in alerts.read_text().splitlines()]
    assert sorted(w.rpartition("/")[2] for w in told) == sorted(
        str(w.as_of) for w in played.values() if w.alarm
    )


def test_the_picture_draws_every_month(played: dict[int, Window]) -> None:
    figure = year.picture(list(played.values()))
    assert [len(axis.lines[0].get_xdata()) for axis in figure.axes] == [12, 12, 12]
