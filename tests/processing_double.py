"""SageMaker's processing jobs behind moto's API: a job that is created is the process that SageMaker would start.

A created job is InProgress. Its worker copies the inputs from S3, runs the container's own entry point with the job's
environment, puts what that prints into CloudWatch, and ends the job; a job that is stopped is Stopping, gets
SIGTERM, and is Stopped once its process has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import ResourceInUseException, ValidationError
from moto.sagemaker.responses import SageMakerResponse

from spanishgas.aws.processing import ENDED, LOG_GROUP
from spanishgas.settings import PROJECT

JOB = (
    "import sys; from pathlib import Path; from spanishgas.aws.job import main; "
    "sys.exit(main(sys.argv[3:], Path(sys.argv[1]), code=Path(sys.argv[2])))"
)
MEMBERS = [
    *botocore.session.get_session()
    .get_service_model("sagemaker")
    .operation_model("CreateProcessingJob")
    .input_shape.members
]
MOST_ENTRIES, MOST_CHARACTERS = 100, 256
"""SageMaker's limits on a job's environment and on its arguments."""


class ProcessingDouble:
    """Jobs by name, with all that they were created with; `work` does in place of a process what a job would do."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.jobs = folder, dict[str, dict[str, Any]]()
        self.work: Callable[[Mapping[str, Any]], int] | None = None
        self.own: dict[str, str] = {}
        self.workers: list[threading.Thread] = []
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def create(self, given: Mapping[str, Any]) -> None:
        name, words = given["ProcessingJobName"], given["AppSpecification"]["ContainerArguments"]
        if name in self.jobs:
            raise ResourceInUseException(f"Job name {name} is in use")
        if len(given["Environment"]) > MOST_ENTRIES or any(len(word) > MOST_CHARACTERS for word in words):
            raise ValidationError("too much")
        self.jobs[name] = {**given, "ProcessingJobStatus": "InProgress"}
        worker = threading.Thread(target=self._work, args=(self.jobs[name],), daemon=True)
        self.workers.append(worker)
        worker.start()

    def described(self, name: str) -> dict[str, Any]:
        if name not in self.jobs:
            raise ValidationError(f"Could not find processing job '{name}'.")
        return {k: v for k, v in self.jobs[name].items() if v is not None}

    def stop(self, name: str) -> None:
        if self.described(name)["ProcessingJobStatus"] in ENDED:
            raise ValidationError("The job has ended")
        self.jobs[name]["ProcessingJobStatus"] = "Stopping"
        if process := self._processes.get(name):
            process.terminate()

    def _work(self, job: dict[str, Any]) -> None:
        code = self.work(job) if self.work else self._process(job)
        stopped = job["ProcessingJobStatus"] == "Stopping"
        if code and not stopped:
            job["FailureReason"] = f"AlgorithmError: , exit code: {code}"
        job["ProcessingJobStatus"] = "Stopped" if stopped else "Failed" if code else "Completed"

    def _process(self, job: dict[str, Any]) -> int:
        root = self.folder / job["ProcessingJobName"]
        message, code = root / "message", root / "code" / "code.tar.gz"
        code.parent.mkdir(parents=True)
        for given in job["ProcessingInputs"]:
            bucket, _, prefix = given["S3Input"]["S3Uri"].removeprefix("s3://").partition("/")
            (found,) = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
            boto3.client("s3").download_file(bucket, found["Key"], str(code.parent / Path(found["Key"]).name))
        words = [sys.executable, "-c", JOB, message, code, *job["AppSpecification"]["ContainerArguments"]]
        environment = {**os.environ, **job["Environment"], "PYTHONPATH": str(PROJECT), **self.own}
        say, name = log(job["ProcessingJobName"]), job["ProcessingJobName"]
        with subprocess.Popen(
            words, env=environment, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            self._processes[name] = process
            assert process.stdout is not None
            for line in process.stdout:
                say(line.rstrip("\n") or " ")
        job["ExitMessage"] = message.read_text() if message.exists() else None
        return process.returncode


def log(name: str) -> Callable[[str], None]:
    """Writes a line to the job's log in CloudWatch."""
    client, place = boto3.client("logs"), {"logGroupName": LOG_GROUP, "logStreamName": f"{name}/algo-1"}
    with suppress(client.exceptions.ResourceAlreadyExistsException):
        client.create_log_group(logGroupName=LOG_GROUP)
    client.create_log_stream(**place)
    return lambda line: client.put_log_events(
        **place, logEvents=[{"timestamp": int(time.time() * 1000), "message": line}]
    )


@contextmanager
def processing_double(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[ProcessingDouble]:
    """The double behind moto's SageMaker, of whatever server runs in this process."""
    double = ProcessingDouble(folder)

    def create(response: Any) -> ActionResult:
        double.create({name: response._get_param(name) for name in MEMBERS})
        return ActionResult({"ProcessingJobArn": "arn:any"})

    def describe(response: Any) -> ActionResult:
        return ActionResult(double.described(response._get_param("ProcessingJobName")))

    def stop(response: Any) -> EmptyResult:
        double.stop(response._get_param("ProcessingJobName"))
        return EmptyResult()

    for name, own in {"create": create, "describe": describe, "stop": stop}.items():
        patch.setattr(SageMakerResponse, f"{name}_processing_job", own, raising=False)
    try:
        yield double
    finally:
        for process in double._processes.values():
            process.terminate()
        for worker in double.workers:
            worker.join(60)
