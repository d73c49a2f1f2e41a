"""The doctor finds what is wrong, says how to mend it, and finds nothing wrong with a machine that works."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from spanishgas import cli, doctor
from spanishgas.errors import TrackingError
from spanishgas.lake import Lake
from spanishgas.lifecycle import local_store, runs
from spanishgas.settings import settings
from spanishgas.troubles import DoctorFinding, FindingState
from tests.gold_frames import gold_frame, publish_gold
from tests.tracked import forget, own_store


def states(findings: list[DoctorFinding], what: str) -> list[FindingState]:
    return [finding.state for finding in findings if finding.what == what]


def test_a_machine_that_runs_these_tests_has_no_fault(tracking: Path, tmp_path: Path) -> None:
    (tracking / "mlflow.db").unlink()
    found = doctor.examine(Lake(tmp_path / "lake"))
    assert [f for f in found if f.state is FindingState.FAULT and f.what != "disk"] == []
    assert {f.what for f in found} >= {"python", "packages", "configuration", "lake", "disk", "tracking"}
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_another_python_and_a_package_out_of_its_range_are_faults() -> None:
    assert [f.state for f in doctor.python((3, 10))] == [FindingState.FAULT]
    (found,) = doctor.packages(["numpy<1", "pandas>=3", "nowhere-to-be-found", "absent ; extra == 'spark'"])
    assert found.state is FindingState.FAULT
    assert "nowhere-to-be-found is missing" in found.words
    assert "numpy" in found.words
    assert "absent" not in found.words
    assert "pandas" not in found.words


def test_a_policy_with_an_unknown_key_is_a_fault_that_names_it(tracking: Path, experiments: Path) -> None:
    with (experiments / "policy.yaml").open("a") as policy:
        policy.write("tresholds: 1\n")
    forget()
    (found,) = (f for f in doctor.examine(Lake(tracking / "lake")) if f.what == "configuration")
    assert found.state is FindingState.FAULT
    assert "tresholds" in found.words


def test_a_file_in_the_lakes_place_is_a_fault_and_a_damaged_table_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert [f.state for f in doctor.tables(Lake(tmp_path / "file"))] == [FindingState.FAULT]
    lake = Lake(tmp_path / "lake")
    snapshot = publish_gold(lake, gold_frame(50), date(2024, 12, 31))
    gold, scores = doctor.tables(lake)
    assert (gold.state, scores.state) == (FindingState.OK, FindingState.NOTE)
    assert "50 rows" in gold.words
    next(iter(Path(snapshot.folder).glob("*.parquet"))).write_bytes(b"")
    assert FindingState.FAULT in [finding.state for finding in doctor.tables(lake)]


@pytest.mark.parametrize("table", ["gold_master", "silver_customer"])
@pytest.mark.parametrize("name", ["*.parquet", "_manifest.json", "_current.json"])
def test_a_bit_of_the_newest_tables_that_changed_is_a_fault_and_no_table_yet(
    tmp_path: Path, table: str, name: str
) -> None:
    lake = Lake(tmp_path)
    for day in (date(2024, 12, 31), date(2025, 3, 31)):
        write = lambda folder: gold_frame(50).to_parquet(folder / "part-0.parquet")  # noqa: E731
        key = lake.publish(table, day, write, built_from={}, fingerprint="f", code={}).key
    file = next((tmp_path / key).parent.rglob(name))
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    (fault,) = (finding for finding in doctor.tables(lake) if finding.state is FindingState.FAULT)
    assert file.name in fault.words
    assert "spanishgas etl --raw" in fault.words


def test_of_a_lake_on_s3_the_local_copies_folder_is_looked_at(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(f"s3://{bucket}/lake")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPANISHGAS_CACHE", str(tmp_path / "file"))
    settings.cache_clear()
    found = list(doctor.tables(lake))
    settings.cache_clear()
    assert [f.state for f in found] == [FindingState.FAULT]
    assert str(tmp_path / "file") in found[0].words


def test_a_full_disk_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = next(doctor.disk(tmp_path)).words.split()[0]
    monkeypatch.setattr(doctor, "SCARCE_GB", float(free) + 100)
    monkeypatch.setattr(doctor, "AMPLE_GB", float(free) + 200)
    assert next(doctor.disk(tmp_path)).state is FindingState.FAULT


def test_a_server_that_does_not_answer_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"http://127.0.0.1:{port}")
    try:
        with pytest.raises(TrackingError, match=f"{port} cannot be reached"):
            list(doctor.tracking())
    finally:
        mlflow.set_tracking_uri(before)


def test_a_server_that_is_down_is_one_fault_and_nobody_waits_for_it(
    tracking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    began = time.monotonic()
    found = doctor.examine(Lake(tracking / "lake"))
    assert [f.what for f in found if f.state is FindingState.FAULT and f.what != "disk"] == ["tracking"]
    assert time.monotonic() - began < 20


def test_a_study_storage_that_cannot_be_opened_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="SPANISHGAS_STUDY_STORAGE"):
        list(doctor.studies(f"sqlite:///{tmp_path}"))  # a folder
    (found,) = doctor.studies(f"sqlite:///{tmp_path}/optuna.db")
    assert found.state is FindingState.OK


def test_a_port_that_is_taken_is_a_note() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert [f.state for f in doctor.ports({port: "make ui"})] == [FindingState.NOTE]
    assert [f.state for f in doctor.ports({port: "make ui"})] == [FindingState.OK]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tracking store as MLflow makes it there, and the artefact of one run."""
    folder = tmp_path_factory.mktemp("checkout") / "first"
    folder.mkdir()
    with own_store(folder):
        with runs.stage("simulate", "a run") as run:
            run.text("as it was", "note.txt")
        (folder / "run").write_text(run.run_id)
    return folder


