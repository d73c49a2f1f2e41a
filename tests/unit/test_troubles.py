"""Each thing that may be broken around the project: found by the doctor, told by the verb, with its own way out."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

import duckdb
import mlflow
import pytest
from mlflow.tracking import MlflowClient

from spanishgas import cli, doctor
from spanishgas.errors import SpanishGasError
from spanishgas.lake import Lake
from spanishgas.lifecycle import history, local_store, registry, runs
from spanishgas.lifecycle.history import How, Move, MoveState
from spanishgas.lifecycle.registry import Alias
from spanishgas.settings import settings
from spanishgas.troubles import DoctorFinding, Trouble, recognised, troubles
from tests.gold_frames import gold_frame, publish_gold
from tests.versions import add_version

OLD = "acf3f17fdcc7"
"""Schema of MLflow 2.9."""
NOBODY = 65534


def faults(found: Iterator[DoctorFinding]) -> list[str]:
    return [one.words for one in doctor.until_fault(found) if one.state == "fault"]


def is_told(words: list[str], trouble: str, *parts: str) -> None:
    """The one fault is of this kind: its message up to the first thing named, its way out, and the things named."""
    (said,) = words
    kind = troubles()[trouble]
    assert kind.message.partition("{")[0] in said
    assert kind.way_out.rpartition("}")[2].strip() in said
    assert all(part in said for part in parts), said


def ran(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and stderr of a verb, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["spanishgas", *words])
        with pytest.raises(SystemExit) as ended:
            cli.run()
    return int(ended.value.code or 0), capfd.readouterr().err


@pytest.fixture
def experiment(tracking: Path) -> str:
    """The id of the experiment, which has a run."""
    with runs.stage("simulate", "a run") as run:
        run.text("note", "note.txt")
    return run.experiment_id


@pytest.fixture
def promoted(experiment: str, tracking: Path) -> str:
    """The number of a champion whose history says how it came to be."""
    MlflowClient().create_registered_model(settings().registered_model)
    model = tracking / "model"
    model.mkdir()
    (model / "model.skops").write_text("")
    number = add_version(source=str(model))
    registry.point(Alias.CHAMPION, number)
    move = Move(
        number=1, how=How.PROMOTED, version=number, replaced=None, reason="r", by="me", at=history.now()
    )
    history.write(move.model_copy(update={"state": MoveState.DONE}))
    return number


@contextmanager
def without_rights(place: Path) -> Iterator[None]:
    """The place as another account's, to which nobody may write."""
    place.chmod(0o555)
    if root := os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        place.chmod(0o755)


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that other accounts can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


# --- disk and rights


