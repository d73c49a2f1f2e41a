"""SageMaker's side of a batch transform, behind moto's API: it does the work that moto only pretends to have done.

A created job is InProgress. Its worker downloads archive and parts from S3, starts the serving process from the
archive, posts the parts with the documented headers and limits, writes an `.out` per part that was answered, and ends
the job.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core.responses import EmptyResult
from moto.sagemaker.exceptions import ResourceInUseException, SagemakerClientError, ValidationError
from moto.sagemaker.models import Model, SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse
from moto.server import ThreadedMotoServer

from spanishgas.scoring.local import Endpoint, serving_process

MEGABYTE = 1024 * 1024


class Plan(Enum):
    """How jobs go."""

    COMPLETE = "every part is answered"
    FAIL = "the first part is sent as something that the server refuses"
    STALL = "no part is answered until the job is stopped"
    LOSE = "the last part gets no answer, and the job is Completed all the same"
    STOP = "somebody stops the job after its first part"
    HOLD = "the job waits for `go` before it works"


class Throttled(SagemakerClientError):
    """Too many calls."""

    code = "ThrottlingException"

    def __init__(self) -> None:
        super().__init__("Rate exceeded")


class Instances:
    """Serving processes by archive and environment: jobs of the same model are served by the same process."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self.root, self._stack, self._lock = root, stack, threading.Lock()
        self._running: dict[str, Endpoint] = {}

    def serving(self, archive: bytes, environment: dict[str, str]) -> Endpoint:
        """A process started from the archive as SageMaker unpacks it."""
        key = hashlib.sha256(archive + repr(sorted(environment.items())).encode()).hexdigest()
        with self._lock:
            if key not in self._running:
                folder = self.root / key
                with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                    tar.extractall(folder / "model", filter="data")
                process = serving_process(folder / "model", folder / "log", environment)
                self._running[key] = self._stack.enter_context(process)
            return self._running[key]


class SageMakerDouble:
    """Jobs by name as moto holds them, and what was asked for."""

    def __init__(self, instances: Instances) -> None:
        self.instances, self.plan = instances, Plan.COMPLETE
        self.throttle = 0
        self.jobs: dict[str, Any] = {}
        self.go, self.stopped = threading.Event(), threading.Event()
        self.workers: list[threading.Thread] = []

    def called(self) -> None:
        """Refuse as many calls as were set."""
        if self.throttle:
            self.throttle -= 1
            raise Throttled()

    def create(self, backend: Any, original: Any, given: dict[str, Any]) -> Any:
        self.called()
        name = given["transform_job_name"]
        if name in self.jobs:
            raise ResourceInUseException(f"Job name {name} is in use")
        if not re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name):
            raise ValidationError(f"{name} is not a name")
        if given["max_concurrent_transforms"] * given["max_payload_in_mb"] > 100:
            raise ValidationError("MaxConcurrentTransforms * MaxPayloadInMB must not exceed 100")
        model = backend._models[given["model_name"]]
        job = original(backend, **given)
        job.transform_job_status = "InProgress"
        self.jobs[name] = job
        worker = threading.Thread(target=self._work, args=(job, model.primary_container), daemon=True)
        self.workers.append(worker)
        worker.start()
        return job

    def stop(self, name: str) -> None:
        job = self.jobs[name]
        if job.transform_job_status != "InProgress":
            raise ValidationError(f"The request was rejected because the transform job is in status {name}")
        job.transform_job_status = "Stopped"
        self.stopped.set()

    def _work(self, job: Any, container: dict[str, Any]) -> None:
        if self.plan is Plan.STALL:
            self.stopped.wait(60)
            return
        if self.plan is Plan.HOLD:
            self.go.wait(60)
        endpoint = self.instances.serving(_read(container["ModelDataUrl"]), container["Environment"])
        assert endpoint.get("/execution-parameters", 60).status == 200
        status = self._scored(job, endpoint)
        if status == "Failed":
            job.failure_reason = "ClientError: See job logs for more information"
        if job.transform_job_status == "InProgress":
            job.transform_job_status = status

    def _scored(self, job: Any, endpoint: Endpoint) -> str:
        given, wanted = job.transform_input, job.transform_output
        assert (given["SplitType"], given["CompressionType"], wanted["AssembleWith"]) == (
            "None",
            "None",
            "None",
        )
        source = given["DataSource"]["S3DataSource"]["S3Uri"]
        sent = "text/plain" if self.plan is Plan.FAIL else given["ContentType"]
        client = job.model_client_config
        status, keys = "Completed", _keys(source)
        for key in keys:
            body = _read(f"s3://{_bucket(source)}/{key}")
            assert len(body) <= job.max_payload_in_mb * MEGABYTE
            answer = endpoint.post(body, sent, wanted["Accept"], client["InvocationsTimeoutInSeconds"])
            if answer.status != 200:
                status = "Failed"
            elif not (self.plan is Plan.LOSE and key == keys[-1]):
                _write(wanted["S3OutputPath"].rstrip("/") + f"/{key.rpartition('/')[2]}.out", answer.data)
            if self.plan is Plan.STOP:
                return "Stopped"
        return status


def _bucket(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[0]


def _path(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[2]


def _keys(uri: str) -> list[str]:
    pages = (
        boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=_bucket(uri), Prefix=_path(uri))
    )
    return sorted(item["Key"] for page in pages for item in page.get("Contents", []))


def _read(uri: str) -> bytes:
    body: bytes = boto3.client("s3").get_object(Bucket=_bucket(uri), Key=_path(uri))["Body"].read()
    return body


def _write(uri: str, body: bytes) -> None:
    boto3.client("s3").put_object(Bucket=_bucket(uri), Key=_path(uri), Body=body)


@contextmanager
def moto_server(patch: pytest.MonkeyPatch, root: Path) -> Iterator[None]:
    """moto's server, and an environment that leads there; the bucket is `scoring`."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "eu-south-2",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(root / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(root / "none"),
    }.items():
        patch.setenv(name, value)
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()  # servers of one process share what they hold
    region = {"LocationConstraint": "eu-south-2"}
    boto3.client("s3").create_bucket(Bucket="scoring", CreateBucketConfiguration=region)
    try:
        yield
    finally:
        server.stop()


@contextmanager
def sagemaker_double(instances: Instances, patch: pytest.MonkeyPatch) -> Iterator[SageMakerDouble]:
    """moto's server with the double behind it, and an environment that leads there; the bucket is `scoring`."""
    double = SageMakerDouble(instances)
    create, describe = (
        SageMakerModelBackend.create_transform_job,
        SageMakerModelBackend.describe_transform_job,
    )

    def described(backend: Any, transform_job_name: str) -> Any:
        double.called()
        return describe(backend, transform_job_name)

    def stop_transform_job(response: Any) -> EmptyResult:
        double.stop(response._get_param("TransformJobName"))
        return EmptyResult()

    held: Any = Model.response_object  # moto gives an empty VpcConfig where AWS gives none
    said = property(lambda model: {k: v for k, v in held.fget(model).items() if v != {}})
    patch.setattr(Model, "response_object", said)
    patch.setattr(
        SageMakerModelBackend, "create_transform_job", lambda b, **given: double.create(b, create, given)
    )
    patch.setattr(SageMakerModelBackend, "describe_transform_job", described)
    patch.setattr(SageMakerResponse, "stop_transform_job", stop_transform_job, raising=False)
    with moto_server(patch, instances.root):
        try:
            yield double
        finally:
            double.go.set()
            double.stopped.set()
            for worker in double.workers:
                worker.join(60)
