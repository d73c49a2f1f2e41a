"""SageMaker's processing jobs by boto3: found, created, followed and stopped.

A name that a job has used is never free again, so a job's name ends in a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from spanishgas.errors import SpanishGasError

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
COMPLETED = "Completed"
ENDED = {COMPLETED, "Failed", "Stopped"}
NO_LOG = {"AccessDeniedException", "ResourceNotFoundException"}
"""What CloudWatch says of a log that cannot be read, or is not there yet."""


class ProcessingError(SpanishGasError):
    """A job could not be started, looked at or stopped."""


@dataclass
class ProcessingJobs:
    """The jobs of an account and region, by boto3's clients of SageMaker and CloudWatch Logs."""

    sagemaker: Any
    logs: Any
    _read: dict[str, str] = field(default_factory=dict)

    def described(self, name: str) -> Mapping[str, Any] | None:
        """What SageMaker says of the job called `name`, or None if there is none."""
        try:
            job: Mapping[str, Any] = self.sagemaker.describe_processing_job(ProcessingJobName=name)
        except ClientError as fault:
            if "could not find" in str(fault).lower() or _code(fault) == "ResourceNotFound":
                return None
            raise ProcessingError(f"job {name} could not be looked at: {fault}") from fault
        return job

    def free_or_running(self, base: str) -> tuple[str, Mapping[str, Any] | None]:
        """The name of the job that runs, with what SageMaker says of it, or the first that no job has used."""
        number = 1
        while (job := self.described(f"{base}-{number}")) and job["ProcessingJobStatus"] in ENDED:
            number += 1
        return f"{base}-{number}", job

    def create(self, parameters: Mapping[str, Any]) -> bool:
        """Create the job; False if another process has just created it."""
        try:
            self.sagemaker.create_processing_job(**parameters)
        except ClientError as fault:
            if _code(fault) == "ResourceInUse":
                return False
            raise ProcessingError(f"{parameters['ProcessingJobName']} was not started: {fault}") from fault
        return True

    def stop(self, name: str) -> None:
        """Ask SageMaker to stop the job; nothing if it has ended already."""
        try:
            self.sagemaker.stop_processing_job(ProcessingJobName=name)
        except ClientError as fault:
            job = self.described(name)
            if job and job["ProcessingJobStatus"] not in ENDED:
                raise ProcessingError(f"job {name} could not be stopped: {fault}") from fault

    def follow(self, name: str, say: Callable[[str], None]) -> None:
        """Say the lines that the job's log has gained since the last call, instance by instance."""
        try:
            listed = self.logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/")
            for stream in listed["logStreams"]:
                while events := self._next(stream["logStreamName"]):
                    for event in events:
                        say(event["message"])
        except ClientError as fault:
            if _code(fault) not in NO_LOG:
                raise ProcessingError(f"the log of {name} could not be read: {fault}") from fault

    def _next(self, stream: str) -> list[Mapping[str, Any]]:
        after = {"nextToken": self._read[stream]} if stream in self._read else {}
        page = self.logs.get_log_events(
            logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **after
        )
        self._read[stream] = page["nextForwardToken"]
        return list(page["events"])


def _code(fault: ClientError) -> str:
    return str(fault.response["Error"]["Code"])