def limited(folder: Path, most: int, *words: str) -> subprocess.CompletedProcess[str]:
    """A verb whose files may not grow beyond so many bytes, as on a full disk."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    command = [sys.executable, "-m", "spanishgas", *words]
    unwritten = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # else bytecode is cut short too, and stays so
    return subprocess.run(
        command, cwd=folder, env=unwritten, preexec_fn=small, capture_output=True, text=True, timeout=120
    )


def test_a_full_disk_is_told_by_the_doctor_of_the_lake_and_by_a_verb_of_its_file(tmp_path: Path) -> None:
    found = limited(tmp_path, 4096, "doctor", "--lake", "lake")
    line = next(line for line in found.stdout.splitlines() if line.startswith("fault  lake"))
    is_told([line], "full_disk", "File too large", "spanishgas prune")
    done = limited(tmp_path, 64, "template", "mine")
    assert done.returncode == 1
    is_told([done.stderr], "full_disk")


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        duckdb.IOException("Could not write all bytes: No space left on device"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_every_librarys_full_disk_is_one_sentence(fault: Exception) -> None:
    is_told([str(cli._known(fault) or recognised(fault))], "full_disk")


def test_a_read_only_lake_is_told_as_such(everybodys: Path) -> None:
    lake = everybodys / "lake"
    lake.mkdir()
    with without_rights(lake):
        is_told(faults(doctor.tables(Lake(lake))), "no_right", "SPANISHGAS_LAKE")


def test_a_store_that_is_locked_or_read_only_is_told_apart_from_a_server_that_is_down() -> None:
    for words, trouble in (
        ("(sqlite3.OperationalError) attempt to write a readonly database", "no_right"),
        ("(sqlite3.OperationalError) database is locked", "busy"),
        (
            "API request to http://h/api failed with exception HTTPConnectionPool: Max retries exceeded",
            "server_down",
        ),
        ("API request to endpoint /api failed with error code 401 != 200", "login"),
    ):
        is_told([str(cli._known(mlflow.MlflowException(words)))], trouble)


# --- experiment and environment


def test_a_deleted_experiment_is_told_by_doctor_and_verb(
    experiment: str, capfd: pytest.CaptureFixture[str]
) -> None:
    MlflowClient().delete_experiment(experiment)
    is_told(faults(doctor.tracking()), "deleted_experiment", f"--experiment-id {experiment}")
    code, said = ran(capfd, "simulate", "--customers", "200", "--out", "raw")
    assert code == 1
    is_told([said], "deleted_experiment", f"--experiment-id {experiment}")


@pytest.mark.parametrize(
    ("name", "value", "trouble"),
    [
        ("MLFLOW_EXPERIMENT_ID", "4711", "foreign_experiment"),
        ("MLFLOW_RUN_ID", "0123456789abcdef0123456789abcdef", "foreign_run"),
    ],
)
def test_variables_of_another_project_are_told_by_doctor_and_verb(
    experiment: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    value: str,
    trouble: str,
) -> None:
    monkeypatch.setenv(name, value)
    is_told(faults(doctor.tracking()), trouble, value)
    code, said = ran(capfd, "simulate", "--customers", "200", "--out", "raw")
    assert code == 1
    is_told([said], trouble, value)


def test_a_mistyped_setting_is_noted_with_the_right_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPANISHGAS_LAEK", "lake")
    (found,) = [one for one in doctor.environment() if "SPANISHGAS_LAEK" in one.words]
    assert found.state == "note"
    assert "did you mean SPANISHGAS_LAKE?" in found.words


# --- the champion


def test_a_champion_that_is_whole_has_no_fault(promoted: str) -> None:
    assert faults(doctor.champion(Lake("lake"))) == []


def test_a_deleted_version_is_told_by_doctor_and_verb(promoted: str) -> None:
    name = settings().registered_model
    MlflowClient().delete_model_version(name, promoted)
    is_told(faults(doctor.champion(Lake("lake"))), "deleted_version", f"version {promoted} of {name}")
    gone = mlflow.MlflowException(f"Model Version (name={name}, version={promoted}) not found")
    is_told([str(cli._known(gone))], "deleted_version", f"version {promoted} of {name}")


def test_an_artefact_that_is_gone_is_told_of_model_and_verdict(promoted: str, tracking: Path) -> None:
    (tracking / "model" / "model.skops").unlink()
    is_told(faults(doctor.champion(Lake("lake"))), "missing_artefact", "model.skops", f"version {promoted}")
    next(tracking.rglob("verdict.json")).unlink()
    is_told(faults(doctor.champion(Lake("lake"))), "missing_artefact", "verdict.json")


def test_a_champion_older_than_the_policy_allows_is_noted(promoted: str, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    publish_gold(lake, gold_frame(5), date(2026, 2, 4))
    assert [one.state for one in doctor.champion(lake)] == ["ok"], "400 days"
    publish_gold(lake, gold_frame(5), date(2026, 2, 5))
    assert list(doctor.champion(lake))[-1].words == (
        f"version {promoted} learned from data of 2024-12-31, 401 days before the newest (2026-02-05); policy.yaml "
        "allows 400 (max_age_days): spanishgas retrain"
    )


def test_a_verdict_that_was_changed_is_told(promoted: str, tracking: Path) -> None:
    verdict = next(tracking.rglob("verdict.json"))
    verdict.write_text(verdict.read_text().replace("0.75", "0.95"))
    is_told(faults(doctor.champion(Lake("lake"))), "no_clearance", "another digest")


def test_a_folder_of_artefacts_that_takes_none_is_told(
    tracking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tracking / "file").write_text("")
    for name, place in (("in-a-file", f"file://{tracking}/file"), ("away", "s3://no-such-bucket/a")):
        MlflowClient().create_experiment(name, artifact_location=place)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        is_told(faults(doctor.tracking()), "no_artefacts", "MLFLOW_EXPERIMENT_NAME")


def test_a_moved_store_is_told_with_relocates_name(
    experiment: str, tracking: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copied = shutil.copytree(tracking, tmp_path_factory.mktemp("copy") / "second")
    words = local_store.warning(f"sqlite:///{copied}/mlflow.db")
    is_told([words], "moved_store", str(tracking / "mlruns"), "doctor --relocate")


# --- schema


@pytest.fixture
def old(tracking: Path) -> Path:
    """A store as MLflow 2.9 left it."""
    from alembic import command
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    file = tracking / "mlflow.db"
    file.unlink(missing_ok=True)
    engine = utils.create_sqlalchemy_engine_with_retry(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLD)
    engine.dispose()
    return file


@pytest.mark.parametrize("verb", ["history", "monitor", "doctor"])
def test_a_verb_that_looks_leaves_an_old_store_as_it_is(
    old: Path, capfd: pytest.CaptureFixture[str], verb: str
) -> None:
    before = old.read_bytes()
    code, said = ran(capfd, verb)
    assert code == 1
    assert old.read_bytes() == before
    if verb != "doctor":
        is_told([said], "old_schema", OLD)
    is_told(faults(doctor.tracking()), "old_schema", OLD)
    assert list(doctor.champion(Lake("lake"))) == []
    assert list(old.parent.glob("mlflow.db*")) == [old]


def test_a_verb_that_writes_says_so_copies_an_old_store_and_upgrades_it(
    old: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = old.read_bytes()
    code, said = ran(capfd, "rollback", "--reason", "none")
    assert code != 0
    assert f"it is upgraded from schema {OLD}" in said
    copy = old.with_name(f"mlflow.db.{OLD}")
    assert str(copy) in said
    assert local_store.revision(copy) == OLD
    with closing(sqlite3.connect(copy)) as kept, closing(sqlite3.connect(":memory:")) as was:
        was.deserialize(before)
        assert list(kept.iterdump()) == list(was.iterdump())
    assert local_store.fault(f"sqlite:///{old}") is None
    assert MlflowClient().search_experiments()


UPGRADER = """
import sys
from mlflow.db import upgrade
from spanishgas.lifecycle import local_store
print("ready", flush=True)
sys.stdin.readline()
local_store.upgrade(sys.argv[1], print)
"""


def test_of_two_processes_one_upgrades_an_old_store_and_the_other_waits(old: Path) -> None:
    with closing(sqlite3.connect(old)) as db:
        before = list(db.iterdump())
    command = [sys.executable, "-c", UPGRADER, f"sqlite:///{old}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert sum(OLD in said for said, _ in answers) == 1
    with closing(sqlite3.connect(old.with_name(f"mlflow.db.{OLD}"))) as kept:
        assert list(kept.iterdump()) == before
    assert local_store.fault(f"sqlite:///{old}") is None


def test_a_store_of_a_newer_mlflow_is_told_and_never_touched(
    old: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(old)) as db, db:
        db.execute("UPDATE alembic_version SET version_num = 'f00dfeedbeef'")
    for verb in (["history"], ["rollback", "--reason", "none"]):
        code, said = ran(capfd, *verb)
        assert code == 1
        is_told([said], "new_schema", "f00dfeedbeef")


def test_the_schema_of_this_mlflow_is_the_head_of_its_migrations(experiment: str, tracking: Path) -> None:
    assert local_store.revision(tracking / "mlflow.db") == local_store.revisions()[1]
    assert local_store.fault(mlflow.get_tracking_uri()) is None
    assert local_store.fault(f"sqlite:///{tracking}/nowhere.db") is None
    assert local_store.fault("http://127.0.0.1:9") is None


# --- clock


def test_a_clock_behind_what_was_written_is_told(experiment: str, tracking: Path) -> None:
    assert faults(doctor.clock(tracking / "lake")) == []
    file = tracking / "mlflow.db"
    ahead = time.time() + 3600
    os.utime(file, (ahead, ahead))
    is_told(faults(doctor.clock(tracking / "lake")), "wrong_clock", str(file))


def test_a_server_that_sagemaker_manages_is_refused_by_name(
    tracking: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arn = "arn:aws:sagemaker:eu-west-1:111122223333:mlflow-tracking-server/any"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(arn)
    try:
        code, said = ran(capfd, "history")
    finally:
        mlflow.set_tracking_uri(before)
    assert code == 1
    is_told([said], "managed_mlflow", arn)


# --- wording


def test_what_nobody_knows_is_said_to_be_unknown_and_a_defect_is_none_of_it() -> None:
    is_told([str(cli._known(mlflow.MlflowException("the moon is full")))], "unknown", "the moon is full")
    is_told([str(cli._known(OSError(errno.EIO, "Input/output error")))], "unknown")
    assert cli._known(ZeroDivisionError()) is None


def test_the_projects_own_failures_keep_their_words() -> None:
    fault = SpanishGasError("say this")
    fault.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert cli._known(fault) is fault


@pytest.mark.parametrize("trouble", troubles().values(), ids=troubles())
def test_every_trouble_has_a_sentence_a_cause_and_a_way_out(trouble: Trouble) -> None:
    assert trouble.message[0].islower() or trouble.message[0] in "{MA"
    assert not trouble.message.endswith(".")
    assert trouble.cause.endswith(".")
    assert trouble.way_out
    assert all(hasattr(errno, code) for code in trouble.codes)
