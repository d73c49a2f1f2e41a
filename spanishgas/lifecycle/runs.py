"""The project's runs in MLflow: one per stage, found again by their fingerprint.

    with runs.stage("etl", params={...}) as run:      joins the run that `mlflow run` opened, or starts one;
        run.log(metrics={...}, tags={...})            inside another stage it becomes that stage's child

The project never calls set_experiment inside a project run, and writes a run's metrics in one batched request.
"""

from __future__ import annotations

import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils import mlflow_tags
from pydantic import BaseModel, ValidationError

from spanishgas import provenance
from spanishgas.errors import TrackingError
from spanishgas.lake import Snapshot
from spanishgas.lifecycle import local_store
from spanishgas.lifetime import temporary_folder
from spanishgas.settings import settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

log = logging.getLogger("spanishgas")
M = TypeVar("M", bound=BaseModel)
PATIENCE_SECONDS = 5
LAKE = "lake"
"""Tag that holds the lake's `location`, so that runs of several lakes in one experiment can be told apart."""
NOTE = mlflow_tags.MLFLOW_RUN_NOTE
"""The tag that the UI shows as a description, of a run and of an experiment alike."""
PARENT = mlflow_tags.MLFLOW_PARENT_RUN_ID


@dataclass(frozen=True)
class StageRun:
    """An open run of one stage."""

    run_id: str
    experiment_id: str

    def log(
        self,
        *,
        metrics: Mapping[str, float] = MappingProxyType({}),
        params: Mapping[str, object] = MappingProxyType({}),
        tags: Mapping[str, object] = MappingProxyType({}),
        series: Mapping[str, list[float] | Mapping[int, float]] = MappingProxyType({}),
    ) -> None:
        """Metrics, parameters and tags in one request; `series` have a value per step, from 0 or by step."""
        now = int(time.time() * 1000)
        every = {**{name: [value] for name, value in metrics.items()}, **series}
        points = [
            Metric(name, float(value), now, step)
            for name, values in every.items()
            for step, value in (values.items() if isinstance(values, Mapping) else enumerate(values))
        ]
        MlflowClient().log_batch(
            self.run_id,
            points,
            [Param(k, str(v)) for k, v in params.items()],
            [RunTag(k, str(v)) for k, v in tags.items()],
        )

    def read(self, snapshot: Snapshot, context: str) -> None:
        """Record that the run read `snapshot`, with our digest over all of its rows."""
        tags = [
            InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, context),
            InputTag("digest", snapshot.manifest.digest),
        ]
        MlflowClient().log_inputs(self.run_id, [DatasetInput(dataset(snapshot), tags)])

    def model(
        self, name: str, params: Mapping[str, object], metrics: Mapping[str, float], measured_on: Snapshot
    ) -> None:
        """A logged model without bytes, by which MLflow's Models tab ranks what the run chose.

        Its metrics come last: one that a kill cut short has none, and ranks nowhere.
        """
        client, words = MlflowClient(), {k: str(v) for k, v in params.items()}
        tags = {"artefact": "none: spanishgas evaluate fits and registers it"}
        made = client.create_logged_model(
            self.experiment_id, name, self.run_id, tags, words, model_type="classifier"
        )
        client.log_outputs(self.run_id, [LoggedModelOutput(made.model_id, 0)])
        client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
        mlflow.log_metrics(
            dict(metrics), run_id=self.run_id, model_id=made.model_id, dataset=dataset(measured_on)
        )

    def describe(self, markdown: str) -> None:
        """The description that the UI shows on the run's page."""
        MlflowClient().set_tag(self.run_id, NOTE, markdown)

    def figure(self, figure: Figure, path: str, dpi: int = 80) -> None:
        """A picture as artefact."""
        mlflow.log_figure(figure, path, save_kwargs={"dpi": dpi})

    def document(self, content: Mapping[str, Any], path: str) -> None:
        """A JSON artefact."""
        mlflow.log_dict(dict(content), path)

    def text(self, content: str, path: str) -> None:
        """A text artefact."""
        mlflow.log_text(content, path)

    def tables(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Tables as JSON artefacts, by path, which the UI shows sortable: mlflow.log_table without its warnings."""
        for path, table in tables.items():
            self.document(json.loads(table.to_json(orient="split", index=False)), path)
        listed = [{"path": path, "type": "table"} for path in tables]
        self.log(tags={mlflow_tags.MLFLOW_LOGGED_ARTIFACTS: json.dumps(listed)})

    def file(self, path: Path) -> None:
        """A local file as artefact."""
        mlflow.log_artifact(str(path))


def introduce(experiment_id: str, markdown: str) -> None:
    """The description on the page of MLflow's experiment, where nobody has written one."""
    client = MlflowClient()
    if not client.get_experiment(experiment_id).tags.get(NOTE):
        client.set_experiment_tag(experiment_id, NOTE, markdown)


def dataset(snapshot: Snapshot) -> Dataset:
    """A snapshot as MLflow's dataset: its URI and our digest, none of its rows."""
    manifest = snapshot.manifest
    return Dataset(manifest.table, manifest.digest[:16], "lake", json.dumps({"uri": snapshot.uri}))


def connect() -> None:
    """Fail early where the tracking server cannot be reached, or a local store's schema is of another MLflow.

    Of a local store that was moved it warns, once a process.
    """
    uri = mlflow.get_tracking_uri()
    if not uri.startswith(("http://", "https://")):
        local_store.look(uri)
        _warn_if_moved(uri)
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PATIENCE_SECONDS):
            return
    except urllib.error.HTTPError:
        return  # it answers: what it refuses, it will name itself
    except (OSError, ValueError) as fault:
        raise TrackingError(
            f"the tracking server {uri} cannot be reached ({fault}): start it, or set MLFLOW_TRACKING_URI to another, "
            "or unset it to write to sqlite:///mlflow.db here"
        ) from fault


