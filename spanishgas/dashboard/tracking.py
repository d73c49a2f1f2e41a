"""Questions to the tracking server: runs, the champion, its verdict and history, drift. Nothing is created there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from spanishgas.dashboard.tables import NothingYet, ask
from spanishgas.lake import Lake, Snapshot, location
from spanishgas.lifecycle import history as moved
from spanishgas.lifecycle import local_store, registry, runs
from spanishgas.lifecycle.version import Version
from spanishgas.monitoring import history
from spanishgas.settings import of_offers, registered_model, settings
from spanishgas.training.model import ChurnModel

NEWEST, LOOKED_THROUGH = 200, 1_000
"""Runs that a page shows, of so many of the experiment."""
COLUMNS = {
    "start_time": "started",
    "tags.stage": "stage",
    "tags.mlflow.runName": "title",
    "status": "status",
    "tags.failure": "failure",
    "run_id": "run",
}
"""What MLflow calls the columns of the pipeline."""


@contextmanager
def looked_at() -> Iterator[None]:
    """Asks the project's experiment; `NothingYet` without one, TrackingError where the server does not answer.

    A store or experiment that is missing stays missing: MLflow would make both.
    """
    uri = mlflow.get_tracking_uri()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings().experiment_name
    nothing = NothingYet.of(f"{uri} holds no experiment {name}", "spanishgas main")
    if local_store.to_be_made(uri):
        raise nothing
    runs.connect()
    with runs.translated_errors():
        if mlflow.get_experiment_by_name(name) is None:
            raise nothing
        yield


def pipeline(lake: Lake, stage: str | None = None) -> pd.DataFrame:
    """The newest runs of stages (trials left out): started (UTC), stage, title, status, seconds, failure, run.

    Runs on other lakes are left out; a promotion is on none.
    """
    wanted = f"tags.stage = '{stage}'" if stage else "tags.stage != 'trial'"
    frame = mlflow.search_runs([runs.experiment_id()], wanted, max_results=LOOKED_THROUGH)
    of = frame.get(f"tags.{runs.LAKE}", pd.Series(None, frame.index, dtype="object"))
    frame = frame[of.isna() | (of == location(lake.root))].head(NEWEST).rename(columns=COLUMNS)
    frame = frame.reindex(columns=[*COLUMNS.values(), "end_time"])
    seconds = (pd.to_datetime(frame.pop("end_time")) - pd.to_datetime(frame["started"])).dt.total_seconds()
    return frame.assign(seconds=seconds, failure=frame["failure"].fillna(""))


def finished(stage: str, command: str, lake: Lake | None = None) -> list[Run]:
    """The finished runs of a stage, newest first; `NothingYet` that names `command` where there are none.

    With `lake`, those on it alone.
    """
    ended = runs.find({"stage": stage} | ({runs.LAKE: location(lake.root)} if lake else {}))
    if not ended:
        raise NothingYet.of(f"no finished {stage} run", command)
    return ended


def quarantine(lake: Lake) -> pd.DataFrame:
    """Rows in quarantine of the newest build by source_table, rule and column: counts, none of their texts."""
    dates = lake.dates("quarantine")
    if not dates:
        raise NothingYet.of(f"{lake.root} holds no tables", "spanishgas etl")
    return ask(
        {"quarantine": lake.current("quarantine")},
        'SELECT source_table, rule, "column", count(*) AS rows FROM quarantine GROUP BY ALL ORDER BY ALL',
    ).df()


def champion() -> Version:
    """The version that scores; `NothingYet` without one."""
    if (version := registry.champion()) is None:
        raise NothingYet.of("no version is champion yet", "spanishgas promote --reason ...")
    return version


def table(run_id: str, path: str) -> pd.DataFrame:
    """A table that a run holds as JSON (columns and data); TrackingError where it holds none of that name."""
    split = runs.artifact(run_id, path)
    return pd.DataFrame(split["data"], columns=split["columns"])


@lru_cache(maxsize=16)
def artefact(run_id: str, path: str) -> bytes:
    """An artefact's bytes, which never change (none holds a customer's row); TrackingError where it is missing."""
    return runs.content(run_id, path)


@lru_cache(maxsize=4)
def model(version: str) -> ChurnModel:
    """The model of a registered version; TrackingError where it cannot be loaded."""
    with runs.translated_errors():
        runs.connect()
        return registry.resolve(version).model


def offers_version(recommendations: Snapshot) -> Version | None:
    """The version whose learned effects chose the offers; None where the risk rule did, and the server is not asked."""
    with of_offers():
        number = recommendations.manifest.built_from.get(registered_model())
        if number is None:
            return None
        with looked_at():
            return registry.resolve(number)


def moves() -> pd.DataFrame:
    """Every move of champion, newest first: at (UTC), how, version, replaced, by, reason, override, state."""
    columns = ["at", "how", "version", "replaced", "by", "reason", "override", "state"]
    rows = pd.DataFrame(json.loads(moved.as_json(moved.read()))[::-1], columns=columns)
    return rows.assign(at=pd.to_datetime(rows["at"], utc=True).dt.tz_localize(None))


def drifts() -> pd.DataFrame:
    """A row per watched window, oldest first, with the fields of `monitoring.history.Window`."""
    windows = history.windows()
    if not windows:
        raise NothingYet.of("no drift report yet", "spanishgas drift")
    return pd.DataFrame(windows)


def effects(run_id: str) -> pd.DataFrame:
    """How far each input moved in one drift report, farthest first: column, effect."""
    prefix = "drift.feature."
    metrics = MlflowClient().get_run(run_id).data.metrics
    rows = [(k.removeprefix(prefix), v) for k, v in metrics.items() if k.startswith(prefix)]
    frame = pd.DataFrame(rows, columns=["column", "effect"])
    return frame.sort_values(["effect", "column"], ascending=[False, True], ignore_index=True)
