"""The one module that knows SageMaker's SDK: models and transform jobs, created, looked at, stopped and deleted.

Calls that are throttled are tried again, with growing pauses, by the SDK's own client (ten attempts). Its `wait` is not
used: it returns in silence when a job was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import ClientError

from spanishgas.errors import UsageError
from spanishgas.scoring.parts import TransformError
from spanishgas.scoring.settings import Transform

LOG_GROUP = "/aws/sagemaker/TransformJobs"
MISSING, TAKEN = ("could not find", "notfound", "not found"), "resourceinuse"
"""How SageMaker says that there is no such thing, and that a job of this name was created before."""


@dataclass(frozen=True)
class JobState:
    """What SageMaker says of a job: InProgress, Completed, Failed, Stopping or Stopped, and why it failed."""

    status: str
    reason: str


@dataclass(frozen=True)
class Job:
    """A job to be created: its name, where its model, parts and answers lie, and what its container is told."""

    name: str
    archive: str
    parts: str
    answers: str
    tags: Mapping[str, str]
    environment: Mapping[str, str]


def session_here() -> boto3.Session:
    """A session in the region of boto3's environment; UsageError where that names none."""
    session = boto3.Session()
    if not session.region_name:
        raise UsageError("no AWS region is set: set AWS_DEFAULT_REGION")
    return session


class SageMaker:
    """SageMaker in the region and account of boto3's environment."""

    def __init__(self, settings: Transform) -> None:
        try:
            from sagemaker.core import resources, shapes
        except ImportError as fault:
            raise UsageError(
                "the backend sagemaker needs the extra `sagemaker`: uv sync --extra sagemaker, or "
                "pip install 'sagemaker>=3.27,<4'"
            ) from fault
        self._settings, self._resources, self._shapes = settings, resources, shapes
        self._session = session_here()
        self._here = {"session": self._session, "region": self._session.region_name}

    def find(self, name: str) -> JobState | None:
        """The state of the job called `name`, or None if there is none."""
        state = None
        with _reported("looked for", name, *MISSING):
            job = self._resources.TransformJob.get(name, **self._here)
            reason = job.failure_reason
            state = JobState(str(job.transform_job_status), reason if isinstance(reason, str) else "")
        return state

    def create(self, job: Job) -> None:
        """Create the job and its model, which has the job's name, unless another process was faster."""
        tags = [
            {"key": f"spanishgas:{key}", "value": value[:256]} for key, value in job.tags.items() if value
        ]
        # A model that exists was left by a process that was killed here.
        with _reported("created", job.name, "already exist", TAKEN):
            self._resources.Model.create(
                model_name=job.name,
                primary_container=self._shapes.ContainerDefinition(
                    image=self._settings.image,
                    model_data_url=job.archive,
                    environment=dict(job.environment),
                ),
                execution_role_arn=self._settings.role,
                enable_network_isolation=True,  # customer rows and a model's file are inside: no way out
                tags=tags,
                **self._here,
            )
        with _reported("created", job.name, TAKEN):
            self._resources.TransformJob.create(
                transform_job_name=job.name, model_name=job.name, tags=tags, **self._terms(job), **self._here
            )

    def _terms(self, job: Job) -> dict[str, Any]:
        """What a job reads and writes, on what, and how its parts are sent."""
        settings, shapes = self._settings, self._shapes
        encrypted, volume = (
            {name: settings.kms_key} if settings.kms_key else {}
            for name in ("kms_key_id", "volume_kms_key_id")
        )
        source = shapes.TransformS3DataSource(s3_data_type="S3Prefix", s3_uri=job.parts)
        return {
            "transform_input": shapes.TransformInput(
                data_source=shapes.TransformDataSource(s3_data_source=source),
                content_type=settings.media.value,
                compression_type="None",
                split_type="None",
            ),
            "transform_output": shapes.TransformOutput(
                s3_output_path=job.answers, accept=settings.media.value, assemble_with="None", **encrypted
            ),
            "transform_resources": shapes.TransformResources(
                instance_type=settings.instance_type, instance_count=settings.instances, **volume
            ),
            "max_concurrent_transforms": settings.concurrency,
            "max_payload_in_mb": settings.payload_mb,
            "model_client_config": shapes.ModelClientConfig(
                invocations_timeout_in_seconds=settings.timeout_seconds,
                invocations_max_retries=settings.retries,
            ),
        }

    def stop(self, name: str) -> None:
        """Ask SageMaker to stop the job; nothing if it has ended already."""
        with _reported("stopped", name, *MISSING, "validationexception"):
            self._resources.TransformJob.get(name, **self._here).stop()

    def delete_model(self, name: str) -> None:
        """Delete the model called `name`; nothing if it is gone already."""
        with _reported("cleaned up", name, *MISSING):
            self._session.client("sagemaker").delete_model(ModelName=name)  # the SDK would describe it first


@contextmanager
def _reported(what: str, name: str, *expected: str) -> Iterator[None]:
    """TransformError where AWS refuses in other words than those that are `expected` and no failure."""
    try:
        yield
    except ClientError as fault:
        words = f"{fault.response['Error']['Code']} {fault.response['Error']['Message']}".lower()
        if not any(phrase in words for phrase in expected):
            raise TransformError(f"transform job {name} could not be {what}: {fault}") from fault
