"""Questions to the tracking server: runs, the champion, its verdict and history, drift. Nothing is created there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas.dashboard.tables import NothingYet, ask
from spanishgas.errors import TrackingError
from spanishgas.lake import Lake
from spanishgas.lifecycle import history, registry, runs
from spanishgas.lifecycle.gate import Verdict
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.version import Version
from spanishgas.lifetime import temporary_folder
from spanishgas.settings import settings
from spanishgas.training.model import ChurnModel

NEWEST = 200
"""Runs that a page shows."""
_SQLITE = "sqlite:///"


@contextmanager
def looked_at() -> Iterator[str]:
    """The id of the project's experiment; `NothingYet` without one, TrackingError where the server does not answer.

    A store or experiment that is missing stays missing: MLflow would make both.
    """
    uri = mlflow.get_tracking_uri()
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings().experiment_name
    nothing = NothingYet.of(f"{uri} holds no experiment {name}", "spanishgas main")
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        raise nothing
    runs.connect()
    with runs.reported():
        found = mlflow.get_experiment_by_name(name)
        if found is None:
            raise nothing
        yield str(found.experiment_id)


def pipeline(experiment: str, stage: str | None = None) -> pd.DataFrame:
    """The newest runs of stages (trials left out): started (UTC), stage, title, status, seconds, failure, run."""
    wanted = f"tags.stage = '{stage}'" if stage else "tags.stage != 'trial'"
    found = _search(experiment, wanted, NEWEST)
    rows = [
        {
            "started": pd.Timestamp(run.info.start_time, unit="ms"),
            "stage": run.data.tags["stage"],
            "title": run.info.run_name,
            "status": run.info.status,
            "seconds": _seconds(run),
            "failure": run.data.tags.get("failure", ""),
            "run": run.info.run_id,
        }
        for run in found
    ]
    return pd.DataFrame(rows, columns=["started", "stage", "title", "status", "seconds", "failure", "run"])


def _search(experiment: str, wanted: str, limit: int) -> list[Run]:
    order = ["attributes.start_time DESC"]
    return list(MlflowClient().search_runs([experiment], wanted, order_by=order, max_results=limit))


def _seconds(run: Run) -> float | None:
    if run.info.end_time is None:
        return None
    return float((run.info.end_time - run.info.start_time) / 1000)


def newest(experiment: str, stage: str, command: str) -> Run:
    """The newest finished run of a stage; `NothingYet` that names `command` where there is none."""
    found = _search(experiment, f"tags.stage = '{stage}' and attributes.status = 'FINISHED'", 1)
    if not found:
        raise NothingYet.of(f"no finished {stage} run", command)
    return found[0]


def quarantine(lake: Lake) -> pd.DataFrame:
    """Rows in quarantine of the newest build by source_table, rule and column: counts, none of their texts."""
    dates = lake.dates("quarantine")
    if not dates:
        raise NothingYet.of(f"{lake.root} holds no tables", "spanishgas etl")
    return ask(
        {"quarantine": lake.current("quarantine")},
        'SELECT source_table, rule, "column", count(*) AS rows FROM quarantine GROUP BY ALL ORDER BY ALL',
    )


def champion() -> Version:
    """The version that scores; `NothingYet` without one."""
    if Alias.CHAMPION not in registry.aliases():
        raise NothingYet.of("no version is champion yet", "spanishgas promote --reason ...")
    return registry.resolve(Alias.CHAMPION)


@dataclass(frozen=True)
class Judged:
    """The verdict on a version, and its metrics on the held-out customers."""

    verdict: Verdict
    metrics: Mapping[str, float]

    @property
    def table(self) -> pd.DataFrame:
        """A row per metric: metric, value, low and high (95 %, missing where there is no interval)."""
        ends = (".low", ".high")
        rows = [
            (name.removeprefix("holdout."), value, *(self.metrics.get(f"{name}{end}") for end in ends))
            for name, value in self.metrics.items()
            if not name.endswith(ends)
        ]
        return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


def judged(version: Version) -> Judged:
    """The verdict as its run holds it; TrackingError where it is missing."""
    return Judged(Verdict.model_validate(version.verdict), version.metrics)


def table(run_id: str, path: str) -> pd.DataFrame | None:
    """A table that a run holds as JSON (columns and data), or None where it holds none of that name."""
    try:
        held = json.loads(artefact(run_id, path))
    except TrackingError:
        return None
    return pd.DataFrame(held["data"], columns=held["columns"])


@lru_cache(maxsize=16)
def artefact(run_id: str, path: str) -> bytes:
    """An artefact's bytes, which never change (none holds a customer's row); TrackingError where it is missing."""
    with temporary_folder() as folder:
        try:
            local = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{path}", dst_path=str(folder))
            return Path(local).read_bytes()
        except (MlflowException, OSError) as fault:
            raise TrackingError(f"run {run_id} has no artefact {path}") from fault


def model(version: str) -> ChurnModel:
    """The model of a registered version; TrackingError where it cannot be loaded."""
    return _model(mlflow.get_tracking_uri(), version)


@lru_cache(maxsize=4)
def _model(uri: str, version: str) -> ChurnModel:
    with runs.reported():
        runs.connect()
        return registry.resolve(version).model


def ladder(experiment: str) -> pd.DataFrame:
    """The newest run of each experiment and model on the newest table: score, low and high (95 %), features, run."""
    held = _search(experiment, "tags.stage = 'experiment' and attributes.status = 'FINISHED'", 1000)
    if not held:
        raise NothingYet.of("no finished experiment", "spanishgas ladder")
    newest: dict[tuple[str, str], Run] = {}
    for run in held:
        if run.data.tags.get("gold") == held[0].data.tags.get("gold"):
            newest.setdefault((run.data.tags["experiment"], run.data.tags["model"]), run)
    names = {"score": "", "low": ".low", "high": ".high"}
    rows = [
        {
            "experiment": name,
            "model": model,
            **{n: run.data.metrics.get(f"cv.average_precision{end}") for n, end in names.items()},
            "features": int(run.data.params["features"]),
            "run": run.info.run_id,
        }
        for (name, model), run in sorted(newest.items())
    ]
    return pd.DataFrame(rows)


def moves() -> pd.DataFrame:
    """Every move of champion, newest first: at, how, version, replaced, by, reason, override, state."""
    columns = ["at", "how", "version", "replaced", "by", "reason", "override", "state"]
    found = json.loads(history.as_json(history.read()))
    return pd.DataFrame(found[::-1], columns=columns)


def drifts(experiment: str) -> pd.DataFrame:
    """Drift reports, oldest first: started, title, version, share, prediction, alarm, statistic, threshold, run."""
    held = _search(experiment, "tags.stage = 'drift' and attributes.status = 'FINISHED'", 1000)
    if not held:
        raise NothingYet.of("no drift report yet", "spanishgas drift")
    rows: list[dict[str, Any]] = [
        {
            "started": pd.Timestamp(run.info.start_time, unit="ms"),
            "title": run.info.run_name,
            "version": run.data.params.get("version"),
            "share": run.data.metrics.get("drift.share"),
            "prediction": run.data.metrics.get("prediction_drift"),
            "alarm": run.data.tags.get("alarm") == "yes",
            "statistic": run.data.metrics.get("drift.statistic"),
            "threshold": run.data.metrics.get("drift.threshold"),
            "run": run.info.run_id,
        }
        for run in reversed(held)
    ]
    return pd.DataFrame(rows)


def effects(run_id: str) -> pd.DataFrame:
    """How far each input moved in one drift report, farthest first: column, effect."""
    prefix = "drift.feature."
    metrics = MlflowClient().get_run(run_id).data.metrics
    rows = [(k.removeprefix(prefix), v) for k, v in metrics.items() if k.startswith(prefix)]
    found = pd.DataFrame(rows, columns=["column", "effect"])
    return found.sort_values(["effect", "column"], ascending=[False, True], ignore_index=True)
