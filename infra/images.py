"""Build every image by whatever builder there is, start each as its service does, and print its size: `make images`.

    python -m infra.images [--only serve,lambda] [--builder docker|podman|buildah] [PYTHON=an-image LAMBDA=an-image ...]

What follows the options are arguments of the Dockerfile. The containers use this machine's network: port 8080 for the
serving image, 5000 for the tracking server.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import urllib3

import spanishgas
from spanishgas.config.search import XGBOOST

BUILDERS = ("docker", "podman", "buildah")
PROJECT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Container:
    """How an image is started: its words, another entry point than its own, its environment and read-only folders."""

    words: Sequence[str] = ()
    entry: str = ""
    environment: Mapping[str, str] | None = None
    folders: Mapping[Path, str] | None = None


@dataclass(frozen=True)
class Builder:
    """Docker, podman or buildah, whose commands differ little."""

    name: str

    def build(self, target: str, arguments: Sequence[str]) -> None:
        """Build a target, with Docker's manifest, as SageMaker wants it."""
        form = [] if self.name == "docker" else ["--format", "docker", "--layers"]  # targets share stages
        given = [word for argument in arguments for word in ("--build-arg", argument)]
        command = [self.name, "build", *form, *given, "--target", target, "--tag", image(target), "."]
        subprocess.run(command, cwd=PROJECT, check=True)

    def size(self, target: str) -> str:
        """The size of an image, as the builder says it."""
        return _output([self.name, "images", "--format", "{{.Size}}", image(target)]).splitlines()[0]

    @contextmanager
    def started(self, target: str, how: Container) -> Iterator[subprocess.Popen[str]]:
        """The container's process, gone with its container afterwards."""
        name = f"{image(target)}-{secrets.token_hex(4)}"
        command, remove = (
            self._buildah(target, how, name) if self.name == "buildah" else self._run(target, how, name)
        )
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                yield process
            finally:
                process.terminate()
                subprocess.run(remove, capture_output=True, check=False)

    def _run(self, target: str, how: Container, name: str) -> tuple[list[str], list[str]]:
        entry = ["--entrypoint", how.entry] if how.entry else []
        around = [*_options(how), "--network", "host", "--name", name]
        command = [self.name, "run", "--rm", *around, *entry, image(target), *how.words]
        return command, [self.name, "rm", "--force", name]

    def _buildah(self, target: str, how: Container, name: str) -> tuple[list[str], list[str]]:
        _output(["buildah", "from", "--pull-never", "--name", name, image(target)])
        config = json.loads(_output(["buildah", "inspect", name]))["OCIv1"]["config"]
        entry = [how.entry] if how.entry else config.get("Entrypoint", [])
        return ["buildah", "run", *_options(how), name, "--", *entry, *how.words], ["buildah", "rm", name]


def image(target: str) -> str:
    """The name of a target's image on this machine."""
    return f"spanishgas-{target}"


def _options(how: Container) -> list[str]:
    variables = [
        word for name, value in (how.environment or {}).items() for word in ("--env", f"{name}={value}")
    ]
    mounts = [
        word for here, there in (how.folders or {}).items() for word in ("--volume", f"{here}:{there}:ro")
    ]
    return variables + mounts


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout


def check(what: str, holds: bool, said: str = "") -> None:
    """Say whether one thing is as it should be; the first that is not ends the run."""
    print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        raise SystemExit(f"not as it should be: {what}\n{said}")


def says(builder: Builder, target: str, how: Container, wanted: str) -> None:
    """Whether the container ends well and says what is wanted."""
    with builder.started(target, how) as process:
        said, _ = process.communicate(timeout=PATIENCE_SECONDS)
        check(f"{target}: {' '.join(how.words)}", process.returncode == 0 and wanted in said, said)


def answers(process: subprocess.Popen[str], url: str) -> float:
    """Seconds until the URL answers 200."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_SECONDS and process.poll() is None:
        try:
            if urllib3.request("GET", url, timeout=2, retries=False).status == 200:
                return time.monotonic() - began
        except urllib3.exceptions.HTTPError:
            time.sleep(0.2)
    process.terminate()
    raise SystemExit(f"{url} does not answer:\n{process.communicate()[0]}")


def smoke_project(builder: Builder) -> None:
    """A verb, as whoever runs the image asks for one."""
    says(builder, "project", Container(["where", "--help"]), "Usage")


def smoke_job(builder: Builder) -> None:
    """A verb by the job's entry point, which writes its message below /opt/ml."""
    says(builder, "job", Container(["where", "--help"]), "Usage")


