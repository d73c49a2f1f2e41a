"""What the project needs of this machine and its services, looked at one after another, and how to mend what is wrong.

Nothing is changed or left behind, and a store of an older schema is not opened. A fault stops some verb from working; a
note is worth knowing.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from pathlib import Path

import mlflow
from mlflow.tracking import MlflowClient
from packaging.requirements import Requirement

from spanishgas.errors import LakeError, SpanishGasError, TrackingError
from spanishgas.lake import LAYERS, Lake
from spanishgas.lifecycle import history, local_store, registry, runs
from spanishgas.lifecycle.version import JUDGED
from spanishgas.settings import Settings, settings
from spanishgas.troubles import DoctorFinding, broken, note, ok, quoted, recognised, words

PYTHON = ((3, 11), (3, 13))
"""First and last version of Python that the lock file resolves for."""
SCARCE_GB, AMPLE_GB = 1.0, 8.0
"""Free disk: less than the first is a fault; the second holds two extracts of 20,000 customers and their tables."""
SLOW_SECONDS, PATIENCE_SECONDS = 60, 5
"""How far the clock may be behind what was written, and how long a server may take to answer."""
PROBE = b"x" * 2**20
"""What is written to an unnamed file to see whether a place takes it."""
PORTS = {5000: "make ui", 8501: "make dashboard"}
PREFIXES = ("SPANISHGAS_SERVE_", "SPANISHGAS_TRANSFORM_", "SPANISHGAS_ALERT_")
"""Prefixes of settings that other modules read."""
OTHERS = (
    "SPANISHGAS_MODEL_DIR",
    "SPANISHGAS_DASHBOARD_KEY",
    "SPANISHGAS_LEASH",
    "SPANISHGAS_TRACKING_SECRET",
)


def examine(lake: Lake) -> list[DoctorFinding]:
    """Everything, in the order in which it would be mended."""
    checks = {
        "python": python(sys.version_info[:2]),
        "packages": packages(metadata.requires("spanishgas") or []),
        "environment": environment(),
        "configuration": configuration(),
        "lake": tables(lake),
        "disk": disk(existing(_local(lake))),
        "tracking": tracking(),
        "champion": champion(lake),
        "studies": studies(settings().study_storage),
        "clock": clock(_local(lake)),
        "ports": ports(PORTS),
        "spark": spark(),
    }
    return [replace(one, what=what) for what, findings in checks.items() for one in until_fault(findings)]


def until_fault(findings: Iterator[DoctorFinding]) -> Iterator[DoctorFinding]:
    """What a check says until something stops it, and that."""
    try:
        yield from findings
    except Exception as fault:
        told = recognised(fault) or (str(fault) if isinstance(fault, SpanishGasError) else None)
        yield broken(told or words("unknown", said=quoted(fault)))


def python(version: tuple[int, int]) -> Iterator[DoctorFinding]:
    """Whether this Python is one that the project runs on."""
    first, last = ((".".join(map(str, v))) for v in PYTHON)
    ours = ".".join(map(str, version))
    if PYTHON[0] <= version <= PYTHON[1]:
        yield ok(f"{ours} in {sys.prefix}")
    else:
        yield broken(f"{ours} is not {first} to {last}: make PYTHON=python{first}")


def packages(requirements: Sequence[str]) -> Iterator[DoctorFinding]:
    """Whether every requirement (PEP 508, those of extras left out) is installed in the range that it names."""
    wanted = [Requirement(text) for text in requirements]
    wanted = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    if faults := [words for requirement in wanted if (words := _lacking(requirement))]:
        yield broken(f"{'; '.join(faults)}: rm -f .venv/.synced && make .venv/.synced")
    else:
        yield ok(f"{len(wanted)} packages in their ranges")


def _lacking(requirement: Requirement) -> str | None:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    fits = requirement.specifier.contains(version, prereleases=True)
    return None if fits else f"{requirement.name} {version} is not {requirement.specifier}"


def environment() -> Iterator[DoctorFinding]:
    """Whether every variable with the project's prefix is one that it reads."""
    read = {f"SPANISHGAS_{name.upper()}" for name in Settings.model_fields} | {*OTHERS}
    ours = [name for name in os.environ if name.startswith("SPANISHGAS_") and not name.startswith(PREFIXES)]
    for name in sorted(set(ours) - read):
        near = difflib.get_close_matches(name, read, n=1)
        hint = f"did you mean {near[0]}?" if near else "none is called alike"
        yield note(words("strange_variable", name=name, hint=hint))
    if read.issuperset(ours):
        yield ok(f"{len(ours)} settings of the project are set")