@cache
def _warn_if_moved(uri: str) -> None:
    if words := local_store.warning(uri):
        log.warning(words)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn MLflow's own failures into one message."""
    try:
        yield
    except MlflowException as fault:
        raise TrackingError(
            f"the tracking server {mlflow.get_tracking_uri()} answered: {fault.message}"
        ) from fault


@contextmanager
def stage(
    name: str,
    title: str,
    *,
    params: Mapping[str, object] = MappingProxyType({}),
    tags: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[StageRun]:
    """A run tagged `stage` = `name`: the project run that is waiting, else a new one, nested in the open stage if any.

    It ends FAILED, with the message as a tag, when an exception leaves it. Runs that a killed process of this machine
    left open are ended as KILLED first.
    """
    began, above = time.perf_counter(), mlflow.active_run()
    if above is None:
        end_killed()
    named = {"stage": name, "process": provenance.process(), **{k: str(v) for k, v in tags.items()}}
    if above is None and "MLFLOW_RUN_ID" in os.environ:
        started = mlflow.start_run()
        MlflowClient().update_run(started.info.run_id, name=title)
    else:
        home = above.info.experiment_id if above else experiment_id()
        started = mlflow.start_run(experiment_id=home, run_name=title, tags=named, nested=above is not None)
    with started:
        opened = StageRun(started.info.run_id, started.info.experiment_id)
        # What the launcher logged, as it was typed.
        typed = MlflowClient().get_run(opened.run_id).data.params
        other = {k for k, v in params.items() if typed.get(k, str(v)) != str(v)}
        opened.log(
            params={f"resolved.{k}" if k in other else k: v for k, v in params.items()},
            tags={**named, **{f"code.{k}": v for k, v in provenance.identity().items()}},
        )
        try:
            yield opened
        except BaseException as fault:
            opened.log(tags={"failure": f"{type(fault).__name__}: {fault}"[:5000]})
            raise
        seconds = time.perf_counter() - began
        opened.log(metrics={"seconds": seconds})
    log.info("%-11s %6.1f s  %s", name, seconds, title)


def experiment_id() -> str:
    """Id of the MLflow experiment that the caller named, else of the project's own, made if need be."""
    if number := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return number
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings().experiment_name
    experiment = mlflow.get_experiment_by_name(name)
    return experiment.experiment_id if experiment else str(mlflow.create_experiment(name))


def find(
    tags: Mapping[str, str], params: Mapping[str, str] = MappingProxyType({}), *, finished: bool = True
) -> list[Run]:
    """Runs of the experiment that carry all `tags` and `params`, newest first; finished ones unless told otherwise."""
    here = mlflow.active_run()
    home = here.info.experiment_id if here else experiment_id()
    terms = [f"tags.`{k}` = '{v}'" for k, v in tags.items()]
    text = " and ".join([*(["attributes.status = 'FINISHED'"] if finished else []), *terms])
    return [run for run in _newest_first(home, text) if params.items() <= run.data.params.items()]


def _newest_first(experiment: str, text: str) -> list[Run]:
    listed = mlflow.search_runs(
        [experiment], text, order_by=["attributes.start_time DESC"], output_format="list"
    )
    return list(listed)


def end_killed() -> None:
    """End the runs whose process was on this machine and is no more: their status would be RUNNING for ever."""
    client = MlflowClient()
    for run in _newest_first(experiment_id(), "attributes.status = 'RUNNING'"):
        if provenance.is_gone(run.data.tags.get("process", "")):
            client.set_terminated(run.info.run_id, "KILLED")


def parent(run_id: str) -> str | None:
    """The run that a run stands under, if any."""
    above: str | None = MlflowClient().get_run(run_id).data.tags.get(PARENT)
    return above


def status(run_id: str) -> str:
    """A run's status; "GONE" where the store has no such run, or only a deleted one."""
    try:
        info = MlflowClient().get_run(run_id).info
    except MlflowException:
        return "GONE"
    return str(info.status) if info.lifecycle_stage == "active" else "GONE"


def artifact(run_id: str, path: str) -> dict[str, Any]:
    """A JSON artefact of a run; TrackingError where it has none that can be read."""
    try:
        content: dict[str, Any] = mlflow.artifacts.load_dict(f"runs:/{run_id}/{path}")
    except (MlflowException, OSError) as fault:
        raise TrackingError(
            f"run {run_id} has no artefact {path} that can be read ({fault}): is it a finished run of the right stage?"
        ) from fault
    return content


def content(run_id: str, path: str) -> bytes:
    """An artefact of a run as it is; TrackingError where it is missing."""
    with temporary_folder() as folder:
        try:
            local = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{path}", dst_path=str(folder))
            return Path(local).read_bytes()
        except (MlflowException, OSError) as fault:
            raise TrackingError(f"run {run_id} has no artefact {path}") from fault


def record(kind: type[M], run_id: str, path: str) -> M:
    """A JSON artefact of a run as `kind`; TrackingError where it has none, or one of another version of the project."""
    try:
        return kind.model_validate_json(json.dumps(artifact(run_id, path)))
    except ValidationError as fault:
        raise TrackingError(
            f"{path} of run {run_id} is not of this version of the project "
            f"({fault.errors()[0]['msg']} at {fault.errors()[0]['loc']}): run that stage again"
        ) from fault
