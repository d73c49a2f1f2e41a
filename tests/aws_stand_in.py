"""A stand-in for AWS on this machine: moto's server over HTTP, whose Step Functions run the project's definition.

moto executes the state language, DynamoDB, SNS and CloudWatch, but no job of SageMaker or EMR Serverless. Here a
job's parameters are held against the service's own model, and then `Work` does what the job would have done.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
from botocore.validate import ParamValidator
from moto.core.config import default_user_config
from moto.server import ThreadedMotoServer
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import (
    FailureEvent,
    FailureEventException,
)
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import (
    StatesErrorNameType,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task import state_task_factory
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import ResourceCondition
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_callback import (
    StateTaskServiceCallback,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

from tests.infra.state_machine import filled
from tests.infra.terraform import module

REGION = "eu-west-1"
ROLE = "arn:aws:iam::000000000000:role/any"


class JobFailed(Exception):
    """The job ended as Failed; the message is its ExitMessage, and `reason` what SageMaker says itself."""

    def __init__(self, message: str, reason: str = "AlgorithmError: , exit code: 1") -> None:
        super().__init__(message)
        self.reason = reason


Work = Callable[[Mapping[str, Any]], str]
"""Does what a job would do, from the parameters that it is created with, and returns its ExitMessage."""

_MODELS = {
    "sagemaker": ("sagemaker", "CreateProcessingJob"),
    "emr-serverless": ("emr-serverless", "StartJobRun"),
}


@contextmanager
def running(work: Work) -> Iterator[str]:
    """Endpoint of a stand-in, with an environment that leads boto3 to it; gone with all its data afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {
        "MOTO_PORT": str(port),  # where moto's Step Functions call the other services
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    before = {name: os.environ.get(name) for name in (*environment, "AWS_PROFILE", "AWS_SESSION_TOKEN")}
    for name in before.keys() - environment.keys():
        os.environ.pop(name, None)
    os.environ.update(environment)
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    by_service = state_task_factory.state_task_service_for
    own = {name: lambda name=name: Jobs(name, work) for name in _MODELS} | {"aws-sdk": Sdk}
    state_task_factory.state_task_service_for = lambda service_name: (
        own[service_name]() if service_name in own else by_service(service_name)
    )
    try:
        yield environment["AWS_ENDPOINT_URL"]
    finally:
        state_task_factory.state_task_service_for = by_service
        default_user_config["stepfunctions"] = {"execute_state_machine": False}
        boto3.client("stepfunctions")._endpoint.http_session.close()
        server.stop()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


class Sdk(StateTaskServiceAwsSdk):
    """`aws-sdk:...`, with names of Step Functions' own API capitalised, as the real service has them."""

    def _normalise_parameters(self, parameters: dict[str, Any], *_: Any) -> None:
        if self.resource.api_name == "sfn":
            parameters.update(_cased({name: parameters.pop(name) for name in [*parameters]}))

    def _normalise_response(self, response: dict[str, Any], *_: Any) -> None:
        response.update({name[0].upper() + name[1:]: response.pop(name) for name in [*response]})


class Jobs(StateTaskServiceCallback):
    """`createProcessingJob.sync` and `startJobRun.sync`."""

    def __init__(self, service: str, work: Work) -> None:
        super().__init__(supported_integration_patterns={ResourceCondition.Sync})
        self._service, self._work = service, work

    def _validate_service_integration_is_supported(self) -> None:
        name, operation = _MODELS[self._service]
        assert operation.lower() == self.resource.api_action.lower(), self.resource.resource_arn
        self._shape = (
            botocore.session.get_session().get_service_model(name).operation_model(operation).input_shape
        )

    def _eval_service_task(self, env: Any, *_: Any, normalised_parameters: dict[str, Any], **__: Any) -> None:
        env.stack.append(normalised_parameters)

    def _eval_integration_pattern(self, env: Any, *_: Any, **__: Any) -> None:
        given = env.stack.pop()
        faults = ParamValidator().validate(
            given if self._service == "sagemaker" else _cased(given), self._shape
        )
        try:
            if faults.has_errors():
                raise JobFailed(faults.generate_report())
            env.stack.append({"ExitMessage": self._work(given), "ProcessingJobStatus": "Completed"})
        except JobFailed as fault:
            raise FailureEventException(self._failure(env, given, fault)) from fault

    def _failure(self, env: Any, given: Mapping[str, Any], fault: JobFailed) -> FailureEvent:
        job = {"ProcessingJobName": given.get("ProcessingJobName"), "FailureReason": fault.reason}
        described = {**job, "ProcessingJobStatus": "Failed", "ExitMessage": str(fault)}
        cause = json.dumps(described, separators=(",", ":"))
        kind = StatesErrorNameType.StatesTaskFailed
        details = TaskFailedEventDetails(
            error=kind.to_name(),
            cause=cause,
            resource=self._get_sfn_resource(),
            resourceType=self._get_sfn_resource_type(),
        )
        return FailureEvent(
            env=env,
            error_name=StatesErrorName(typ=kind),
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(taskFailedEventDetails=details),
        )


def _cased(value: Any) -> Any:
    """Names as the service writes them: Step Functions capitalises all of them."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: _cased(held) for key, held in value.items()}
    return value


@dataclass(frozen=True)
class Account:
    """What Terraform would have made, as far as the pipeline touches it."""

    bucket: str
    table: str
    topic: str
    mails: str
    """URL of a queue that gets what the topic's subscribers get."""
    machine: str

    def environment(self) -> dict[str, str]:
        """The function's settings."""
        return {
            "PIPELINE_NAME": self.bucket,
            "LAKE_BUCKET": self.bucket,
            "MANIFEST_TABLE": self.table,
            "STATE_MACHINE_ARN": self.machine,
        }

    def row(self, key: str) -> dict[str, str]:
        """A row of the manifest; empty where there is none."""
        answer = boto3.client("dynamodb").get_item(TableName=self.table, Key={"id": {"S": key}})
        return {name: next(iter(value.values())) for name, value in answer.get("Item", {}).items()}

    def messages(self) -> list[tuple[str, str]]:
        """Subject and text of what was mailed since the last look."""
        found = boto3.client("sqs").receive_message(QueueUrl=self.mails, MaxNumberOfMessages=10)
        client, bodies = boto3.client("sqs"), [json.loads(m["Body"]) for m in found.get("Messages", [])]
        for message in found.get("Messages", []):
            client.delete_message(QueueUrl=self.mails, ReceiptHandle=message["ReceiptHandle"])
        return [(body["Subject"], body["Message"]) for body in bodies]


def account(name: str, values: Mapping[str, str] | None = None, seconds: int | None = 1) -> Account:
    """Bucket, manifest, topic and state machine called `name`, from Terraform's and the state machine's own files."""
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    table = module("trigger").one("aws_dynamodb_table")
    boto3.client("dynamodb").create_table(
        TableName=name,
        BillingMode=table["billing_mode"],
        KeySchema=[{"AttributeName": table["hash_key"], "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": a["name"], "AttributeType": a["type"]} for a in table["attribute"]
        ],
    )
    topic = boto3.client("sns").create_topic(Name=name)["TopicArn"]
    mails = boto3.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    queue = boto3.client("sqs").get_queue_attributes(QueueUrl=mails, AttributeNames=["QueueArn"])
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue["Attributes"]["QueueArn"])
    own = {
        "name": name,
        "bucket": name,
        "table": name,
        "topic": topic,
        "region": REGION,
        "job_role": ROLE,
        "trials": "25",
    }
    machine = boto3.client("stepfunctions").create_state_machine(
        name=name, definition=filled({**own, **(values or {})}, seconds), roleArn=ROLE
    )
    return Account(name, name, topic, mails, machine["stateMachineArn"])
