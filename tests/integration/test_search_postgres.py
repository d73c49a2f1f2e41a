"""One study on PostgreSQL, tried by two commands at once as by two machines."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import mlflow
import pytest
from optuna.trial import TrialState

from spanishgas.config.search import XGBOOST
from spanishgas.lake import Lake
from spanishgas.lifecycle import runs
from spanishgas.training import study as studies
from spanishgas.training.search import StudyOptions, search
from tests.gold_frames import gold_frame, publish_gold
from tests.unit.test_study import SPACE, training_of

TOTAL = 6


def started(folder: Path, storage: str) -> subprocess.Popen[bytes]:
    words = ["experiment", "--id", "E0", "--model", "logistic", "--trials", str(TOTAL), "--seed", "3"]
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "SPANISHGAS_STUDY_STORAGE": storage}
    return subprocess.Popen([sys.executable, "-m", "spanishgas", *words], cwd=folder, env=os.environ | places)


@pytest.mark.slow
def test_two_commands_share_one_study_on_postgresql_and_end_at_its_total(
    tracking: Path, postgres_url: str
) -> None:
    publish_gold(Lake(tracking / "lake"), gold_frame(600), date(2024, 12, 31))
    mlflow.search_experiments()
    both = [started(tracking, postgres_url) for _ in range(2)]
    assert [p.wait(timeout=300) for p in both] == [0, 0]
    one, other = runs.find({"stage": "experiment"})
    name = f"E0 logistic {one.data.tags['study.key']}"
    trials = studies.open_study(postgres_url, name, 3, []).get_trials()
    ended = [t for t in trials if t.state in studies.ENDED]
    assert len(ended) == TOTAL
    assert TrialState.RUNNING not in {t.state for t in trials}
    assert one.data.metrics["cv.average_precision"] == other.data.metrics["cv.average_precision"]
    children = runs.find({"stage": "trial"}, finished=False)
    assert sorted(int(c.data.tags["trial"]) for c in children) == list(range(TOTAL))
    assert {c.info.status for c in children} == {"FINISHED"}
    assert {c.data.tags["mlflow.parentRunId"] for c in children} <= {one.info.run_id, other.info.run_id}


def test_a_search_on_postgresql_finds_what_it_finds_in_memory(postgres_url: str) -> None:
    training = training_of(XGBOOST, 150)
    kept, alone = (
        search(training, SPACE, 4, shared=StudyOptions(url, "s", "me")) for url in (postgres_url, None)
    )
    assert [(t.params, t.scores) for t in kept.trials] == [(t.params, t.scores) for t in alone.trials]
