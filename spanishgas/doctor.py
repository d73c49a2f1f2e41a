"""What the project needs of this machine and its services, looked at one after another, and how to mend what is wrong.

Nothing is changed or left behind. A fault stops some verb from working; a note is worth knowing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from spanishgas.errors import LakeError, SpanishGasError, TrackingError
from spanishgas.lake import LAYERS, Lake
from spanishgas.lifecycle import relocation
from spanishgas.settings import settings

PYTHON = ((3, 11), (3, 13))
"""First and last version of Python that the lock file resolves for."""
SCARCE_GB, AMPLE_GB = 1.0, 8.0
"""Free disk: less than the first is a fault; the second holds two extracts of 20,000 customers and their tables."""
PORTS = {5000: "make ui", 8501: "make dashboard"}
SECONDS = 5


class State(StrEnum):
    """How a thing stands."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `words` end with what to do where something is to be done."""

    what: str
    state: State
    words: str


def examine(lake: Lake) -> list[Finding]:
    """Everything, in the order in which it would be mended."""
    checks: Sequence[tuple[str, Callable[[], Iterator[Finding]]]] = (
        ("python", lambda: python(sys.version_info[:2])),
        ("packages", lambda: packages(metadata.requires("spanishgas") or [])),
        ("configuration", configuration),
        ("lake", lambda: tables(lake)),
        ("disk", lambda: disk(_existing(_local(lake)))),
        ("tracking", tracking),
        ("studies", lambda: studies(settings().study_storage)),
        ("ports", lambda: ports(PORTS)),
        ("spark", spark),
    )
    return [finding for what, check in checks for finding in _run(what, check)]


