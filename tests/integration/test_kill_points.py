"""Every verb killed at every write: run again, it comes to the state that it has where nothing happens.

Writes are counted at the three places where they happen: commits of the tracking store's database, its artefacts, and
what the lake renames into place or removes. A kill after write k is one before write k + 1, so a verb of n writes has
n + 1 kill points. From a kill on nothing that the verb would still do reaches a disk, and its process counts as dead.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pyarrow.parquet as pq
import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.tracking import MlflowClient
from sqlalchemy.engine.default import DefaultDialect

from spanishgas import provenance
from spanishgas.config.search import LOGISTIC
from spanishgas.errors import SpanishGasError
from spanishgas.lake import Lake, LocalStore, store
from spanishgas.lifecycle import data, erasure, promotion, registry
from spanishgas.scoring import score as scoring
from spanishgas.scoring.parts import Part, Progress, Task
from spanishgas.scoring.recommend import recommend
from spanishgas.scoring.settings import Transform
from spanishgas.settings import PROJECT, settings
from spanishgas.training import artefact
from tests.churn_models import churn_model, score_body
from tests.gold_frames import gold_frame, publish_gold
from tests.raw_builder import write_raw
from tests.scored_cohorts import LATER, reference, version_of
from tests.tracked import own_model, own_store
from tests.versions import add_version

pytestmark = pytest.mark.timeout(3600)


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Disk:
    """Counts writes, and takes none any more once the process is dead."""

    left: int
    written: int = 0
    dead: bool = False

    def writing(self, real: Callable[..., Any], counts: Callable[..., bool] = lambda *_: True) -> Any:
        def write(*words: Any, **named: Any) -> Any:
            if counts(*words):
                self.dead = self.dead or self.left == 0
                if self.dead:
                    raise Killed
                self.left, self.written = self.left - 1, self.written + 1
            return real(*words, **named)

        return write


def dead_process() -> str:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    return provenance.process().rpartition(":")[0] + f":{ended.pid}"


def killed_after(writes: int, act: Callable[[], object], process: str) -> Disk:
    """Run `act` in a process that dies after so many writes."""
    disk = Disk(writes)
    rmtree = shutil.rmtree
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "process", lambda: process)
        # SQLite is in a transaction when something was written.
        commit = disk.writing(DefaultDialect.do_commit, lambda _, connection: bool(connection.in_transaction))
        patch.setattr(DefaultDialect, "do_commit", commit)
        for name in ("log_artifact", "log_artifacts"):
            real = getattr(LocalArtifactRepository, name)
            patch.setattr(LocalArtifactRepository, name, disk.writing(real))
        patch.setattr(store.os, "replace", disk.writing(os.replace))
        patch.setattr(LocalStore, "remove", disk.writing(LocalStore.remove))
        # Nor does a dead process tidy up.
        kept = SimpleNamespace(rmtree=lambda *a, **k: None if disk.dead else rmtree(*a, **k))
        patch.setattr(store, "shutil", kept)
        with suppress(Killed):
            act()
        while mlflow.active_run():
            mlflow.tracking.fluent._active_run_stack.get().pop()
    return disk


class InProcess:
    """The serving process's own function, without the process."""

    def __init__(self, given: Transform) -> None:
        self.given = given

    def answers(self, task: Task, progress: Progress) -> Iterator[tuple[Part, bytes]]:
        model = artefact.load(task.version.folder, "it", task.model_sha256)
        for part in task.shards:
            yield part, score_body(model, part.body, part.media)

    def clean_up(self, task: Task) -> None:
        """Nothing is left behind."""


