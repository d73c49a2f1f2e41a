"""Old snapshots go when nothing refers to them; a person goes from every layer, and the lineage says so."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient

from spanishgas.cli.data import prune
from spanishgas.errors import DataError, UsageError
from spanishgas.etl.build import build
from spanishgas.etl.source import open_source
from spanishgas.lake import Lake, S3Store, Store
from spanishgas.lifecycle import erasure, retention
from spanishgas.settings import settings
from tests.raw_builder import contact, rows, write_raw

DAY = date(2024, 12, 31)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a raw extract, its truth and its tables."""
    lake = Lake(tmp_path_factory.mktemp("built") / "lake")
    odd = [*rows()["customer_interactions"], contact("C2", "not a date")]
    write_raw(lake.raw(DAY), customer_interactions=odd)
    truth = lake.root / "truth" / DAY.isoformat()
    truth.mkdir(parents=True)
    pd.DataFrame({"customer_id": ["C1", "C2"], "p": [0.1, 0.2]}).to_parquet(truth / "truth.parquet")
    build(lake.raw(DAY), lake, DAY)
    return lake.root


@pytest.fixture
def lake(built: Path, tmp_path: Path) -> Lake:
    return Lake(shutil.copytree(built, tmp_path / "lake"))


def customers(root: Path) -> set[str]:
    """Every customer id in the raw files, truth and tables of the lake."""
    found: set[str] = set()
    for file in root.rglob("*.parquet"):
        table = pq.read_table(file)
        if "customer_id" in table.column_names:
            found |= set(table["customer_id"].cast("string").to_pylist())
    for file in root.rglob("*.csv"):
        frame = pd.read_csv(file)
        found |= set(frame.get("customer_id", ()))
    for file in root.rglob("customer_interactions.json"):
        found |= {record["customer_id"] for record in json.loads(file.read_text())}
    return found


def test_a_person_is_erased_from_every_layer_and_the_others_stay(lake: Lake) -> None:
    gold = lake.current("gold_master")
    assert customers(lake.root) == {"C1", "C2", "C3"}
    done = erasure.erase("C2", lake, reason="asked for")
    assert customers(lake.root) == {"C1", "C3"}
    assert {Path(place).relative_to(lake.root).parts[0] for place in done.rows} >= {
        "raw",
        "truth",
        "bronze",
        "silver",
        "gold",
    }
    assert done.gold == {gold.manifest.digest}
    before, after = gold.manifest, lake.by_digest(gold.manifest.digest, "gold_master").manifest
    assert [(e.rows, e.reason) for e in after.erased] == [(1, "asked for")]
    assert (before.rows, after.rows) == (3, 2)
    assert not any("C2" in file.read_text() for file in lake.root.rglob("_manifest.json"))


def test_counting_first_changes_nothing(lake: Lake) -> None:
    before = {p: p.read_bytes() for p in lake.root.rglob("*") if p.is_file()}
    done = erasure.erase("C2", lake, reason="asked for", dry=True)
    assert sum(done.rows.values()) > 50
    assert {p: p.read_bytes() for p in lake.root.rglob("*") if p.is_file()} == before


def test_what_is_built_after_an_erasure_equals_a_lake_that_never_held_the_person(
    lake: Lake, tmp_path: Path
) -> None:
    erasure.erase("C2", lake, reason="asked for")
    again = build(lake.raw(DAY), lake, DAY)
    assert not again.reused
    without = {n: [r for r in table if r.get("customer_id") != "C2"] for n, table in rows().items()}
    fresh = build(write_raw(tmp_path / "raw", **without), Lake(tmp_path / "fresh"), DAY)
    digests = {name: snapshot.manifest.digest for name, snapshot in again.snapshots.items()}
    assert digests == {name: snapshot.manifest.digest for name, snapshot in fresh.snapshots.items()}


def test_a_person_that_is_unknown_or_erased_already_is_an_error(lake: Lake) -> None:
    erasure.erase("C2", lake, reason="asked for")
    for customer_id in ("C2", "C99"):
        with pytest.raises(DataError, match=f"nothing of customer '{customer_id}'"):
            erasure.erase(customer_id, lake, reason="asked for")


