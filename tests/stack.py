"""The stack of AWS on this machine, for trying it and for tests: `make stack`.

    PostgreSQL <- MLflow's server, by the container's own script, with basic auth -> artefacts on S3 (moto, over HTTP)
    raw files put under raw/<as_of>/ -> the upload function -> the state machine, executed by moto
      -> each job as the process that SageMaker would start: `python -m spanishgas.aws.job ...`

          -> a batch transform job, whose work tests/sagemaker_double.py does behind moto's API

What differs from AWS: no image is started, no policy is asked, and retries wait a second, not minutes.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from spanishgas.aws import upload
from tests import aws_stand_in, postgres
from tests.aws_stand_in import REGION, Account, JobFailed
from tests.sagemaker_double import Instances, sagemaker_double
from tests.tracking_server import await_health

PROJECT = Path(__file__).resolve().parents[1]
SERVER = PROJECT / "infra" / "tracking" / "server.py"
NAME = "spanishgas-here"
JOB = (
    "import sys; from pathlib import Path; from spanishgas.aws.job import main; "
    "sys.exit(main(sys.argv[2:], Path(sys.argv[1])))"
)


@dataclass(frozen=True)
class Stack:
    """What runs, and how to reach it."""

    account: Account
    tracking_uri: str
    user: Mapping[str, str]
    folder: Path

    def settings(self) -> dict[str, str]:
        """What a shell exports to use it."""
        aws = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        return {
            **{name: os.environ[name] for name in aws},
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_TRACKING_USERNAME": self.user["username"],
            "MLFLOW_TRACKING_PASSWORD": self.user["password"],
            "SPANISHGAS_LAKE": f"s3://{self.account.bucket}",
        }

    def take_uploads(self) -> dict[str, Any]:
        """Call the upload function for every dated folder under raw/, as events of S3 would."""
        pages = (
            boto3.client("s3")
            .get_paginator("list_objects_v2")
            .paginate(Bucket=self.account.bucket, Prefix="raw/")
        )
        keys = {item["Key"] for page in pages for item in page.get("Contents", [])}
        folders = {found[0] for key in keys if (found := re.match(r"raw/[^/]+/", key))}
        started = [upload.handler({"prefix": prefix}) for prefix in sorted(folders)]
        return {prefix: name for answer in started for prefix, name in answer.items()}


@contextmanager
def running(trials: int = 8) -> Iterator[Stack]:
    """The whole stack, gone with all its data afterwards; `trials` is what an upload's search gets."""
    with (
        tempfile.TemporaryDirectory(prefix="spanishgas-stack-") as name,
        ExitStack() as serving,
        pytest.MonkeyPatch.context() as patch,
        sagemaker_double(Instances(Path(name) / "serving", serving), patch),
        postgres.running() as database,
    ):
        folder = Path(name)
        with aws_stand_in.running(_verbs(folder)), _tracking(folder, database) as (uri, user):
            values = {
                "tracking_uri": uri,
                "tracking_secret": _secret("pipeline", {**user, "sealing_key": secrets.token_hex(32)}),
                "transform_prefix": "scored/transform",
                "transform_role": aws_stand_in.ROLE,
                "transform_instance": "ml.m5.xlarge",
                "trials": str(trials),
            }
            account = aws_stand_in.account(NAME, values)
            before = dict(os.environ)
            os.environ.update(account.environment())
            upload._client.cache_clear()
            try:
                yield Stack(account, uri, user, folder)
            finally:
                upload._client.cache_clear()
                os.environ.clear()
                os.environ.update(before)


def _verbs(folder: Path) -> aws_stand_in.Work:
    """The work of a job: its own entry point, in a process of its own."""

    def work(given: Mapping[str, Any]) -> str:
        words = given["AppSpecification"]["ContainerArguments"]
        message = folder / f"message-{uuid.uuid4().hex}"
        own = {
            "PYTHONPATH": str(PROJECT),
            "SPANISHGAS_CACHE": str(folder / "cache"),
            "SPANISHGAS_TRANSFORM_POLL_SECONDS": "0.2",
        }
        with (folder / "jobs.log").open("a") as log:
            log.write(f"$ {shlex.join(words)}\n")
            log.flush()
            done = subprocess.run(
                [sys.executable, "-c", JOB, message, *words],
                env={**os.environ, **given["Environment"], **own},
                cwd=folder,
                stdout=log,
                stderr=log,
                check=False,
            )
        said = message.read_text() if message.exists() else f"exit code {done.returncode}"
        if done.returncode:
            raise JobFailed(said)
        return said

    return work


@contextmanager
def _tracking(folder: Path, database: int) -> Iterator[tuple[str, Mapping[str, str]]]:
    """URI of the tracking server and its pipeline's user, all by the container's script."""
    postgres.execute(postgres.address(database, "postgres"), "CREATE DATABASE mlflow")
    boto3.client("s3").create_bucket(
        Bucket="artefacts", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    user = {"username": "pipeline", "password": secrets.token_urlsafe(24)}
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_urlsafe(24),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(24),
        "TRACKING_HOST": "127.0.0.1",
        "TRACKING_LISTEN": "127.0.0.1",
        "TRACKING_PORT": str(port),
        "TRACKING_URI": f"http://127.0.0.1:{port}",
        "TRACKING_ARTIFACTS": "s3://artefacts/models",
        "TRACKING_DATABASE_HOST": "127.0.0.1",
        "TRACKING_DATABASE_PORT": str(database),
        "TRACKING_DATABASE_SECRET": _secret(
            "database", {"username": postgres.USER, "password": "any: \\ password"}
        ),
        "TRACKING_USER": user["username"],
        "TRACKING_USER_PASSWORD": user["password"],
    }

    def once(command: str) -> None:
        done = subprocess.run(
            [sys.executable, SERVER, command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    once("upgrade")
    with (folder / "tracking.log").open("w") as log:
        server = subprocess.Popen([sys.executable, SERVER, "serve"], env=environment, stdout=log, stderr=log)
    try:
        await_health(server, port, folder / "tracking.log")
        once("users")
        yield environment["TRACKING_URI"], user
        once("upgrade")
    finally:
        server.terminate()
        server.wait(timeout=60)


def _secret(name: str, content: Mapping[str, str]) -> str:
    arn: str = boto3.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(content))[
        "ARN"
    ]
    return arn


def main() -> None:
    """Run the stack until Ctrl-C or SIGTERM, starting the pipeline for what is uploaded."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request would hide what is said here
    try:
        with running() as stack:
            print(
                "\n".join(f"export {name}={shlex.quote(value)}" for name, value in stack.settings().items())
            )
            print(f"# State machine {stack.account.machine}")
            print(f"# Logs of the jobs and the server: {stack.folder}")
            print(
                f"# Put raw files under s3://{stack.account.bucket}/raw/<as_of>/ to start it; Ctrl-C ends it all.",
                flush=True,
            )
            while True:
                for prefix, execution in stack.take_uploads().items():
                    print(f"# {prefix}: execution {execution}", flush=True)
                time.sleep(2)
    except KeyboardInterrupt:
        print("# The stack is gone, with all its data.")


if __name__ == "__main__":
    main()
