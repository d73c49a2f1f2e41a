"""The whole chain in one process tree, small: raw files to a ladder, a champion, its scores and a drift report."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanishgas.lake import Lake
from tests.cheap_experiments import cheap_search, lenient, two_rungs
from tests.project import MODEL, Project

pytestmark = pytest.mark.e2e


def test_main_carries_raw_files_to_a_champion_its_scores_and_a_drift_report(tmp_path: Path) -> None:
    experiments = two_rungs(lenient(cheap_search(tmp_path / "experiments")))
    project = Project(tmp_path, SPANISHGAS_EXPERIMENTS=str(experiments))
    output = project.run("main", customers=800, trials=1)
    stages = project.stages()
    assert {
        name: stages[name] for name in ("simulate", "etl", "experiment", "trial", "ladder", "evaluate")
    } == {
        "simulate": 2,
        "etl": 2,
        "experiment": 2,
        "trial": 2,
        "ladder": 1,
        "evaluate": 1,
    }
    assert project.client.get_model_version(MODEL, "1").tags["gate"] == "passed"
    assert project.aliases()["champion"] == "1"
    scores = Lake(project.lake).current("scores").pandas(["customer_id"])
    assert len(scores) == Lake(project.lake).current("gold_master").manifest.rows
    assert stages["score"] == stages["drift"] == 1
    assert "Gate passed" in output


@pytest.mark.slow
def test_a_mistake_ends_in_one_message_and_no_traceback(tmp_path: Path) -> None:
    output = Project(tmp_path).run("experiment", expect=2, id="E55")
    assert "unknown experiment 'E55'" in output
    assert "Did you mean 'E5'?" in output