def test_a_reason_that_names_the_person_is_refused(lake: Lake) -> None:
    with pytest.raises(UsageError, match="leave it out"):
        erasure.erase("C2", lake, reason="C2 asked for it")


@pytest.mark.parametrize("replaced", [1, 4, 8, 10])
def test_an_erasure_that_is_killed_is_finished_by_the_next(lake: Lake, replaced: int) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from spanishgas.lake import Lake\n"
        "from spanishgas.lifecycle import erasure\n"
        "real, left = os.replace, [int(sys.argv[2])]\n"
        "def replace(a, b):\n"
        "    real(a, b); left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.replace = replace\n"
        "erasure.erase('C2', Lake(sys.argv[1]), reason='asked for')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(lake.root), str(replaced)], check=False)
    assert ended.returncode == -signal.SIGKILL
    erasure.erase("C2", lake, reason="asked for")
    assert customers(lake.root) == {"C1", "C3"}
    for snapshot, _ in lake.snapshots():
        assert len(snapshot.pandas()) == snapshot.manifest.rows


def small(root: Path) -> Lake:
    """A lake of a few rows: raw files, truth, two gold tables, scores, and what is left of killed runs."""
    lake = Lake(root)
    ids = pd.DataFrame({"customer_id": ["C00041", "C00042", "C00043"]})
    for folder in ("raw/2024-12-31", "raw/old", "truth/2024-12-31", "raw/.2024-12-31.0a1b2c3d", "tmp1234"):
        (root / folder).mkdir(parents=True)
        ids.to_csv(root / folder / "churn_label.csv", index=False)
    ids.to_parquet(root / "truth" / "2024-12-31" / "truth.parquet")
    for table, extra in (("gold_master", 1), ("gold_master", 2), ("scores", 1), ("quarantine", 1)):
        rows = ids.assign(extra=extra, row=[json.dumps({"ID": i}) for i in ids["customer_id"]])
        if table == "quarantine":
            rows["customer_id"] = None
        lake.publish(
            table,
            DAY,
            lambda folder, rows=rows: rows.astype({"customer_id": "str"}).to_parquet(
                folder / "part-0.parquet"
            ),
            built_from={},
            fingerprint="f",
            code={},
        )
    lake.write_note("gold_master", DAY, "_quality.json", '{"longest": "C00042"}')
    home = root / "gold" / "gold_master" / "as_of=2024-12-31"
    for place in (home / ".staging-killed", home / "0123456789abcdef", root / "downloads" / "x"):
        place.mkdir(parents=True)
        ids.to_parquet(place / "part-0-aaaa.parquet")
    return lake


def naming(root: Path, person: str) -> list[str]:
    """Every file whose bytes, or whose values if it is a table, hold the id."""
    found = []
    for file in (file for file in root.rglob("*") if file.is_file()):
        text = str(pq.read_table(file).to_pylist()) if file.suffix == ".parquet" else ""
        if person in text or person.encode() in file.read_bytes():
            found.append(file.relative_to(root).as_posix())
    return found


def test_after_an_erasure_no_file_of_the_lake_holds_the_id(tmp_path: Path) -> None:
    lake = small(tmp_path / "lake")
    assert len(naming(lake.root, "C00042")) == 14
    done = erasure.erase("C00042", lake, reason="asked for")
    assert naming(lake.root, "C00042") == done.left == []
    assert naming(lake.root, "C00041")
    assert len(done.gold) == 2
    assert all(len(snapshot.pandas()) == snapshot.manifest.rows == 2 for snapshot, _ in lake.snapshots())


class Killed(BaseException):
    """The end of a process, in this one: nothing catches it."""


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_an_erasure_that_ends_at_any_step_is_finished_by_the_next_which_names_all_that_is_left_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int
) -> None:
    whole = small(tmp_path / "whole")
    golds = {s.manifest.digest for s, _ in whole.snapshots() if s.manifest.table == "gold_master"}
    for step in itertools.count(0, stride):
        lake, left = Lake(shutil.copytree(whole.root, tmp_path / str(step))), [step]

        def counted(change: Callable[..., object], left: list[int] = left) -> Callable[..., object]:
            def instead(*words: object, **more: object) -> object:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return change(*words, **more)

            return instead

        with monkeypatch.context() as patch:
            for place, name in ((os, "replace"), (os, "unlink"), (Path, "unlink"), (shutil, "rmtree")):
                patch.setattr(place, name, counted(getattr(place, name)))
            with suppress(Killed):
                erasure.erase("C00042", lake, reason="asked for")
                break
        done = erasure.erase("C00042", lake, reason="asked for")
        assert (done.gold, done.dates, done.left) == (golds, {DAY}, [])
        assert naming(lake.root, "C00042") == []
        assert not list(lake.root.glob("_erasing*"))
        for snapshot, _ in lake.snapshots():
            assert len(snapshot.pandas()) == snapshot.manifest.rows
    assert step > 40


