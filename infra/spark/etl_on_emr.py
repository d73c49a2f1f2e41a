"""The driver's script of an EMR Serverless job: RAW LAKE EXPERIMENTS AS_OF, the first three s3:// prefixes.

It fetches the experiments folder and runs `spanishgas etl` on Spark into the lake.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import boto3

from spanishgas.aws.job import secrets


def main(raw: str, lake: str, experiments: str, as_of: str) -> int:
    """Exit code of `spanishgas etl`."""
    with tempfile.TemporaryDirectory() as work:
        fetch(experiments, Path(work, "experiments"))
        os.environ["SPANISHGAS_EXPERIMENTS"] = f"{work}/experiments"
        os.environ["SPANISHGAS_CACHE"] = f"{work}/cache"
        os.environ.update(secrets())
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{work}/mlflow.db")
        return verb(["etl", "--raw", raw, "--lake", lake, "--as_of", as_of, "--engine", "spark"])


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
    bucket, _, key = prefix.removeprefix("s3://").rstrip("/").partition("/")
    folder.mkdir()
    for page in boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key}/"):
        for item in page.get("Contents", []):
            if not item["Key"].endswith("/"):
                boto3.client("s3").download_file(bucket, item["Key"], str(folder / Path(item["Key"]).name))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
