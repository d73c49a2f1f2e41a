"""Raw files under an s3:// prefix, read over HTTP from moto's server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import boto3
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from spanishgas.errors import DataError, UsageError
from spanishgas.etl import build
from spanishgas.etl.source import open_source
from spanishgas.lake import Lake
from tests.raw_builder import write_raw

AS_OF = date(2024, 12, 31)
HOURS = "consumption_hourly_2024"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty bucket of the test's own, and an environment that leads to it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-south-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    name = tmp_path.name.lower().replace("_", "-")
    boto3.client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-south-2"}
    )
    return name


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
