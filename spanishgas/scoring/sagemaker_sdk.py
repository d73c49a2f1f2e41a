"""The one module that knows SageMaker's SDK: models and transform jobs, created, looked at, stopped and deleted.

Calls that are throttled are tried again, with growing pauses, by the SDK's own client (ten attempts). Its `wait` is not
used: it returns in silence when a job was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.exceptions import ClientError

from spanishgas.errors import UsageError
from spanishgas.scoring.settings import Transform
from spanishgas.scoring.transform import TransformError

LOG_GROUP = "/aws/sagemaker/TransformJobs"


@dataclass(frozen=True)
class State:
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


class SageMaker:
    """SageMaker in the region and account of boto3's environment."""

    def __init__(self, given: Transform) -> None:
        try:
            from sagemaker.core import resources, shapes
        except ImportError as fault:
            raise UsageError(
                "the backend sagemaker needs the extra `sagemaker`: uv sync --extra sagemaker, or "
                "pip install 'sagemaker-core>=2.27,<3'"
            ) from fault
        self._given, self._resources, self._shapes = given, resources, shapes
        self._session = boto3.Session()
        if not self._session.region_name:
            raise UsageError("no AWS region is set: set AWS_DEFAULT_REGION")

    def find(self, name: str) -> State | None:
        """The state of the job called `name`, or None if there is none."""
        try:
            job = self._resources.TransformJob.get(name, session=self._session, region=self._region)
        except ClientError as fault:
            if _is_missing(fault):
                return None
            raise _failed("looked for", name, fault) from fault
        reason = job.failure_reason
        return State(str(job.transform_job_status), reason if isinstance(reason, str) else "")

    def create(self, job: Job) -> None:
        """Create the job and its model, which has the job's name, unless another process was faster."""
        tags = [
            {"key": f"spanishgas:{key}", "value": value[:256]} for key, value in job.tags.items() if value
        ]
        try:
            self._create_model(job, tags)
            self._create_job(job, tags)
        except ClientError as fault:
            if fault.response["Error"]["Code"] != "ResourceInUse":
                raise _failed("created", job.name, fault) from fault

    def _create_model(self, job: Job, tags: list[dict[str, str]]) -> None:
        container = self._shapes.ContainerDefinition(
            image=self._given.image,
            model_data_url=job.archive,
            environment=dict(job.environment),
        )
        try:
            self._resources.Model.create(
                model_name=job.name,
                primary_container=container,
                execution_role_arn=self._given.role,
                enable_network_isolation=True,  # customer rows and a model's file are inside: no way out
                tags=tags,
                session=self._session,
                region=self._region,
            )
        except ClientError as fault:
            # One that exists was left by a process that was killed here.
            if "already exist" not in fault.response["Error"]["Message"]:
                raise

    def _create_job(self, job: Job, tags: list[dict[str, str]]) -> None:
        given, shapes = self._given, self._shapes
        encrypted: dict[str, Any] = {"kms_key_id": given.kms_key} if given.kms_key else {}
        volume: dict[str, Any] = {"volume_kms_key_id": given.kms_key} if given.kms_key else {}
        source = shapes.TransformS3DataSource(s3_data_type="S3Prefix", s3_uri=job.parts)
        self._resources.TransformJob.create(
            transform_job_name=job.name,
            model_name=job.name,
            transform_input=shapes.TransformInput(
                data_source=shapes.TransformDataSource(s3_data_source=source),
                content_type=given.media.value,
                compression_type="None",
                split_type="None",
            ),
            transform_output=shapes.TransformOutput(
                s3_output_path=job.answers, accept=given.media.value, assemble_with="None", **encrypted
            ),
            transform_resources=shapes.TransformResources(
                instance_type=given.instance_type, instance_count=given.instances, **volume
            ),
            max_concurrent_transforms=given.concurrency,
            max_payload_in_mb=given.payload_mb,
            model_client_config=shapes.ModelClientConfig(
                invocations_timeout_in_seconds=given.timeout_seconds, invocations_max_retries=given.retries
            ),
            tags=tags,
            session=self._session,
            region=self._region,
        )

    def stop(self, name: str) -> None:
        """Ask SageMaker to stop the job; nothing if it has ended already."""
        try:
            self._resources.TransformJob.get(name, session=self._session, region=self._region).stop()
        except ClientError as fault:
            if not _is_missing(fault) and fault.response["Error"]["Code"] != "ValidationException":
                raise _failed("stopped", name, fault) from fault

    def delete_model(self, name: str) -> None:
        """Delete the model called `name`; nothing if it is gone already."""
        try:
            self._session.client("sagemaker").delete_model(ModelName=name)  # the SDK would describe it first
        except ClientError as fault:
            if not _is_missing(fault):
                raise _failed("cleaned up", name, fault) from fault

    @property
    def _region(self) -> str:
        region: str = self._session.region_name
        return region


def _is_missing(fault: ClientError) -> bool:
    words = f"{fault.response['Error']['Code']} {fault.response['Error']['Message']}".lower()
    return "could not find" in words or "notfound" in words or "not found" in words


def _failed(what: str, name: str, fault: ClientError) -> TransformError:
    return TransformError(f"transform job {name} could not be {what}: {fault}")
