"""Every entry point of MLproject, called as users call it: `mlflow run . --env-manager local -e ...`."""

from __future__ import annotations

from datetime import date

import pytest
import yaml

from spanishgas.lake import Lake
from spanishgas.settings import PROJECT
from tests.gold_frames import gold_frame, publish_gold
from tests.project import ENTRY_POINTS, MODEL, Project

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


def test_main_carries_raw_files_to_a_ladder_and_a_verdict(project: Project) -> None:
    output = project.run("main", customers=400, trials=1)
    stages = project.stages()
    assert stages["simulate"] == 2
    assert stages["etl"] == 2
    assert stages["experiment"] == 9
    assert stages["trial"] == 9
    assert "Gate" in output
    version = project.client.get_model_version(MODEL, "1")
    assert version.tags["gate"] in ("passed", "refused")


def test_main_run_again_changes_no_table_and_registers_no_second_version(project: Project) -> None:
    before = {p: p.read_bytes() for p in project.lake.glob("*/*/*/_current.json")}
    assert before
    project.run("main", customers=400, trials=1)
    assert {p: p.read_bytes() for p in project.lake.glob("*/*/*/_current.json")} == before
    assert len(project.client.search_model_versions(f"name = '{MODEL}'")) == 1
    assert project.stages()["experiment"] == 9


def test_simulate_and_etl_build_an_extract_of_the_callers_choice(project: Project) -> None:
    raw = project.folder / "my raw"
    project.run("simulate", customers=250, out=raw, as_of="2025-06-30", labelled="false", seed=3)
    assert not (raw / "churn_label.csv").exists()
    project.run("etl", raw=raw, as_of="2025-06-30", lake=project.folder / "other lake")
    output = project.run("sniff", raw=raw)
    assert "Proposed by `spanishgas sniff`" in output
    project.run("etl", raw=raw, as_of="2025-06-30", lake=project.folder / "other lake")
    gold = Lake(project.folder / "other lake").current("gold_master")
    assert gold.manifest.as_of == date(2025, 6, 30)


def test_experiments_on_a_table_with_signal_lead_to_a_champion_that_scores(project: Project) -> None:
    lake = Lake(project.lake)
    publish_gold(lake, gold_frame(1500, 1), date(2025, 9, 30))
    publish_gold(lake, gold_frame(400, 2, labelled=False, first_id=1400), date(2025, 12, 31))
    project.run("experiment", id="E2", model="logistic", trials=2)
    project.run("ladder", ids="E4,E7", models="logistic,xgboost", trials=1)
    output = project.run("evaluate")
    assert "version 2" in output


def test_promote_needs_a_passed_gate_and_rollback_a_previous_champion(project: Project) -> None:
    verdict = project.client.get_model_version(MODEL, "2").tags["gate"]
    project.run("promote", expect=0 if verdict == "passed" else 1, reason="the best so far")
    project.client.set_model_version_tag(MODEL, "1", "gate", "passed")  # a tag is not the verdict
    project.run("promote", expect=1, version=1, reason="a rehearsal")
    for version in ("1", "2"):
        passed = ("--override", "too few customers")
        project.verb("promote", "--version", version, "--reason", "a rehearsal", *passed)
    assert project.aliases()["champion"] == "2"
    assert "approved: version 1" in project.run("approve", version=1, reason="a rehearsal")
    project.run("rollback", reason="a rehearsal")
    assert project.aliases()["champion"] == "1"
    for entry in ("promote", "approve", "rollback"):  # of the model of offers, of which there is none yet
        assert "-offers" in project.run(entry, expect=1, reason="a rehearsal", model="offers")
    assert project.aliases()["champion"] == "1"


def test_score_and_drift_speak_of_every_customer_of_the_newest_extract(project: Project) -> None:
    project.run("score")
    project.run("reconcile")
    lake = Lake(project.lake)
    for table in ("scores", "recommendations"):
        rows = lake.current(table).pandas(["customer_id"])
        assert len(rows) == 400
        assert rows["customer_id"].is_unique
    output = project.run("drift")
    assert "alarm: " in output
    scored = lake.current("scores").pandas(["customer_id"])
    labels = scored.assign(churn=[int(i % 10 == 0) for i in range(len(scored))])
    labels.to_csv(project.folder / "labels.csv", index=False)
    output = project.run("outcomes", labels=project.folder / "labels.csv")
    assert "average precision" in output


def test_retrain_runs_the_champions_experiment_and_asks_the_gate(project: Project) -> None:
    output = project.run("retrain", trials=1)
    assert "gate" in output


def test_a_recalibration_is_judged_by_the_gate_and_offers_of_one_small_campaign_teach_nothing(
    project: Project,
) -> None:
    assert "gate" in project.run("recalibrate")
    assert "error: " in project.run("uplift", expect=1, trials=3)


def test_a_backtest_replays_the_extracts_and_leaves_the_champion_alone(project: Project) -> None:
    policy = yaml.safe_load((PROJECT / "experiments" / "policy.yaml").read_text())
    (project.folder / "soon.yaml").write_text(
        yaml.safe_dump(policy | {"label_horizon_months": 3}, sort_keys=False)
    )
    before = dict(project.client.get_registered_model(MODEL).aliases)
    output = project.run(
        "backtest",
        **{"from": "2025-03-31", "to": "2025-03-31", "trials": 1, "override": "to see it scored"},
        policy=project.folder / "soon.yaml",
        out=project.folder / "replays",
    )
    assert "| 2025-03-31 | 2025-03-31 | 1 |" in output
    assert (project.folder / "replays" / "backtest.png").exists()
    assert dict(project.client.get_registered_model(MODEL).aliases) == before
    [run] = project.client.search_runs(["0"], "tags.stage = 'backtest'")
    assert {f.path for f in project.client.list_artifacts(run.info.run_id)} == {"backtest.md", "backtest.png"}


def test_every_entry_point_was_called(project: Project) -> None:
    assert project.called == set(ENTRY_POINTS)
