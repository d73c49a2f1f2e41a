"""SageMaker's processing jobs by boto3: found, created, and followed as MLflow follows a submitted run.

A name that a job has used is never free again, so a job's name ends in a number.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException
from mlflow.projects.submitted_run import SubmittedRun

from spanishgas.errors import SpanishGasError

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
COMPLETED = "Completed"
ENDED = {COMPLETED: RunStatus.FINISHED, "Failed": RunStatus.FAILED, "Stopped": RunStatus.KILLED}
NO_LOG = {"AccessDeniedException", "ResourceNotFoundException"}
"""What CloudWatch says of a log that cannot be read, or is not there yet."""


@contextmanager
def in_a_line() -> Iterator[None]:
    """Turn what the project and AWS refuse into ExecutionException, which MLflow's command line says in a line."""
    try:
        yield
    except (SpanishGasError, BotoCoreError, ClientError) as fault:
        raise ExecutionException(str(fault)) from fault


def described(client: Any, name: str) -> Mapping[str, Any] | None:
    """What SageMaker says of the job called `name`, or None if there is none."""
    try:
        job: Mapping[str, Any] = client.describe_processing_job(ProcessingJobName=name)
    except ClientError as fault:
        if "could not find" in str(fault).lower() or code_of(fault) == "ResourceNotFound":
            return None
        raise
    return job


def free_or_running(client: Any, base: str) -> tuple[str, Mapping[str, Any] | None]:
    """The name of the job that runs, with what SageMaker says of it, or the first that no job has used."""
    number = 1
    while (job := described(client, f"{base}-{number}")) and job["ProcessingJobStatus"] in ENDED:
        number += 1
    return f"{base}-{number}", job


def create(client: Any, parameters: Mapping[str, Any]) -> bool:
    """Create the job; False if another process has just created it."""
    try:
        client.create_processing_job(**parameters)
    except ClientError as fault:
        if code_of(fault) != "ResourceInUse":
            raise
        return False
    return True


class SubmittedJob(SubmittedRun):
    """A job that was started or joined, as MLflow waits for it and cancels it."""

    def __init__(self, session: boto3.Session, name: str, run_id: str, poll_seconds: float) -> None:
        self._sagemaker, self._logs = session.client("sagemaker"), session.client("logs")
        self._name, self._run_id, self._pause = name, run_id, poll_seconds
        self._status, self._read = "", dict[str, str]()

    @property
    def run_id(self) -> str:
        """The run in MLflow that the job's verb logs to."""
        return self._run_id

    def wait(self) -> bool:
        """Whether the job ended as Completed; its log and status are said as they come."""
        while (job := self._look())["ProcessingJobStatus"] not in ENDED:
            time.sleep(self._pause)
        if self._status != COMPLETED:
            reasons = [job.get(key) for key in ("FailureReason", "ExitMessage")]
            say(f"job {self._name}: {'; '.join(filter(None, reasons)) or 'stopped by hand'}")
        return self._status == COMPLETED

    def get_status(self) -> str:
        """MLflow's word for the job's status."""
        return str(RunStatus.to_string(ENDED.get(self._look()["ProcessingJobStatus"], RunStatus.RUNNING)))

    def cancel(self) -> None:
        """Have the job stopped unless it has ended, and wait until it has."""
        with in_a_line():
            if self._look()["ProcessingJobStatus"] not in ENDED:
                self._sagemaker.stop_processing_job(ProcessingJobName=self._name)
                say(f"job {self._name} was told to stop")
        self.wait()

    def _look(self) -> Mapping[str, Any]:
        with in_a_line():
            job = described(self._sagemaker, self._name) or {"ProcessingJobStatus": "Stopped"}
            self._follow()
        if job["ProcessingJobStatus"] != self._status:
            self._status = job["ProcessingJobStatus"]
            say(f"job {self._name}: {self._status}")
        return job

    def _follow(self) -> None:
        """Say the lines that the job's log has gained since the last look, instance by instance."""
        group = {"logGroupName": LOG_GROUP}
        try:
            listed = self._logs.describe_log_streams(**group, logStreamNamePrefix=f"{self._name}/")
            for stream in [each["logStreamName"] for each in listed["logStreams"]]:
                while events := self._events({**group, "logStreamName": stream}):
                    say("\n".join(event["message"] for event in events))
        except ClientError as fault:
            if code_of(fault) not in NO_LOG:
                raise

    def _events(self, stream: Mapping[str, str]) -> list[Mapping[str, Any]]:
        name = stream["logStreamName"]
        after = {"nextToken": self._read[name]} if name in self._read else {}
        page = self._logs.get_log_events(**stream, startFromHead=True, **after)
        self._read[name] = page["nextForwardToken"]
        return list(page["events"])


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def code_of(fault: ClientError) -> str:
    """AWS's code of a refusal."""
    return str(fault.response["Error"]["Code"])
