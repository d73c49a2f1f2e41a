"""An alarm reaches people once per window, and nothing fails because nobody could be reached.

    drift run with alarm=yes -> claim (one process) -> each sink -> mark on the run: sent, or why not
    refused champion --------^

A window is a version and an as-of date, however often its report is made; or a champion that is refused, and why.
Marks are tags `alert.<sink>` of its runs: a
sink that failed is tried again by the next drift report. Whoever is killed between delivery and mark delivers twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas import provenance
from spanishgas.errors import TrackingError
from spanishgas.lifecycle import runs
from spanishgas.lifecycle.history import now
from spanishgas.lifecycle.turns import turn
from spanishgas.monitoring.sinks import Alert, Alerting, Sink, Undelivered, sinks
from spanishgas.settings import settings

log = logging.getLogger("spanishgas")
MARK, REFUSAL = "alert.", "refusal"
SENT, SENDING, FAILED = "sent", "sending", "failed"
CLAIM = timedelta(minutes=15)
"""How long another machine's claim holds: of a process here it is known at once whether it lives."""


def send(run_id: str) -> None:
    """Tell every sink of the alarm in run `run_id`, if it rang, and of those that a sink could not take before.

    What goes wrong is a warning with its reason, never an exception.
    """
    try:
        for sink in sinks(Alerting()):
            for run in _claimed(sink, run_id):
                _deliver(sink, run)
    except (TrackingError, MlflowException) as fault:
        log.warning("alerts: the tracking server failed, so nobody was told (%s); run drift again", fault)


def send_refusal(version: str, why: str) -> None:
    """Tell every sink, once, that nothing is scored with a champion, and why."""
    tags = {"version": version, "as_of": f"refused-{hashlib.sha256(why.encode()).hexdigest()[:12]}"}
    known = [run.info.run_id for run in runs.find({"stage": REFUSAL, **tags})]
    if not known:
        with runs.stage(REFUSAL, f"version {version} is refused", tags={"alarm": "yes", **tags}) as run:
            run.describe(why)
            run.log(tags={"why": why[:5000]})
            known.append(run.run_id)
    send(known[0])


def alert_of(run: Run) -> Alert:
    """What is to be said of a drift run, or of a refusal."""
    tags, metrics = run.data.tags, run.data.metrics
    if tags["stage"] == REFUSAL:
        subject = f"SpanishGas: champion version {tags['version']} is refused"
        return Alert(window_of(run), subject, [tags["why"]], link_to(run))
    found = runs.artifact(run.info.run_id, "drift.json")
    measured = f"Statistic {metrics['drift.statistic']:.2f}, threshold {metrics['drift.threshold']:.2f}."
    return Alert(
        window_of(run),
        f"SpanishGas: drift alarm as of {tags['as_of']}, version {tags['version']}",
        [*found["reasons"], measured],
        link_to(run),
    )


def window_of(run: Run) -> str:
    """Name of the window that a run is about."""
    return f"{settings().registered_model}/{run.data.tags['version']}/{run.data.tags['as_of']}"


def link_to(run: Run) -> str:
    """Page of a run in MLflow's UI, without the user and password that the server's address may hold."""
    where = urlsplit(mlflow.get_tracking_uri())
    if where.scheme not in ("http", "https"):
        return f"run {run.info.run_id} (mlflow ui)"
    host = where.netloc.rpartition("@")[2]
    page = f"{where.path.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return f"{where.scheme}://{host}{page}"


def _claimed(sink: Sink, run_id: str) -> list[Run]:
    """Runs whose alarm this process is to bring to `sink`, one of each window."""
    if not _due(sink, run_id):
        return []
    with turn(settings().registered_model):
        due = _due(sink, run_id)
        for run in due:
            MlflowClient().set_tag(run.info.run_id, _mark(sink), f"{SENDING} {provenance.process()} {now()}")
    return due


def _due(sink: Sink, run_id: str) -> list[Run]:
    rang = runs.find({"alarm": "yes"})
    by_window: dict[str, list[Run]] = {}
    for run in rang:
        by_window.setdefault(window_of(run), []).append(run)
    return [run for run in (_next(sink, same, run_id) for same in by_window.values()) if run]


def _next(sink: Sink, same: Sequence[Run], run_id: str) -> Run | None:
    """Of the runs of a window the one to tell of; None where it was told of, is being told of, or is old news."""
    marks = {run.info.run_id: run.data.tags.get(_mark(sink), "") for run in same}
    if any(mark.startswith(SENT) or _alive(mark) for mark in marks.values()):
        return None
    return next((run for run in same if marks[run.info.run_id] or run.info.run_id == run_id), None)


def _alive(mark: str) -> bool:
    if not mark.startswith(SENDING):
        return False
    _, process, since = mark.split(" ")
    if process == provenance.process() or provenance.is_gone(process):
        return False
    return datetime.now(UTC) - datetime.fromisoformat(since) < CLAIM


def _deliver(sink: Sink, run: Run) -> None:
    try:
        sink.send(alert_of(run))
        mark = f"{SENT} {now()}"
    except Undelivered as fault:
        mark = f"{FAILED}: {fault}"
        log.warning("alert of %s: %s; the next drift report tries again", window_of(run), fault)
    MlflowClient().set_tag(run.info.run_id, _mark(sink), mark[:5000])


def _mark(sink: Sink) -> str:
    return f"{MARK}{sink.name}"
