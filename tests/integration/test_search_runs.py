"""The runs that a search leaves in MLflow when its process is killed: none orphaned, none twice, none open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient, fluent

from spanishgas import provenance
from spanishgas.config.policy import load_policy
from spanishgas.config.search import LOGISTIC, load_search
from spanishgas.errors import TrackingError, UsageError
from spanishgas.lake import Lake
from spanishgas.lifecycle import runs
from spanishgas.lifecycle.evaluation import evaluate
from spanishgas.lifecycle.experiments import experiment_inputs, run_experiment, start_from, start_of
from spanishgas.lifecycle.ladder import chosen_run
from spanishgas.lifecycle.trials import KEY, STUDY, TrialRuns
from spanishgas.training.search import Trial
from tests.gold_frames import gold_frame, publish_gold
from tests.tracked import forget
from tests.versions import made_up_record

TOTAL = 40
NAMES = {"experiment": "E0", "model": "logistic", "study": "E0 logistic"}


EXPERIMENT = ("experiment", "--id", "E0", "--model", "logistic", "--trials", str(TOTAL), "--seed", "3")
LADDER = ("ladder", "--ids", "E0,E1", "--models", "logistic", "--trials", "12", "--seed", "3")


def started(folder: Path, words: Sequence[str] = EXPERIMENT) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "spanishgas", *words],
        cwd=folder,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
    )


def children() -> list[Run]:
    return runs.find({"stage": "trial"}, finished=False)


def wait_for_children(count: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if len(children()) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{len(children())} child runs, exit code {process.poll()}")


@dataclass(frozen=True)
class Continued:
    """What a search left that was killed twice and then continued to its end."""

    parents: list[Run]
    children: list[Run]
    before: int


@pytest.fixture
def continued(tracking: Path) -> Continued:
    publish_gold(Lake(tracking / "lake"), gold_frame(600), date(2024, 12, 31))
    mlflow.search_experiments()
    first = started(tracking)
    wait_for_children(4, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = len(children())
    assert started(tracking).wait(timeout=300) == 0
    return Continued(runs.find({"stage": "experiment"}, finished=False), children(), before)


@pytest.mark.slow  # a killed search alone is in tests/unit/test_study.py
def test_a_killed_command_goes_on_to_the_same_total_without_orphans_or_doubles(continued: Continued) -> None:
    finished, killed = continued.parents
    assert (finished.info.status, killed.info.status) == ("FINISHED", "KILLED")
    assert continued.before < TOTAL
    assert len(continued.children) == TOTAL
    assert {c.info.status for c in continued.children} == {"FINISHED"}
    assert {c.data.tags["mlflow.parentRunId"] for c in continued.children} == {finished.info.run_id}
    assert sorted(int(c.data.tags["trial"]) for c in continued.children) == list(range(TOTAL))


@pytest.mark.slow
def test_a_killed_ladder_goes_on_from_the_rung_it_was_at(tracking: Path) -> None:
    publish_gold(Lake(tracking / "lake"), gold_frame(600), date(2024, 12, 31))
    mlflow.search_experiments()
    first = started(tracking, LADDER)
    wait_for_children(14, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (done,) = runs.find({"stage": "experiment"})
    assert started(tracking, LADDER).wait(timeout=300) == 0
    (ladder,) = runs.find({"stage": "ladder"})
    rungs = {run.data.tags["experiment"]: run for run in runs.find({"stage": "experiment"})}
    assert rungs["E0"].info.run_id == done.info.run_id
    assert {runs.parent(run.info.run_id) for run in rungs.values()} == {ladder.info.run_id}
    assert len(runs.find({"stage": "experiment"})) == 2
    for run in rungs.values():
        below = [c for c in children() if runs.parent(c.info.run_id) == run.info.run_id]
        assert sorted(int(c.data.tags["trial"]) for c in below) == list(range(12))
    assert len(children()) == 24


def parent(status: str | None = None) -> runs.StageRun:
    run = MlflowClient().create_run(runs.experiment_id(), tags={"stage": "experiment"})
    if status:
        MlflowClient().set_terminated(run.info.run_id, status)
    return runs.StageRun(run.info.run_id, run.info.experiment_id)


def half_written(of: runs.StageRun, key: int) -> str:
    tags = {"mlflow.parentRunId": of.run_id, "stage": "trial", STUDY: "s", KEY: str(key)}
    return str(MlflowClient().create_run(of.experiment_id, tags=tags).info.run_id)


def trial(key: int, owner: str) -> Trial:
    return Trial(key, key, {"C": 1.0}, [0.5, 0.7], 0.1, owner=owner)


def test_a_half_written_trial_of_a_killed_parent_is_completed_under_the_new_one(tracking: Path) -> None:
    killed, now = parent("KILLED"), parent()
    left = half_written(killed, 0)
    TrialRuns(now, "s", NAMES).record(trial(0, killed.run_id))
    (run,) = children()
    assert (run.info.run_id, run.info.status) == (left, "FINISHED")
    assert run.data.tags["mlflow.parentRunId"] == now.run_id
    assert run.data.metrics["search.average_precision"] == pytest.approx(0.6)


def test_a_trial_written_twice_is_kept_once(tracking: Path) -> None:
    now = parent()
    first, _ = half_written(now, 0), half_written(now, 0)
    TrialRuns(now, "s", NAMES)
    assert len(children()) == 1
    assert first


def test_a_trial_that_ended_before_its_run_was_written_gets_one(tracking: Path) -> None:
    killed, now = parent("KILLED"), parent()
    mine = TrialRuns(now, "s", NAMES)
    mine.record(trial(5, killed.run_id))
    mine.record(trial(6, "a run of another tracking store"))
    assert sorted(c.data.tags[KEY] for c in children()) == ["5", "6"]


def test_a_living_commands_trials_and_children_are_left_to_it(tracking: Path) -> None:
    other, now = parent(), parent()
    half_written(other, 0)
    mine = TrialRuns(now, "s", NAMES)
    mine.record(trial(1, other.run_id))
    (run,) = children()
    assert run.data.tags["mlflow.parentRunId"] == other.run_id


def test_more_trials_than_a_page_of_the_store_holds_are_all_found(
    tracking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fluent, "NUM_RUNS_PER_PAGE_PANDAS", 2)
    now = parent()
    left = {half_written(now, key) for key in range(5)}
    assert {run.info.run_id for run in children()} == left


def test_only_runs_of_processes_that_ended_are_ended_as_killed(tracking: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    host = provenance.process().rpartition(":")[0]
    owners = [provenance.process(), f"{host}:{done.pid}", "elsewhere:1"]
    ids = [
        MlflowClient().create_run(runs.experiment_id(), tags={"process": owner}).info.run_id
        for owner in owners
    ]
    runs.end_killed()
    assert [runs.status(i) for i in ids] == ["RUNNING", "KILLED", "RUNNING"]


def test_a_stages_run_has_system_metrics_where_mlflows_own_switch_is_on(
    tracking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runs.stage("etl", "without") as without:
        time.sleep(0.2)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    with runs.stage("etl", "with") as sampled:
        time.sleep(0.5)
    names = [MlflowClient().get_run(run.run_id).data.metrics for run in (without, sampled)]
    machine = {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"}
    assert [machine <= set(one) for one in names] == [False, True]


def test_a_retrain_starts_from_what_the_version_itself_records(experiments: Path) -> None:
    space, holdout = load_search().of(LOGISTIC), load_policy().holdout
    params = space.start | {"C": 0.5}
    chosen = made_up_record().chosen.model_copy(update={"params": params})
    start = start_of(chosen, "gone", space, holdout)
    assert (start.params, start.source) == (params, "published, then those of run gone")


def test_a_run_that_set_other_customers_aside_chooses_nothing(tracking: Path, experiments: Path) -> None:
    """Its parameters may have been chosen by customers who are held out now, the fault S4 by another way."""
    policy = experiments / "policy.yaml"
    lake = Lake(tracking / "lake")
    publish_gold(lake, gold_frame(400), date(2024, 12, 31))
    before = run_experiment(experiment_inputs("E0", "logistic", trials=1, lake=lake, seed=3))
    assert chosen_run(lake) == before
    space = load_search().of(LOGISTIC)
    assert start_from(before, space, load_policy().holdout).params
    policy.write_text(policy.read_text().replace("spanishgas-holdout-1", "spanishgas-holdout-2"))
    forget()
    with pytest.raises(
        TrackingError, match=r"holdout '0\.2 by spanishgas-holdout-2'.*run `spanishgas ladder`"
    ):
        chosen_run(lake)
    with pytest.raises(UsageError, match=r"set other customers aside \('0\.2 by spanishgas-holdout-1'\)"):
        evaluate(before, lake=lake)
    assert start_from(before, space, load_policy().holdout).params == {}
    after = run_experiment(experiment_inputs("E0", "logistic", trials=1, lake=lake, seed=3))
    assert chosen_run(lake) == after
    assert runs.find({"stage": "experiment"})[0].data.tags["warm_start"] == "published"