def test_what_an_erasure_cannot_mend_is_named_and_the_rest_is_erased(tmp_path: Path) -> None:
    lake = small(tmp_path / "lake")
    (lake.root / "raw" / "letter.txt").write_text("C00042 wrote to us")
    (lake.root / ".notes").write_text("C00042 called")
    part = next((lake.root / "scored").rglob("*.parquet"))
    damaged = bytearray(part.read_bytes())
    damaged[50] ^= 1
    part.write_bytes(damaged)
    for _ in range(2):
        done = erasure.erase("C00042", lake, reason="asked for")
        assert {line.split()[0] for line in done.left} == {
            str(file) for file in (lake.root / "raw" / "letter.txt", lake.root / ".notes", part)
        }
    for file in (lake.root / "raw" / "letter.txt", lake.root / ".notes", part):
        file.unlink()
    done = erasure.erase("C00042", lake, reason="asked for")
    assert (len(done.gold), done.left, naming(lake.root, "C00042")) == (2, [], [])


def test_parts_whose_manifest_cannot_be_read_lose_the_person_too(tmp_path: Path) -> None:
    lake = small(tmp_path / "lake")
    for manifest in lake.root.rglob("_manifest.json"):
        manifest.write_text("{")
    assert erasure.erase("C00042", lake, reason="asked for").left == []
    assert naming(lake.root, "C00042") == []


def test_prune_removes_what_killed_runs_left(
    tmp_path: Path, tracking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = small(tmp_path / "lake")
    left = [lake.root / "raw" / ".2024-12-31.0a1b2c3d", *lake.root.rglob(".staging-killed")]
    for yes in (False, True):
        prune(keep=3, days=30, yes=yes, lake=lake)
        assert all(f"left by a run that was killed: {path}" in capsys.readouterr().out for path in left[:1])
        assert [path.exists() for path in left] == [not yes, not yes]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "json", "jsonl", "jsonl.gz"])
def test_every_kind_of_text_file_loses_the_person_and_no_other_row(tmp_path: Path, ending: str) -> None:
    file, records = tmp_path / f"a.{ending}", [{"customer_id": i, "text": 'a "b",\nc'} for i in ("C1", "C10")]
    frame = pd.DataFrame(records)
    if ending.startswith("csv"):
        frame.to_csv(file, index=False)
    else:
        frame.to_json(file, orient="records", lines="jsonl" in ending)
    Lake(tmp_path / "lake").root.mkdir()
    done = erasure.erase("C1", Lake(tmp_path / "lake"), reason="asked for", raw=tmp_path)
    assert done.rows == {str(file): 1}
    text = gzip.decompress(file.read_bytes()).decode() if ending.endswith("gz") else file.read_text()
    assert "C10" in text
    assert "C1" not in text.replace("C10", "")


@pytest.fixture
def remote(built: Path, bucket: str) -> Lake:
    """The same lake on S3."""
    lake = Lake(f"s3://{bucket}/lake")
    for file in (f for f in built.rglob("*") if f.is_file() and ".locks" not in f.parts):
        lake.store.put(file, file.relative_to(built).as_posix())
    return lake


def copied(store: Store, to: Path) -> Path:
    """What lies in a store, under the same names in a folder."""
    return Path(shutil.copytree(store.fetch("", store.listing()), to))


