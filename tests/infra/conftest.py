"""An account of a test's own at a stand-in for AWS, whose jobs say what the test has them say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest

from tests import aws_stand_in
from tests.aws_stand_in import Account, JobFailed


@dataclass
class Jobs:
    """What each verb's job says, or how it fails; and which were created, with what."""

    said: dict[str, str | Exception | Callable[[], str]] = field(default_factory=dict)
    created: list[tuple[str, ...]] = field(default_factory=list)
    parameters: list[Mapping[str, Any]] = field(default_factory=list)

    def __call__(self, given: Mapping[str, Any]) -> str:
        spark = given.get("JobDriver", {}).get("SparkSubmit", {}).get("EntryPointArguments")
        words = ("spark", *spark) if spark else tuple(given["AppSpecification"]["ContainerArguments"])
        self.created.append(words)
        self.parameters.append(given)
        answer = self.said.get(words[0], "done")
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else answer()

    def verbs(self) -> list[str]:
        return [words[0] for words in self.created]


GOOD = {
    "experiment": "run 0123456789abcdef",
    "evaluate": "version 3, gate passed",
    "drift": "alarm: no, report in run 77",
}


@pytest.fixture(scope="module")
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture(scope="module")
def aws(jobs: Jobs) -> Iterator[str]:
    with aws_stand_in.running(jobs) as endpoint:
        yield endpoint


_accounts = itertools.count()


@pytest.fixture
def account(aws: str, jobs: Jobs) -> Account:
    jobs.said, jobs.created, jobs.parameters = dict(GOOD), [], []
    return aws_stand_in.account(f"account-{next(_accounts)}")


def ended(execution: str, seconds: float = 60) -> dict[str, Any]:
    """The execution, once it has ended."""
    client, until = boto3.client("stepfunctions"), time.monotonic() + seconds
    while time.monotonic() < until:
        found: dict[str, Any] = client.describe_execution(executionArn=execution)
        if found["status"] != "RUNNING":
            return found
        time.sleep(0.05)
    raise AssertionError(f"{execution} still runs; its events: {passed(execution)}")


def passed(execution: str) -> list[str]:
    """The states that an execution went through."""
    events = boto3.client("stepfunctions").get_execution_history(executionArn=execution, maxResults=1000)[
        "events"
    ]
    return [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]


__all__ = ["GOOD", "JobFailed", "Jobs", "ended", "passed"]
