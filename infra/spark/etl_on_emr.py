"""The driver's script of an EMR Serverless job: RAW LAKE EXPERIMENTS AS_OF, the first three s3:// prefixes.

It fetches the experiments folder, runs `spanishgas etl` on Spark into a local lake, and copies the lake to S3: first
the snapshots, then the pointers, so that a reader sees whole tables.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import boto3


def main(raw: str, lake: str, experiments: str, as_of: str) -> int:
    """Exit code of `spanishgas etl`; the lake is copied where it is 0."""
    with tempfile.TemporaryDirectory() as work:
        home = Path(work)
        fetch(experiments, home / "experiments")
        os.environ["SPANISHGAS_EXPERIMENTS"] = str(home / "experiments")
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
        command = ["etl", "--raw", raw, "--lake", str(home / "lake"), "--as_of", as_of, "--engine", "spark"]
        code = verb(command)
        if code == 0:
            send(home / "lake", lake)
        return code


def verb(command: list[str]) -> int:
    """Run a verb in this process, whose Spark session is the job's."""
    from spanishgas.cli import run  # here: it reads the settings above

    sys.argv = ["spanishgas", *command]
    try:
        run()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def fetch(prefix: str, folder: Path) -> None:
    """Download the files under a prefix."""
    bucket, key = _parted(prefix)
    folder.mkdir()
    for page in boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key}/"):
        for item in page.get("Contents", []):
            if not item["Key"].endswith("/"):
                boto3.client("s3").download_file(bucket, item["Key"], str(folder / Path(item["Key"]).name))


def send(folder: Path, prefix: str) -> None:
    """Upload a lake, its `_current.json` last."""
    bucket, key = _parted(prefix)
    files = [
        file
        for layer in ("bronze", "silver", "gold")
        for file in (folder / layer).rglob("*")
        if file.is_file()
    ]
    for file in sorted(files, key=lambda file: (file.name == "_current.json", file)):
        boto3.client("s3").upload_file(str(file), bucket, f"{key}/{file.relative_to(folder)}")


def _parted(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key.rstrip("/")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