def _run(what: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except SpanishGasError as fault:
        return [Finding(what, State.FAULT, str(fault))]


def python(version: tuple[int, int]) -> Iterator[Finding]:
    """Whether this Python is one that the project runs on."""
    first, last = ((".".join(map(str, v))) for v in PYTHON)
    ours = ".".join(map(str, version))
    if PYTHON[0] <= version <= PYTHON[1]:
        yield Finding("python", State.OK, f"{ours} in {sys.prefix}")
    else:
        yield Finding("python", State.FAULT, f"{ours} is not {first} to {last}: make PYTHON=python{first}")


def packages(requirements: Sequence[str]) -> Iterator[Finding]:
    """Whether every requirement (PEP 508, those of extras left out) is installed in the range that it names."""
    wanted = [Requirement(text) for text in requirements]
    wanted = [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    faults = [words for requirement in wanted if (words := _lacking(requirement))]
    if faults:
        yield Finding(
            "packages", State.FAULT, f"{'; '.join(faults)}: rm -f .venv/.synced && make .venv/.synced"
        )
    else:
        yield Finding("packages", State.OK, f"{len(wanted)} packages in their ranges")


def _lacking(requirement: Requirement) -> str | None:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    fits = requirement.specifier.contains(version, prereleases=True)
    return None if fits else f"{requirement.name} {version} is not {requirement.specifier}"


def configuration() -> Iterator[Finding]:
    """Whether experiments, search spaces and policy can be read; the error names file and key."""
    from spanishgas.config.experiment import experiment_ids, load_experiment
    from spanishgas.config.policy import load_policy
    from spanishgas.config.search import load_search

    ids = experiment_ids()
    for name in ids:
        load_experiment(name)
    load_search()
    load_policy()
    yield Finding("configuration", State.OK, f"{', '.join(ids)}, search.yaml and policy.yaml can be read")


def tables(lake: Lake) -> Iterator[Finding]:
    """Whether the lake can be written, if it is a folder, and what stands in it."""
    place = _existing(_local(lake))
    if not (place.is_dir() and os.access(place, os.W_OK)):
        way_out = "set SPANISHGAS_LAKE (or, for a lake on S3, SPANISHGAS_CACHE), or mend its rights"
        words = f"{place} is no folder that can be written to: {way_out}"
        yield Finding("lake", State.FAULT, words)
        return
    verbs = {"gold_master": "etl", "scores": "score"}
    for table in LAYERS:
        try:
            newest = lake.current(table) if lake.dates(table) else None
            if newest:
                newest.dataset()
        except LakeError as fault:
            yield Finding("lake", State.FAULT, str(fault))
            continue
        if newest and table in verbs:
            rows, day = newest.manifest.rows, newest.manifest.as_of
            yield Finding("lake", State.OK, f"{table} as of {day}: {rows:,} rows")
        elif table in verbs:
            words = f"no {table} in {lake.root} yet: python -m spanishgas {verbs[table]}"
            yield Finding("lake", State.NOTE, words)


def disk(folder: Path) -> Iterator[Finding]:
    """Whether the disk of `folder` has room."""
    free = shutil.disk_usage(folder).free / 1e9
    if free >= AMPLE_GB:
        yield Finding("disk", State.OK, f"{free:.0f} GB free")
        return
    words = f"{free:.1f} GB free; two extracts of 20,000 customers and their tables take {AMPLE_GB:.0f}"
    way_out = "python -m spanishgas prune shows which old snapshots could go"
    yield Finding("disk", State.FAULT if free < SCARCE_GB else State.NOTE, f"{words}: {way_out}")


def tracking() -> Iterator[Finding]:
    """Whether the tracking server answers, and what the champion is."""
    import mlflow

    from spanishgas.lifecycle import registry, runs

    uri = mlflow.get_tracking_uri()
    if _to_be_made(uri):
        yield Finding("tracking", State.OK, f"{uri} will be made by the first run")
        return
    if words := relocation.warning(uri):
        yield Finding("tracking", State.FAULT, words)
    else:
        runs.connect()
    with runs.reported():
        champion = registry.aliases().get(registry.Alias.CHAMPION)
    yield Finding("tracking", State.OK, f"{uri} answers")
    if champion is None:
        words = (
            f"{settings().registered_model} has no champion yet: make run, or ladder, evaluate and promote"
        )
        yield Finding("tracking", State.NOTE, words)
    else:
        yield Finding("tracking", State.OK, f"the champion is version {champion}")


def studies(storage: str) -> Iterator[Finding]:
    """Whether the database of the searches can be opened (a SQLite file that is not there yet is made when needed)."""
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    if _to_be_made(storage):
        yield Finding("studies", State.OK, f"{storage} will be made by the first search")
        return
    try:
        url = make_url(storage)
        with create_engine(url).connect():
            yield Finding("studies", State.OK, f"{url.render_as_string(hide_password=True)} answers")
    except (SQLAlchemyError, ModuleNotFoundError) as fault:
        cause = str(fault).splitlines()[0]
        raise TrackingError(f"SPANISHGAS_STUDY_STORAGE cannot be opened ({cause}): set another") from fault


def _to_be_made(uri: str) -> bool:
    """Whether this is a SQLite file that does not exist: to open it would make it."""
    file = relocation.sqlite_file(uri)
    return file is not None and not file.exists()


def ports(wanted: dict[int, str]) -> Iterator[Finding]:
    """Whether the ports that the pages are served on are free."""
    taken = [port for port in wanted if _answers(port)]
    for port in taken:
        words = f"something answers on port {port}: {wanted[port]} would take PORT={port + 1}"
        yield Finding("ports", State.NOTE, words)
    if not taken:
        yield Finding("ports", State.OK, f"{' and '.join(map(str, wanted))} are free")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def spark() -> Iterator[Finding]:
    """Whether `--engine spark` could run: the extra and a Java."""
    if importlib.util.find_spec("pyspark") is None:
        yield Finding(
            "spark", State.OK, "the extra is not installed; DuckDB needs nothing (make dev adds it)"
        )
    elif shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        yield Finding(
            "spark", State.NOTE, "pyspark is there but no java on PATH: install Java 17, or set JAVA_HOME"
        )
    else:
        yield Finding("spark", State.OK, "pyspark and java are there")


def _local(lake: Lake) -> Path:
    """Where the lake's files come to lie on this machine."""
    return lake.root if isinstance(lake.root, Path) else settings().cache.expanduser()


def _existing(place: Path) -> Path:
    """The folder itself, or the first above it that exists."""
    place = place.absolute()
    return next(folder for folder in (place, *place.parents) if folder.exists())
