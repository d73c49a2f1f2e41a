"""Raw files, and the whole way from them to a lake, under s3:// prefixes; over HTTP on moto's server."""

from __future__ import annotations

import socket
from datetime import date
from pathlib import Path

import boto3
import pandas as pd
import pytest
from typer.testing import CliRunner

from spanishgas import cli
from spanishgas.errors import DataError, UsageError
from spanishgas.etl.build import build
from spanishgas.etl.source import open_source
from spanishgas.lake import Lake
from tests.raw_builder import write_raw

AS_OF = date(2024, 12, 31)
HOURS = "consumption_hourly_2024"


def upload(raw: Path, bucket: str, prefix: str = "2024-12-31") -> str:
    client = boto3.client("s3")
    for file in raw.rglob("*"):
        if file.is_file():
            client.upload_file(str(file), bucket, f"{prefix}/{file.relative_to(raw)}")
    return f"s3://{bucket}/{prefix}"


def parted(folder: Path) -> Path:
    """A raw folder whose hours lie in three parts."""
    raw = write_raw(folder)
    frame = pd.read_parquet(raw / f"{HOURS}.parquet")
    (raw / f"{HOURS}.parquet").unlink()
    (raw / HOURS).mkdir()
    for part in range(3):
        frame.iloc[part::3].to_parquet(raw / HOURS / f"part-{part}.parquet", index=False)
    return raw


def test_a_prefix_gives_the_gold_of_the_folder_it_was_copied_from(bucket: str, tmp_path: Path) -> None:
    local = build(write_raw(tmp_path / "plain"), Lake(tmp_path / "a"), AS_OF).snapshots["gold_master"]
    raw = parted(tmp_path / "raw")
    (raw / "notes").mkdir()
    (raw / "notes" / "other.csv").write_text("not ours")
    remote = build(upload(raw, bucket), Lake(tmp_path / "b"), AS_OF)
    assert remote.snapshots["gold_master"].manifest.digest == local.manifest.digest
    assert not list((tmp_path / "b").rglob("other.csv"))
    assert build(f"s3://{bucket}/2024-12-31/", Lake(tmp_path / "b"), AS_OF).reused


def test_only_what_changed_is_downloaded_again(bucket: str, tmp_path: Path) -> None:
    raw, cache = parted(tmp_path / "raw"), tmp_path / "cache"
    uri = upload(raw, bucket)
    open_source(uri, cache=cache)
    before = {file.name: file.stat().st_mtime_ns for file in (cache / "objects").iterdir()}
    (raw / "churn_label.csv").write_text("customer_id,churn\nC9,1\n")
    upload(raw, bucket)
    again = open_source(uri, cache=cache)
    after = {file.name: file.stat().st_mtime_ns for file in (cache / "objects").iterdir()}
    assert len(after.keys() - before.keys()) == 1
    assert before.items() <= after.items()
    assert again.text("churn_label").to_pylist() == [{"customer_id": "C9", "churn": "1"}]


def test_a_part_that_is_gone_is_no_longer_read(bucket: str, tmp_path: Path) -> None:
    uri = upload(parted(tmp_path / "raw"), bucket)
    open_source(uri, cache=tmp_path / "cache")
    boto3.client("s3").delete_object(Bucket=bucket, Key=f"2024-12-31/{HOURS}/part-1.parquet")
    parts = open_source(uri, cache=tmp_path / "cache").file(HOURS)
    assert sorted(file.name for file in parts.iterdir()) == ["part-0.parquet", "part-2.parquet"]


def test_half_a_download_never_counts(bucket: str, tmp_path: Path) -> None:
    uri, cache = upload(write_raw(tmp_path / "raw"), bucket), tmp_path / "cache"
    whole = open_source(uri, cache=cache)
    text = whole.text("price_history")
    # What a kill leaves behind: an object that was not renamed yet, and a folder that was not either.
    [victim] = [
        f for f in (cache / "objects").iterdir() if f.read_bytes() == whole.file("price_history").read_bytes()
    ]
    half = victim.read_bytes()[:100]
    victim.unlink()
    (cache / "objects" / f".{victim.name}-killed").write_bytes(half)
    whole.folder.rename(cache / ".staging-killed")
    assert open_source(uri, cache=cache).text("price_history").equals(text)


def test_a_mapping_beside_the_files_is_used(bucket: str, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / "churn_label.csv").rename(raw / "bajas.csv")
    (raw / "mapping.yaml").write_text("churn_label: {file: bajas.csv}")
    source = open_source(upload(raw, bucket), cache=tmp_path / "cache")
    assert source.text("churn_label").num_rows == 3


def test_a_bucket_or_prefix_that_is_not_there_is_named(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="s3://no-such-bucket-here/x cannot be read: there is no such bucket"):
        open_source("s3://no-such-bucket-here/x", cache=tmp_path)
    with pytest.raises(DataError, match=f"s3://{bucket}/nothing holds no object"):
        open_source(f"s3://{bucket}/nothing", cache=tmp_path)
    with pytest.raises(UsageError, match="names no bucket"):
        open_source("s3://", cache=tmp_path)


def test_missing_credentials_are_named_with_the_way_out(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DataError, match="no credentials: set AWS_PROFILE"):
        open_source(f"s3://{bucket}/x", cache=tmp_path)


def test_a_store_that_does_not_answer_is_named(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(
        DataError, match=f"Could not connect to the endpoint URL.*{endpoint}.*Check AWS_ENDPOINT_URL"
    ):
        open_source(f"s3://{bucket}/x", cache=tmp_path)


def said(*words: str) -> str:
    """What a verb prints when it ends well."""
    ended = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert ended.exit_code == 0
    return ended.output


def test_the_verbs_take_a_lake_on_s3_in_place_of_a_folder(bucket: str, tracking: Path) -> None:
    lake = f"s3://{bucket}/lake"
    raw = f"{lake}/raw/2024-12-31"
    said("simulate", "--customers", "12", "--out", raw)
    with pytest.raises(UsageError, match=f"{raw} exists already"):
        said("simulate", "--customers", "12", "--out", raw)
    assert f"gold_master: 12 rows, {lake}/gold/gold_master/" in said("etl", "--lake", lake)
    gold = Lake(lake).current("gold_master")
    assert said("where", "gold_master", "--lake", lake) == f"{gold.uri}\n"
    assert said("where", "price_history", "--lake", lake) == f"{raw}/price_history.csv\n"
    assert len(gold.pandas()) == 12
    assert Lake(lake).store.listing("truth/2024-12-31")
    assert build(raw, Lake(lake), AS_OF).reused
    assert said("prune", "--lake", lake).startswith("0 snapshots")
    assert {path.name for path in tracking.iterdir()} <= {"mlflow.db", "mlruns", "mlartifacts", "cache"}


def test_validate_copies_to_where_etl_looks(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = upload(write_raw(tmp_path / "raw"), bucket)
    said("validate", "--raw", uri, "--lake", "other")
    copies = {file: file.stat().st_mtime_ns for file in (tmp_path / "other/downloads/objects").iterdir()}
    assert len(copies) == 7
    build(uri, Lake("other"), AS_OF)
    assert {
        file: file.stat().st_mtime_ns for file in (tmp_path / "other/downloads/objects").iterdir()
    } == copies
    assert not (tmp_path / "lake").exists()
