"""The doctor finds what is wrong, says how to mend it, and finds nothing wrong with a machine that works."""

from __future__ import annotations

import socket
from datetime import date
from pathlib import Path

import pytest

from spanishgas import doctor
from spanishgas.doctor import Finding, State
from spanishgas.errors import TrackingError
from spanishgas.lake import Lake
from spanishgas.settings import settings
from tests.gold_frames import gold_frame, publish_gold
from tests.tracked import forget


def states(findings: list[Finding], what: str) -> list[State]:
    return [finding.state for finding in findings if finding.what == what]


def test_a_machine_that_runs_these_tests_has_no_fault(tracking: Path, tmp_path: Path) -> None:
    found = doctor.examine(Lake(tmp_path / "lake"))
    assert [f for f in found if f.state is State.FAULT and f.what != "disk"] == []
    assert {f.what for f in found} >= {"python", "packages", "configuration", "lake", "disk", "tracking"}
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_another_python_and_a_package_out_of_its_range_are_faults() -> None:
    assert [f.state for f in doctor.python((3, 10))] == [State.FAULT]
    (found,) = doctor.packages(["numpy<1", "pandas>=3", "nowhere-to-be-found", "absent ; extra == 'spark'"])
    assert found.state is State.FAULT
    assert "nowhere-to-be-found is missing" in found.words
    assert "numpy" in found.words
    assert "absent" not in found.words
    assert "pandas" not in found.words


def test_a_policy_with_an_unknown_key_is_a_fault_that_names_it(tracking: Path, experiments: Path) -> None:
    with (experiments / "policy.yaml").open("a") as policy:
        policy.write("tresholds: 1\n")
    forget()
    (found,) = (f for f in doctor.examine(Lake(tracking / "lake")) if f.what == "configuration")
    assert found.state is State.FAULT
    assert "tresholds" in found.words


def test_a_file_in_the_lakes_place_is_a_fault_and_a_damaged_table_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert [f.state for f in doctor.tables(Lake(tmp_path / "file"))] == [State.FAULT]
    lake = Lake(tmp_path / "lake")
    snapshot = publish_gold(lake, gold_frame(50), date(2024, 12, 31))
    gold, scores = doctor.tables(lake)
    assert (gold.state, scores.state) == (State.OK, State.NOTE)
    assert "50 rows" in gold.words
    next(iter(Path(snapshot.folder).glob("*.parquet"))).write_bytes(b"")
    assert State.FAULT in [finding.state for finding in doctor.tables(lake)]


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
    (fault,) = (finding for finding in doctor.tables(lake) if finding.state is State.FAULT)
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
    assert [f.state for f in found] == [State.FAULT]
    assert str(tmp_path / "file") in found[0].words


def test_a_full_disk_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = next(doctor.disk(tmp_path)).words.split()[0]
    monkeypatch.setattr(doctor, "SCARCE_GB", float(free) + 100)
    monkeypatch.setattr(doctor, "AMPLE_GB", float(free) + 200)
    assert next(doctor.disk(tmp_path)).state is State.FAULT


def test_a_server_that_does_not_answer_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

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


def test_a_study_storage_that_cannot_be_opened_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="SPANISHGAS_STUDY_STORAGE"):
        list(doctor.studies(f"sqlite:///{tmp_path}"))  # a folder
    (found,) = doctor.studies(f"sqlite:///{tmp_path}/optuna.db")
    assert found.state is State.OK


def test_a_port_that_is_taken_is_a_note() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert [f.state for f in doctor.ports({port: "make ui"})] == [State.NOTE]
    assert [f.state for f in doctor.ports({port: "make ui"})] == [State.OK]
