"""What the dashboard asks of the tracking server, on a store that runs really wrote to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from spanishgas.dashboard import tracking
from spanishgas.dashboard.tables import NothingYet
from spanishgas.errors import TrackingError
from spanishgas.lake import Lake
from spanishgas.lifecycle.gate import Verdict
from tests import dashboard_runs
from tests.dashboard_lake import DAY, publish
from tests.tracked import own_store


@pytest.fixture(scope="module", autouse=True)
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    root = tmp_path_factory.mktemp("tracked")
    with own_store(root):
        dashboard_runs.filled(root)
        with tracking.looked_at():
            yield Lake(root / "lake")


def test_the_pipeline_shows_stages_newest_first_without_trials_and_why_one_failed(lake: Lake) -> None:
    found = tracking.pipeline(lake)
    assert "trial" not in set(found["stage"])
    assert found["started"].is_monotonic_decreasing
    failed = found[found["status"] == "FAILED"]
    assert list(failed["failure"]) == [f"OSError: {dashboard_runs.FAILURE}"]
    assert (found["seconds"] >= 0).all()


def test_the_pipeline_of_one_stage_holds_that_stage_alone(lake: Lake) -> None:
    assert set(tracking.pipeline(lake, "drift")["stage"]) == {"drift"}


def test_runs_on_other_lakes_of_the_same_store_are_not_shown(lake: Lake) -> None:
    here, elsewhere = (
        set(tracking.pipeline(one, "etl")["title"]) for one in (lake, Lake(lake.root / "../other"))
    )
    assert here == {"etl as of 2024-12-31", "etl as of 2025-03-31"}
    assert elsewhere == {"etl as of 2020-01-31"}


def test_the_newest_finished_run_passes_over_failed_ones_and_those_of_other_lakes(lake: Lake) -> None:
    assert tracking.finished("etl", "spanishgas etl", lake)[0].info.run_name == "etl as of 2024-12-31"


def test_a_stage_that_never_finished_names_its_command() -> None:
    with pytest.raises(NothingYet, match="no finished retrain run: run `spanishgas retrain`"):
        tracking.finished("retrain", "spanishgas retrain")


def test_the_champions_verdict_and_metrics_are_those_of_its_run() -> None:
    version = tracking.champion()
    assert Verdict.model_validate(version.verdict).passed
    assert version.metrics == {"holdout.average_precision": 0.75}


def test_a_table_of_a_run_is_read_and_one_that_is_not_there_is_named() -> None:
    run = tracking.champion().run_id or ""
    slices = tracking.table(run, "slices.json")
    assert list(slices["value"]) == ["SME"]
    with pytest.raises(TrackingError, match=r"no artefact other\.json"):
        tracking.table(run, "other.json")


def test_an_artefact_that_is_missing_is_named() -> None:
    with pytest.raises(TrackingError, match=r"no artefact none\.png"):
        tracking.artefact(tracking.champion().run_id or "", "none.png")


def test_the_ladder_is_the_newest_that_was_compared_with_its_choice_and_intervals() -> None:
    run = tracking.finished("ladder", "spanishgas ladder")[0].info
    rungs = tracking.table(run.run_id, "ladder_table.json")
    assert list(rungs["experiment"]) == ["E4", "E5"]
    assert list(rungs["features"]) == [50, 50]
    assert list(rungs["chosen"]) == ["", "chosen"]
    assert rungs["95 % interval"].str.match(r"\d\.\d{4} to \d\.\d{4}").all()


def test_the_history_names_who_moved_the_champion_and_why() -> None:
    moves = tracking.moves()
    assert list(moves["by"]) == ["tester"]
    assert list(moves["reason"]) == ["passed"]


def test_watched_windows_stand_in_time_and_say_which_was_an_alarm() -> None:
    found = tracking.drifts()
    assert list(found["alarm"]) == [False, True]
    assert list(found["share"]) == [0.1, 0.6]
    assert list(found["statistic"] > found["threshold"]) == [False, True]
    effects = tracking.effects(found["run_id"].iloc[-1])
    assert list(effects["column"]) == ["margin", "tenure"]


def test_a_store_that_is_not_there_is_not_made(tracking_nowhere: Path) -> None:
    with pytest.raises(NothingYet, match="spanishgas main"), tracking.looked_at():
        pass
    assert not tracking_nowhere.exists()


def test_an_experiment_that_is_not_there_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    with pytest.raises(NothingYet, match="no experiment another"), tracking.looked_at():
        pass
    assert MlflowClient().get_experiment_by_name("another") is None


def test_a_server_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        with (
            pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 cannot be reached"),
            tracking.looked_at(),
        ):
            pass
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture
def tracking_nowhere(tmp_path: Path) -> Iterator[Path]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/none.db")
    yield tmp_path / "none.db"
    mlflow.set_tracking_uri(before)


def test_quarantine_is_counted_by_table_and_rule_and_shows_no_row(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    rows = pd.DataFrame(
        {
            "source_table": ["price_history", "price_history", "churn_label"],
            "rule": ["unreadable", "unreadable", "orphan"],
            "column": ["pricing_date", "pricing_date", None],
            "customer_id": ["C00001", "C00002", "C00003"],
            "row": ["{}", "{}", "{}"],
            "run_id": [None, None, None],
        }
    ).astype("string")
    publish(lake, "quarantine", rows, DAY)
    found = tracking.quarantine(lake)
    assert list(found.columns) == ["source_table", "rule", "column", "rows"]
    assert sorted(found["rows"]) == [1, 2]


def test_quarantine_before_any_build_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NothingYet, match="spanishgas etl"):
        tracking.quarantine(Lake(tmp_path / "lake"))
