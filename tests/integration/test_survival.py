"""The lake outlives its writers: real `spanishgas etl` commands, killed, or two at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from spanishgas.etl.build import SOURCES, build
from spanishgas.lake import Lake, S3Store
from spanishgas.settings import PROJECT
from tests.raw_builder import IDS, label, write_raw
from tests.tracked import empty_store

AS_OF = date(2024, 12, 31)
Bytes = dict[str, bytes]


@dataclass(frozen=True)
class World:
    """A lake built from one extract, the extract that comes next, and what both give where nothing happens."""

    lake: Path
    raw: Path
    store: Path
    old: dict[str, str]
    new: dict[str, str]
    parts: Bytes
    seconds: float
    """That a build takes."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    empty_store(folder)
    churned = [label(customer_id, 1) for customer_id in IDS]
    raw = write_raw(folder / "raw", churn_label=churned)
    old = build(write_raw(folder / "before"), Lake(folder / "lake"), AS_OF)
    new = build(raw, Lake(folder / "other"), AS_OF)
    digests = [{t: s.manifest.digest for t, s in made.snapshots.items()} for made in (old, new)]
    return World(
        folder / "lake", raw, folder / "mlflow.db", *digests, parts(Lake(folder / "other")), new.seconds
    )


def parts(lake: Lake) -> Bytes:
    """The bytes of every part of the current tables, by table and name."""
    return {
        f"{table}/{name}": (found.folder / name).read_bytes()
        for table in SOURCES
        for found in [lake.current(table, AS_OF)]
        for name in found.manifest.parts
    }


@contextmanager
def etl(world: World, lake: str | Path, work: Path) -> Iterator[subprocess.Popen[str]]:
    """The running command; it is gone afterwards."""
    work.mkdir(exist_ok=True)
    shutil.copy(world.store, work / "mlflow.db")
    command = [sys.executable, "-m", "spanishgas", "etl", "--raw", str(world.raw), "--lake", str(lake)]
    with subprocess.Popen(
        command,
        cwd=work,
        env={
            **os_environ(),
            "PYTHONPATH": str(PROJECT),
            "MLFLOW_TRACKING_URI": f"sqlite:///{work}/mlflow.db",
        },
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def os_environ() -> dict[str, str]:
    """Without runs that are open in this process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_RUN")}


def killed(world: World, lake: Path, work: Path, moment: random.Random) -> None:
    """At some time after the build began, or, every other time, after its first part was written."""
    written, began = moment.random() < 0.5, time.monotonic()
    delay = moment.random() * world.seconds * (0.3 if written else 1)
    print(f"killed {delay:.3f} s after {'the first part' if written else 'the beginning'}")
    before = {*lake.rglob("*.parquet")}
    with etl(world, lake, work) as running:
        while time.monotonic() < began + 300 and running.poll() is None:
            if {*lake.rglob("*.parquet")} - before if written else (lake / ".locks").exists():
                break
            time.sleep(0.005)
        time.sleep(delay)
        running.kill()
        assert running.wait() in (-signal.SIGKILL, 0)
    assert (lake / ".locks").exists()


def survives_a_kill(world: World, tmp_path: Path, moment: random.Random) -> None:
    lake = Lake(shutil.copytree(world.lake, tmp_path / "lake", ignore=shutil.ignore_patterns(".locks")))
    killed(world, tmp_path / "lake", tmp_path / "work", moment)
    found = {table: lake.current(table, AS_OF) for table in SOURCES}
    assert {t for t, s in found.items() if s.manifest.digest not in (world.old[t], world.new[t])} == set()
    assert all(snapshot.intact for snapshot in found.values())
    report = build(world.raw, lake, AS_OF)
    assert {table: snapshot.manifest.digest for table, snapshot in report.snapshots.items()} == world.new
    assert parts(lake) == world.parts
    assert not [file for file in lake.root.rglob("*") if ".staging" in str(file)]
    assert build(world.raw, lake, AS_OF).reused


@pytest.mark.slow
def test_a_killed_etl_leaves_whole_tables_and_the_next_goes_on_to_the_same_bytes(
    world: World, tmp_path: Path
) -> None:
    survives_a_kill(world, tmp_path, random.Random())


@pytest.mark.slow
def test_an_etl_killed_at_many_moments_leaves_whole_tables_each_time(world: World, tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / str(number)).mkdir()
        survives_a_kill(world, tmp_path / str(number), random.Random())


def at_once(world: World, lake: str | Path, tmp_path: Path) -> list[str]:
    """Whether each of two commands that run at once found its tables built; both end well."""
    works = tmp_path / "one", tmp_path / "two"
    with etl(world, lake, works[0]) as one, etl(world, lake, works[1]) as two:
        said = [running.communicate(timeout=600)[1] for running in (one, two)]
        assert [running.returncode for running in (one, two)] == [0, 0], said
    found = []
    for work in works:
        with closing(sqlite3.connect(work / "mlflow.db")) as store:
            found += [value for (value,) in store.execute("SELECT value FROM tags WHERE key = 'reused'")]
    return sorted(found)


@pytest.mark.slow
def test_two_at_once_in_a_folder_build_once_and_leave_one_set_of_snapshots(
    world: World, tmp_path: Path
) -> None:
    assert at_once(world, tmp_path / "lake", tmp_path) == ["False", "True"]
    lake = Lake(tmp_path / "lake")
    assert [(s.manifest.table, current) for s, current in lake.snapshots()] == [(t, True) for t in SOURCES]
    assert parts(lake) == world.parts


@pytest.mark.slow
def test_two_at_once_on_s3_both_end_well_and_leave_one_set_of_snapshots(
    world: World, bucket: str, tmp_path: Path
) -> None:
    at_once(world, f"s3://{bucket}/lake", tmp_path)
    lake = Lake(f"s3://{bucket}/lake")
    assert [(s.manifest.table, current) for s, current in lake.snapshots()] == [(t, True) for t in SOURCES]
    assert parts(lake) == world.parts
    store = S3Store(f"s3://{bucket}/lake")
    assert len([o for o in store.listing() if o.key.endswith(".parquet")]) == len(world.parts)
    assert build(world.raw, lake, AS_OF).reused


def test_a_build_waits_for_another_of_its_date_and_for_no_longer_than_that_lives(tmp_path: Path) -> None:
    script = (
        "import sys, time; from datetime import date; from spanishgas.lake import Lake\n"
        "with Lake(sys.argv[1]).building(date(2024, 12, 31)): print('in', flush=True); time.sleep(600)\n"
    )
    entered = threading.Event()

    def wait(as_of: date, then: Callable[[], None]) -> None:
        with Lake(tmp_path).building(as_of):
            then()

    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        wait(date(2025, 3, 31), lambda: None)
        waiting = threading.Thread(target=wait, args=(AS_OF, entered.set))
        waiting.start()
        assert not entered.wait(0.3)
        holder.kill()
        assert entered.wait(30)
        waiting.join()