def configuration() -> Iterator[DoctorFinding]:
    """Whether experiments, search spaces and policy can be read; the error names file and key."""
    from spanishgas.config.experiment import experiment_ids, load_experiment
    from spanishgas.config.policy import load_policy
    from spanishgas.config.search import load_search

    ids = experiment_ids()
    for name in ids:
        load_experiment(name)
    load_search()
    load_policy()
    yield ok(f"{', '.join(ids)}, search.yaml and policy.yaml can be read")


def tables(lake: Lake) -> Iterator[DoctorFinding]:
    """Whether the lake can be written, if it is a folder, and what stands in it."""
    place = existing(_local(lake))
    if not place.is_dir():
        way_out = "set SPANISHGAS_LAKE (or, for a lake on S3, SPANISHGAS_CACHE)"
        yield broken(f"{place} is no folder that can be written to: {way_out}")
        return
    written(place)
    verbs = {"gold_master": "etl", "scores": "score"}
    for table in LAYERS:
        try:
            newest = lake.current(table) if lake.dates(table) else None
            if newest:
                newest.dataset()
        except LakeError as fault:
            yield broken(str(fault))
            continue
        if newest and table in verbs:
            yield ok(f"{table} as of {newest.manifest.as_of}: {newest.manifest.rows:,} rows")
        elif table in verbs:
            yield note(f"no {table} in {lake.root} yet: python -m spanishgas {verbs[table]}")


def disk(folder: Path) -> Iterator[DoctorFinding]:
    """Whether the disk of `folder` has room."""
    free = shutil.disk_usage(folder).free / 1e9
    if free >= AMPLE_GB:
        yield ok(f"{free:.0f} GB free")
        return
    words = f"{free:.1f} GB free; two extracts of 20,000 customers and their tables take {AMPLE_GB:.0f}"
    way_out = "python -m spanishgas prune shows which old snapshots could go"
    yield (broken if free < SCARCE_GB else note)(f"{words}: {way_out}")


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
    client, number = MlflowClient(), os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings().experiment_name
    # What the variables name and the store lacks, it says itself.
    experiment = client.get_experiment(number) if number else client.get_experiment_by_name(name)
    if run := os.environ.get("MLFLOW_RUN_ID"):
        client.get_run(run)
    yield ok(f"{uri} answers")
    if experiment and experiment.lifecycle_stage != "active":
        yield broken(words("deleted_experiment", id=experiment.experiment_id))
    elif experiment:
        try:
            _use(experiment.artifact_location)
        except Exception as fault:
            yield broken(words("no_artefacts", place=experiment.artifact_location, said=quoted(fault)))


def champion(lake: Lake) -> Iterator[DoctorFinding]:
    """Whether there is a champion whose version, verdict and artefacts are all there."""
    uri, name = mlflow.get_tracking_uri(), settings().registered_model
    if not _can_be_asked(uri):
        return
    from spanishgas.config.policy import load_policy

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
        listed = set[str]()
        with suppress(Exception):
            listed = {Path(one.path).name for one in mlflow.artifacts.list_artifacts(**place)}
        if file not in listed:
            told = ", ".join(place.values())
            yield broken(words("missing_artefact", version=version.number, file=file, place=told))
            return
    if not version.cleared:
        yield broken(words("no_clearance", version=version.number, fault=version.fault))
    elif old := version.too_old(max(lake.dates("gold_master"), default=None), load_policy().max_age_days):
        yield note(old)


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


def _use(location: str) -> None:
    """Write to a folder of artefacts, or list a bucket's or a server's."""
    if "://" in location and not location.startswith("file:"):
        mlflow.artifacts.list_artifacts(artifact_uri=location)
    else:
        written(existing(Path(location.removeprefix("file://"))))


def ports(wanted: dict[int, str]) -> Iterator[DoctorFinding]:
    """Whether the ports that the pages are served on are free."""
    taken = [port for port in wanted if _answers(port)]
    for port in taken:
        yield note(f"something answers on port {port}: {wanted[port]} would take PORT={port + 1}")
    if not taken:
        yield ok(f"{' and '.join(map(str, wanted))} are free")


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def spark() -> Iterator[DoctorFinding]:
    """Whether `--engine spark` could run: the extra and a Java."""
    if importlib.util.find_spec("pyspark") is None:
        yield ok("the extra is not installed; DuckDB needs nothing (make dev adds it)")
    elif shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        yield note("pyspark is there but no java on PATH: install Java 17, or set JAVA_HOME")
    else:
        yield ok("pyspark and java are there")


def _local(lake: Lake) -> Path:
    """Where the lake's files come to lie on this machine."""
    return lake.root if isinstance(lake.root, Path) else settings().cache.expanduser()