def smoke_serve(builder: Builder) -> None:
    """`serve`, as SageMaker starts it, and the same scores as in this process."""
    from tests.churn_models import artefact_of, churn_model, odd_gold

    frame = odd_gold(40)
    expected = spanishgas.score(frame, churn_model(XGBOOST))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        model = artefact_of(XGBOOST, Path(folder, "model"))
        with builder.started("serve", Container(["serve"], folders={model: "/opt/ml/model"})) as process:
            seconds = answers(process, "http://127.0.0.1:8080/ping")
            check(f"serve: /ping answers after {seconds:.0f} s", True)
            headers = {"Content-Type": "application/x-parquet", "Accept": "application/x-parquet"}
            url, body = "http://127.0.0.1:8080/invocations", frame.to_parquet(index=False)
            answer = urllib3.request("POST", url, body=body, headers=headers, timeout=60)
    check("serve: /invocations answers 200", answer.status == 200, answer.data.decode(errors="replace"))
    scores = pd.read_parquet(io.BytesIO(answer.data))
    same = scores["churn_probability"].tolist() == expected["churn_probability"].tolist()
    check("serve: its probabilities are those of this process to the last digit", same)


def smoke_tracking(builder: Builder) -> None:
    """`upgrade`, then `serve`, as ECS starts them, on PostgreSQL and with its password from Secrets Manager."""
    import boto3

    from tests import aws_stand_in, postgres

    with postgres.running() as port, aws_stand_in.running(lambda _: ""):
        postgres.execute(postgres.address(port, "postgres"), "CREATE DATABASE mlflow")
        user = json.dumps({"username": postgres.USER, "password": "any"})
        secret = boto3.client("secretsmanager").create_secret(Name="database", SecretString=user)["ARN"]
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name.startswith("AWS_") and "FILE" not in name
            },
            "TRACKING_DATABASE_HOST": "127.0.0.1",
            "TRACKING_DATABASE_PORT": str(port),
            "TRACKING_DATABASE_SECRET": secret,
            "TRACKING_DATABASE_CA": "",  # there is no TLS on this machine
            "TRACKING_HOST": "127.0.0.1",
            "TRACKING_ARTIFACTS": "s3://any/models",
            "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_urlsafe(24),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(24),
        }
        says(builder, "tracking", Container(["upgrade"], environment=environment), "the database is empty")
        with builder.started("tracking", Container(["serve"], environment=environment)) as process:
            seconds = answers(process, "http://127.0.0.1:5000/health")
            check(f"tracking: /health answers after {seconds:.0f} s", True)


def smoke_lambda(builder: Builder) -> None:
    """The handler, called in the image with an event that starts nothing."""
    call = "from spanishgas.aws.upload import handler; print('started', handler({}))"
    says(builder, "lambda", Container(["-c", call], entry="python"), "started {}")


SMOKES: Mapping[str, Callable[[Builder], None]] = {
    "project": smoke_project,
    "job": smoke_job,
    "serve": smoke_serve,
    "tracking": smoke_tracking,
    "lambda": smoke_lambda,
}


def works(builder: str) -> bool:
    """Whether a builder is installed and can build: Docker's command may lack its engine."""
    command = [builder, "info"]
    return shutil.which(builder) is not None and subprocess.run(command, capture_output=True).returncode == 0


def main(words: Sequence[str]) -> int:
    """Build, try and weigh the targets; 2 where there is no builder."""
    parser = argparse.ArgumentParser(prog="python -m infra.images")
    parser.add_argument("--only", default=",".join(SMOKES))
    parser.add_argument("--builder", choices=BUILDERS, default=next(filter(works, BUILDERS), None))
    parser.add_argument("arguments", nargs="*", metavar="NAME=VALUE")
    given = parser.parse_args(words)
    if given.builder is None:
        print(
            f"none of {', '.join(BUILDERS)} can build here: install one (Debian: apt install buildah)",
            file=sys.stderr,
        )
        return 2
    builder, targets = Builder(given.builder), given.only.split(",")
    for target in targets:
        builder.build(target, given.arguments)
    for target in targets:
        SMOKES[target](builder)
    print("\n".join(f"{image(target):22} {builder.size(target)}" for target in targets))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