def test_a_lake_on_s3_loses_the_person_as_a_folder_does(remote: Lake, lake: Lake, tmp_path: Path) -> None:
    gold = remote.current("gold_master")
    assert "C2" in set(gold.pandas()["customer_id"])
    done, local = (erasure.erase("C2", each, reason="asked for") for each in (remote, lake))
    assert not remote.store.downloads.exists()
    assert sum(done.rows.values()) >= sum(local.rows.values())
    assert done.gold == {gold.manifest.digest}
    assert customers(copied(remote.store, tmp_path / "copy")) == {"C1", "C3"}
    after = remote.by_digest(gold.manifest.digest, "gold_master")
    assert (after.manifest.rows, [e.rows for e in after.manifest.erased]) == (2, [1])
    assert set(after.pandas()["customer_id"]) == {"C1", "C3"}


def test_a_raw_extract_on_s3_and_its_copies_lose_the_person_under_the_columns_own_name(
    bucket: str, lake: Lake, tmp_path: Path
) -> None:
    raw = write_raw(tmp_path / "raw")
    frame = pd.read_csv(raw / "customer_attributes.csv").rename(columns={"customer_id": "ID"})
    frame.assign(customer_id="C2").to_csv(raw / "clientes.csv", index=False, sep=";")
    (raw / "customer_attributes.csv").unlink()
    mapping = "customer_attributes: {file: clientes.csv, columns: {customer_id: ID}}"
    (raw / "mapping.yaml").write_text(mapping)
    outside = S3Store(f"s3://{bucket}/raw")
    for file in raw.iterdir():
        outside.put(file, file.name)
    open_source(outside.root, cache=lake.store.downloads)
    done = erasure.erase("C2", lake, reason="asked for", raw=outside.root)
    assert done.rows[f"s3://{bucket}/raw/clientes.csv"] == 1
    assert [rows for place, rows in done.rows.items() if place.endswith("clientes.csv")] == [1, 1]
    assert not lake.store.downloads.exists()
    left = pd.read_csv(copied(outside, tmp_path / "copy") / "clientes.csv", sep=";")
    assert [*left["ID"]] == ["C1", "C3"]


def test_a_mapping_that_lies_elsewhere_can_be_named(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "labels.csv").write_text("ID,churn\nC77,1\nC78,0\n")
    (tmp_path / "ours.yaml").write_text("churn_label: {file: labels.csv, columns: {customer_id: ID}}")
    erasure.erase("C77", lake, reason="x", raw=tmp_path / "raw", mapping=tmp_path / "ours.yaml")
    assert (tmp_path / "raw" / "labels.csv").read_text() == "ID,churn\nC78,0\n"


def test_versions_that_cannot_be_listed_are_named_by_their_training_table(
    monkeypatch: pytest.MonkeyPatch, tracking: Path
) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    [line] = retention.to_train({"d1", "d0"})
    assert line.startswith("model versions could not be listed (")
    assert line.endswith("train those whose tag data.digest is d0 or d1 again")
    assert retention.to_train([]) == []


def aged(lake: Lake) -> Lake:
    """Every manifest a year old, and each table's rows published anew."""
    for file in lake.root.rglob("_manifest.json"):
        os.utime(file, (1e9, 1e9))
    raw = rows() | {"churn_label": [{"customer_id": i, "churn": 1} for i in ("C1", "C2", "C3")]}
    shutil.rmtree(lake.raw(DAY))
    build(write_raw(lake.raw(DAY), **raw), lake, DAY)
    return lake


def test_gold_stays_while_no_version_can_say_what_it_was_trained_on(tracking: Path, lake: Lake) -> None:
    tables = {s.manifest.table for s in retention.prunable(aged(lake), keep=1, days=30)}
    assert "gold_master" not in tables


def test_gold_goes_but_for_what_a_registered_version_was_trained_on(tracking: Path, lake: Lake) -> None:
    old = lake.current("gold_master").manifest.digest
    client, name = MlflowClient(), settings().registered_model
    client.create_registered_model(name)
    client.create_model_version(name, "file:///nowhere", tags={"data.digest": "0" * 64})
    aged(lake)
    assert old in {s.manifest.digest for s in retention.prunable(lake, keep=1, days=30)}
    client.create_model_version(name, "file:///nowhere", tags={"data.digest": old})
    assert old not in {s.manifest.digest for s in retention.prunable(lake, keep=1, days=30)}
    assert retention.to_train({old}) == [
        "train again: version 2 of spanishgas-churn was trained on rows of this person"
    ]