@contextmanager
def away(place: Path) -> Iterator[None]:
    """A file or folder under another name for a while."""
    place.rename(place.with_name("away"))
    try:
        yield
    finally:
        place.with_name("away").rename(place)


def warned(folder: Path) -> str:
    return local_store.warning(f"sqlite:///{folder}/mlflow.db")


def test_a_store_where_it_was_made_is_not_warned_of(checkout: Path, tmp_path: Path) -> None:
    assert warned(checkout) == ""
    (tmp_path / "link").symlink_to(checkout)
    assert warned(tmp_path / "link") == ""
    assert warned(tmp_path) == "", "no store yet"
    assert not (tmp_path / "mlflow.db").exists()


def test_a_copied_checkout_is_named_and_after_relocate_keeps_its_own_artefacts(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(checkout, tmp_path / "second")
    with own_store(folder):
        found = [f for f in doctor.examine(Lake(folder / "lake")) if f.what == "tracking"]
        assert found[0].state is FindingState.FAULT
        assert f"still go to and come from {checkout}/mlruns" in found[0].words
        assert "spanishgas doctor --relocate" in found[0].words
        monkeypatch.setattr(sys, "argv", ["spanishgas", "doctor", "--relocate", "--lake", "lake"])
        with pytest.raises(SystemExit):
            cli.run()
        assert capfd.readouterr().out.startswith("3 records of artefacts were changed\n")
        assert warned(folder) == ""
        run_id = (folder / "run").read_text()
        with away(checkout):
            assert mlflow.artifacts.load_text(f"runs:/{run_id}/note.txt") == "as it was"
        with runs.stage("simulate", "another run") as run:
            run.text("written here", "note.txt")
        assert (folder / "mlruns" / "1" / run.run_id / "artifacts" / "note.txt").exists()
        assert not (checkout / "mlruns" / "1" / run.run_id).exists()


def test_a_moved_checkout_is_warned_of_once_a_process(
    checkout: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(checkout, tmp_path / "second")
    with away(checkout), own_store(folder):
        for _ in range(2):
            runs.connect()
    assert [r.levelname for r in caplog.records if str(checkout) in r.getMessage()] == ["WARNING"]


def test_a_store_that_was_copied_without_its_artefacts_is_named(checkout: Path, tmp_path: Path) -> None:
    shutil.copy(checkout / "mlflow.db", tmp_path)
    assert f"if there is no mlruns beside the store, copy it there from {checkout}" in warned(tmp_path)


def test_artefacts_that_were_sent_elsewhere_are_let_be(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store apart from the folder that its runs are started in, and locations that somebody chose."""
    apart = tmp_path / "apart"
    apart.mkdir()
    shutil.copy(checkout / "mlflow.db", apart)
    with away(checkout / "mlflow.db"):
        assert warned(apart) == ""
    client = MlflowClient(f"sqlite:///{apart}/mlflow.db")
    for name, place in (
        ("chosen", tmp_path / "artefacts"),
        ("far", "s3://bucket/artefacts"),
        ("file", f"file://{tmp_path}/x"),
    ):
        client.create_experiment(name, artifact_location=str(place))
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        assert warned(apart) == ""


def test_a_server_is_asked_for_its_health_and_nothing_more(tmp_path: Path) -> None:
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Server) as server, own_store(tmp_path):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mlflow.set_tracking_uri(f"http://127.0.0.1:{server.server_port}")
        runs.connect()
        server.shutdown()
    assert asked == ["/health"]
    assert local_store.left("postgresql://localhost/mlflow") is None