@dataclass(frozen=True)
class Place:
    """A store and a lake that are set back to what they were before each kill."""

    root: Path
    kept: Path

    @property
    def lake(self) -> Lake:
        return Lake(self.root / "lake")

    def keep(self) -> None:
        shutil.rmtree(self.kept, ignore_errors=True)
        self._copied(self.root, self.kept)

    def restore(self) -> None:
        self._copied(self.kept, self.root)

    def _copied(self, source: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        for name in ("lake", "mlruns", "raw"):
            shutil.rmtree(target / name, ignore_errors=True)
            if (source / name).exists():
                shutil.copytree(source / name, target / name)
        # Connections to the file stay what they are.
        with (
            closing(sqlite3.connect(source / "mlflow.db")) as one,
            closing(sqlite3.connect(target / "mlflow.db")) as other,
        ):
            one.backup(other)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Version 2 is champion and 1 was it before; 3 has passed, 4 was refused; a lake to build and to score."""
    root = tmp_path_factory.mktemp("kills")
    with own_store(root) as patch, own_model("kills"):
        patch.setattr(scoring, "LocalTransform", InProcess)
        it = Place(root, root.parent / f"{root.name}-kept")
        gold = reference(it.lake)
        publish_gold(it.lake, gold_frame(300, seed=4, labelled=False), LATER)
        version_of(churn_model(LOGISTIC), gold, root / "first")
        version_of(churn_model(LOGISTIC), gold, root / "second")
        add_version()
        add_version(0.6)
        promotion.promote("1", "first")
        promotion.promote("2", "better")
        write_raw(root / "raw")
        it.keep()
        yield it


# What there is in the end


def tracked() -> dict[str, object]:
    """Aliases, history and versions, without times; runs that are open, and moves' runs."""
    client, name = MlflowClient(), settings().registered_model
    model = client.get_registered_model(name)
    moves = [json.loads(v) | {"at": ""} for k, v in sorted(model.tags.items()) if k.startswith("move.")]
    everywhere = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(everywhere, "", max_results=5000)
    runs = {run.info.run_id: run for run in found}
    return {
        "aliases": registry.aliases(),
        "moves": [m | {"run_id": bool(m["run_id"])} for m in moves],
        "other tags": {k: v for k, v in model.tags.items() if not k.startswith("move.") and not void(k, v)},
        "versions": {v.number: timeless(v.tags) for v in registry.versions()},
        "runs of moves": [
            (r.info.status, r.data.tags["reason"]) for r in (runs[m["run_id"]] for m in moves if m["run_id"])
        ],
        "runs of moves, in all": sum("move" in r.data.tags for r in found),
        "open": [r.info.run_name for r in found if r.info.status == "RUNNING"],
    }


def void(key: str, value: str) -> bool:
    """Whether a tag is the claim of a dead process, which whoever wants the lock next removes."""
    return key.startswith("turn.") and provenance.is_gone(value.split()[1])


def timeless(tags: dict[str, str]) -> dict[str, str]:
    return {
        k: v[: v.rfind(", ")] if k == "gate.override" else v for k, v in tags.items() if k != "champion.at"
    }


def lies(root: Path) -> dict[str, set[str]]:
    """Every file that is not hidden, by content, but for the runs that made it; parts by their rows.

    A part that was put and is named by no manifest yet has the rows of the one that is put in its place.
    """
    found: dict[str, set[str]] = {}
    for file in sorted(
        f for f in root.rglob("*") if f.is_file() and "/." not in str(f.relative_to(root.parent))
    ):
        name, body = str(file.relative_to(root)), file.read_bytes()
        if file.name == "_manifest.json":
            said = json.loads(body) | {"run_id": "", "check": ""}
            said["parts"] = sorted(part.rpartition("-")[0] for part in said["parts"])
            body = json.dumps(said).encode()
        elif file.suffix == ".parquet" and root.name == "lake":
            name = name.rpartition("-")[0]
            body = repr(pq.read_table(file).to_pylist()).encode()
        found.setdefault(name, set()).add(hashlib.sha256(body).hexdigest())
    return found


def state(place: Place) -> dict[str, object]:
    return {**tracked(), "lake": lies(place.root / "lake"), "raw": lies(place.root / "raw")}


# The table


def moved_in_the_ui(place: Place) -> None:
    MlflowClient().set_registered_model_alias(settings().registered_model, "champion", "3")


def scored(place: Place) -> None:
    scoring.score("champion", lake=place.lake)


def built(place: Place) -> None:
    etl(place)


def etl(place: Place) -> object:
    return data.etl(place.root / "raw", lake=place.lake, as_of=date(2024, 12, 31))


def nothing(place: Place) -> None:
    """The template is what the verb begins with."""


VERBS: dict[str, tuple[Callable[[Place], None], Callable[[Place], object]]] = {
    "promote": (nothing, lambda p: promotion.promote("3", "better still")),
    "promote --override": (nothing, lambda p: promotion.promote("4", "no other", override="known")),
    "approve": (nothing, lambda p: promotion.approve("3", "seen")),
    "rollback": (nothing, lambda p: promotion.rollback("worse")),
    "reconcile": (moved_in_the_ui, lambda p: promotion.seen()),
    "count an opening": (nothing, lambda p: registry.count_opening()),
    "etl": (nothing, etl),
    "score": (nothing, lambda p: scoring.score("champion", lake=p.lake)),
    "recommend": (scored, lambda p: recommend(lake=p.lake)),
    "erase": (built, lambda p: erasure.erase("C1", p.lake, reason="asked for")),
}
FEWEST = {"promote": 12, "rollback": 12, "etl": 30, "score": 8, "erase": 15}
"""Writes that a verb has at least: below, the test would not see them."""


def walked(place: Place, verb: str, points: slice = slice(None)) -> int:
    """Kill the verb at its kill points, run it again each time, and compare; gives how many points it has."""
    before, act = VERBS[verb]
    process = dead_process()
    place.restore()
    before(place)
    place_before = Place(place.root, place.kept.parent / f"{place.kept.name}-before")
    place_before.keep()
    whole = killed_after(10**6, lambda: act(place), provenance.process())
    assert not whole.dead
    wanted = state(place)
    for writes in list(range(whole.written + 1))[points]:
        place_before.restore()
        disk = killed_after(writes, lambda: act(place), process)
        # MLflow commits the same batch of tags and metrics at once or in two steps.
        assert disk.dead == (writes < whole.written) or abs(whole.written - writes) <= 1
        # What is done already may say that there is nothing left to do.
        with suppress(SpanishGasError):
            act(place)
        found = state(place)
        differing = {k: (found[k], wanted[k]) for k in wanted if found[k] != wanted[k]}
        assert not differing, f"{verb}, killed after {writes} of {whole.written} writes"
    return whole.written + 1


@pytest.mark.slow
@pytest.mark.parametrize("verb", [v for v in VERBS if v != "count an opening"])
def test_a_verb_killed_at_any_write_and_run_again_ends_where_it_ends_undisturbed(
    place: Place, verb: str
) -> None:
    points = walked(place, verb)
    print(f"{verb}: {points} kill points")
    assert points > FEWEST.get(verb, 2)


@pytest.mark.parametrize("verb", ["rollback", "approve"])
def test_a_relative_verb_killed_at_its_last_writes_is_not_done_twice(place: Place, verb: str) -> None:
    walked(place, verb, slice(-3, None))


def test_an_opening_that_a_kill_cut_short_is_counted_and_blocks_nobody(place: Place) -> None:
    place.restore()
    process = dead_process()
    disks = [killed_after(writes, registry.count_opening, process) for writes in range(12)]
    assert [disk.dead for disk in disks] == sorted((disk.dead for disk in disks), reverse=True)
    assert {disk.dead for disk in disks} == {True, False}, "from no write at all to every one"
    before = MlflowClient().get_registered_model("kills").tags
    registry.count_opening()
    after = MlflowClient().get_registered_model("kills").tags
    assert int(after[registry.OPENINGS]) == int(before[registry.OPENINGS]) + 1
    assert not [key for key in after if key.startswith("turn.")]


# Real processes, killed by the kernel


def command(place: Place, *words: str) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_RUN")}
    environment |= {"PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    return subprocess.Popen(
        [sys.executable, "-m", "spanishgas", *words],
        cwd=place.root,
        env=environment,
        stderr=subprocess.DEVNULL,
    )


def begun(place: Place, move: str) -> bool:
    with closing(sqlite3.connect(place.root / "mlflow.db")) as db:
        return bool(db.execute("SELECT 1 FROM registered_model_tags WHERE key = ?", (move,)).fetchall())


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize(
    "words",
    [("rollback", "--reason", "worse"), ("promote", "--version", "3", "--reason", "good")],
    ids=lambda w: w[0],
)
def test_a_command_that_is_killed_and_run_again_moves_the_champion_once(
    place: Place, words: tuple[str, ...], delay: float
) -> None:
    place.restore()
    with command(place, *words) as running:
        while running.poll() is None and not begun(place, "move.0003"):
            time.sleep(0.005)
        time.sleep(delay)
        running.kill()
    with command(place, *words) as again:
        assert again.wait(300) == 0
    found = tracked()
    moves: Any = found["moves"]
    assert [m["state"] for m in moves] == ["done"] * 3
    assert found["aliases"] == (
        {"champion": "1"} if words[0] == "rollback" else {"champion": "3", "previous": "2"}
    )
    assert ("rolled_back" in registry.resolve("2").tags) == (words[0] == "rollback")
    assert "rolled_back" not in registry.resolve("1").tags
    assert found["open"] == []
    assert found["runs of moves, in all"] == 3
