"""Whether the tracking store has all that the verbs need: it answers, takes runs and artefacts, its champion is whole.

Nothing is changed or left behind, and a store of an older schema is not opened.
"""

from __future__ import annotations

import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas.errors import TrackingError
from spanishgas.lifecycle import history, local_store, registry, runs
from spanishgas.lifecycle.version import JUDGED
from spanishgas.settings import settings
from spanishgas.troubles import DoctorFinding, broken, note, ok, quoted, words

SLOW_SECONDS, PATIENCE_SECONDS = 60, 5
"""How far the clock may be behind what was written, and how long a server may take to answer."""
PROBE = b"x" * 2**20
"""What is written to an unnamed file to see whether a place takes it."""


def tracking() -> Iterator[DoctorFinding]:
    """Whether the tracking store answers, its experiment takes runs, and their artefacts have a place."""
    uri = mlflow.get_tracking_uri()
    if local_store.to_be_made(uri):
        yield ok(f"{uri} will be made by the first run")
        return
    local_store.look(uri)
    if moved := local_store.warning(uri):
        yield broken(moved)
    else:
        runs.connect()
    if file := local_store.sqlite_file(uri):
        written(file.absolute().parent)
    client = MlflowClient()
    asked = {
        "foreign_experiment": ("MLFLOW_EXPERIMENT_ID", client.get_experiment),
        "foreign_run": ("MLFLOW_RUN_ID", client.get_run),
    }
    for trouble, (name, ask) in asked.items():
        if (named := os.environ.get(name)) and not _known(ask, named):
            yield broken(words(trouble, id=named))
    experiment = client.get_experiment_by_name(
        os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings().experiment_name
    )
    yield ok(f"{uri} answers")
    if experiment and experiment.lifecycle_stage != "active":
        yield broken(words("deleted_experiment", id=experiment.experiment_id))
    elif experiment and (fault := _unwritable(experiment.artifact_location)):
        yield broken(words("no_artefacts", place=experiment.artifact_location, said=fault))


def champion() -> Iterator[DoctorFinding]:
    """Whether there is a champion whose version, verdict and artefacts are all there."""
    uri, name = mlflow.get_tracking_uri(), settings().registered_model
    if not _can_be_asked(uri):
        return
    record = history.read()
    if record.champion is None:
        lost = record.recorded and record.recorded not in registry.numbers()
        none_yet = f"{name} has no champion yet: make run, or ladder, evaluate and promote"
        yield broken(words("deleted_version", version=record.recorded, name=name)) if lost else note(none_yet)
        return
    version = registry.resolve(record.champion)
    yield ok(f"the champion is version {version.number}")
    places = {
        JUDGED: {"run_id": version.run_id},
        "model.skops": {"artifact_uri": f"models:/{name}/{version.number}"},
    }
    for file, place in places.items():
        held = _listed(**place)
        if isinstance(held, str) or file not in held:
            told = ", ".join(place.values())
            yield broken(words("missing_artefact", version=version.number, file=file, place=told))
            return
    if not version.cleared:
        yield broken(words("no_clearance", version=version.number, fault=version.fault))


def clock(lake: Path) -> Iterator[DoctorFinding]:
    """Whether this machine's clock is behind what was written before, or behind the tracking server."""
    uri = mlflow.get_tracking_uri()
    files = (Path(__file__), lake, local_store.sqlite_file(uri))
    times = {str(file): file.stat().st_mtime for file in files if file and file.exists()}
    if uri.startswith(("http://", "https://")) and _can_be_asked(uri):
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PATIENCE_SECONDS) as answer:
            if date := answer.headers["Date"]:
                times[uri] = parsedate_to_datetime(date).timestamp()
    what, here = max(times, key=lambda name: times[name]), time.time()
    now, then = (f"{datetime.fromtimestamp(at, UTC):%d %b %Y %H:%M} UTC" for at in (here, times[what]))
    late = times[what] > here + SLOW_SECONDS
    yield broken(words("wrong_clock", now=now, what=what, then=then)) if late else ok(now)


def studies(storage: str) -> Iterator[DoctorFinding]:
    """Whether the database of the searches can be opened (a SQLite file that is not there yet is made when needed)."""
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    if local_store.to_be_made(storage):
        yield ok(f"{storage} will be made by the first search")
        return
    try:
        url = make_url(storage)
        with create_engine(url).connect():
            yield ok(f"{url.render_as_string(hide_password=True)} answers")
    except (SQLAlchemyError, ModuleNotFoundError) as fault:
        cause = str(fault).splitlines()[0]
        raise TrackingError(f"SPANISHGAS_STUDY_STORAGE cannot be opened ({cause}): set another") from fault


def written(folder: Path) -> None:
    """OSError where a folder takes no more; the file has no name, so nobody sees it and nothing is left."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(PROBE)


def existing(place: Path) -> Path:
    """The folder itself, or the first above it that exists."""
    place = place.absolute()
    return next(folder for folder in (place, *place.parents) if folder.exists())


def _can_be_asked(uri: str) -> bool:
    """Whether the store is there, of this schema and in reach; `tracking` says what is wrong where it is not."""
    with suppress(TrackingError):
        runs.connect()
        return not local_store.to_be_made(uri)
    return False


def _known(ask: Callable[[str], object], named: str) -> bool:
    try:
        ask(named)
    except MlflowException as fault:
        return bool(fault.error_code != "RESOURCE_DOES_NOT_EXIST")
    return True


def _unwritable(location: str) -> str | None:
    """Why artefacts cannot be written to a folder, or listed in a bucket or at a server; None where they can."""
    if "://" in location and not location.startswith("file:"):
        held = _listed(artifact_uri=location)
        return held if isinstance(held, str) else None
    try:
        written(existing(Path(location.removeprefix("file://"))))
    except OSError as fault:
        return quoted(fault)
    return None


def _listed(**place: str) -> set[str] | str:
    """Names of the artefacts of a place, or why there are none to be had."""
    try:
        return {Path(one.path).name for one in mlflow.artifacts.list_artifacts(**place)}
    except Exception as fault:
        return quoted(fault)
