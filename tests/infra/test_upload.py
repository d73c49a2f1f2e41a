"""The Lambda function against S3, DynamoDB and Step Functions over HTTP: one execution per content, and no other."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from spanishgas.aws import upload
from spanishgas.aws.upload import ListedObject, UploadManifest, complete, folder_of
from spanishgas.lake import RAW_FILES
from tests import aws_stand_in
from tests.aws_stand_in import Account, JobFailed
from tests.infra.conftest import GOOD, Jobs, ended

SEVEN = list(RAW_FILES.values())


@dataclass(frozen=True)
class Upload:
    """A dated folder of a test's own in an account that the module's tests share."""

    account: Account
    day: str

    @property
    def prefix(self) -> str:
        return f"raw/{self.day}/"

    def put(self, name: str, body: str = "any", prefix: str | None = None) -> dict[str, Any]:
        """Put an object and return the event that S3 makes of it."""
        key = (self.prefix if prefix is None else prefix) + name
        boto3.client("s3").put_object(Bucket=self.account.bucket, Key=key, Body=body.encode())
        return {"Records": [{"s3": {"bucket": {"name": self.account.bucket}, "object": {"key": key}}}]}

    def executions(self) -> list[str]:
        machine = self.account.machine
        found = boto3.client("stepfunctions").list_executions(stateMachineArn=machine)["executions"]
        return [e["executionArn"] for e in found if e["name"].startswith(self.day)]


_days = itertools.count()


@pytest.fixture(scope="module")
def shared(aws: str) -> Account:
    return aws_stand_in.account("uploads")


@pytest.fixture
def lake(shared: Account, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upload]:
    jobs.said, jobs.created = dict(GOOD), []
    for name, value in shared.environment().items():
        monkeypatch.setenv(name, value)
    upload._client.cache_clear()
    upload._manifest.cache_clear()
    own = Upload(shared, str(date(2024, 12, 31) + timedelta(days=next(_days))))
    yield own
    for execution in own.executions():
        ended(execution)


def test_seven_uploads_start_one_execution_that_trains(lake: Upload, jobs: Jobs) -> None:
    """In the replaced system each file started a pipeline of its own, and none of them trained."""
    answers = [upload.handler(lake.put(name)) for name in SEVEN]
    assert [bool(answer) for answer in answers] == [False] * 6 + [True]
    (execution,) = lake.executions()
    assert execution.endswith(answers[-1][lake.prefix])
    assert ended(execution)["status"] == "SUCCEEDED"
    raw = f"s3://{lake.account.bucket}/raw/{lake.day}"
    assert jobs.created[0] == (
        "etl",
        "--raw",
        raw,
        "--lake",
        f"s3://{lake.account.bucket}",
        "--as_of",
        lake.day,
    )
    assert "experiment" in jobs.verbs()
    given = json.loads(boto3.client("stepfunctions").describe_execution(executionArn=execution)["input"])
    assert lake.account.row(given["id"])["status"] == "succeeded"


@pytest.mark.slow
def test_a_repeated_event_starts_nothing_and_a_refreshed_file_starts_a_run(lake: Upload) -> None:
    """In the replaced system a row was a file's name: a refreshed file of the same name was never taken."""
    events = [lake.put(name) for name in SEVEN]
    assert upload.handler(events[0])
    assert [upload.handler(event) for event in (*events, events[0])] == [{}] * 8
    assert len(lake.executions()) == 1
    assert upload.handler(lake.put(SEVEN[0], "corrected"))
    assert len(lake.executions()) == 2
    assert upload.handler(lake.put(SEVEN[0], "any")) == {}  # the content that ran first, back again


@pytest.mark.slow
def test_files_that_are_replaced_between_labels_taken_away_and_put_back_start_one_run(lake: Upload) -> None:
    upload.handler([lake.put(name) for name in SEVEN][-1])
    labels = next(name for name in SEVEN if name.startswith("churn_label"))
    boto3.client("s3").delete_object(Bucket=lake.account.bucket, Key=lake.prefix + labels)
    others = [name for name in SEVEN if name != labels]
    assert [upload.handler(lake.put(name, "next year's")) for name in others] == [{}] * 6
    assert upload.handler(lake.put(labels, "next year's"))
    assert len(lake.executions()) == 2


def test_a_failed_run_can_be_tried_again_with_the_same_content(lake: Upload, jobs: Jobs) -> None:
    """In the replaced system a failed run stayed `started` for ever and blocked every other try."""
    jobs.said["etl"] = JobFailed("error: no space left")
    event = [lake.put(name) for name in SEVEN][-1]
    first = upload.handler(event)[lake.prefix]
    ended(lake.executions()[0])
    jobs.said["etl"] = "done"
    second = upload.handler({"prefix": f"raw/{lake.day}"})[lake.prefix]
    assert (first[-2:], second[-2:]) == ("-1", "-2")
    (again,) = [execution for execution in lake.executions() if execution.endswith(second)]
    assert ended(again)["status"] == "SUCCEEDED"
    assert upload.handler(event) == {}


def test_an_execution_that_was_aborted_is_written_down_by_the_event_of_its_end(lake: Upload) -> None:
    row = f"{lake.prefix}any"
    manifest = UploadManifest(lake.account.table)
    manifest.claim(row, mode="train")
    manifest.started(row, "arn:1")
    detail = {"executionArn": "arn:1", "name": "any", "status": "ABORTED", "input": json.dumps({"id": row})}
    event = {"detail-type": "Step Functions Execution Status Change", "detail": detail}
    upload.handler({**event, "detail": {**detail, "executionArn": "arn:another"}})
    assert lake.account.row(row)["status"] == "started"
    upload.handler(event)
    assert lake.account.row(row)["failure"] == "the execution ended as ABORTED"
    assert manifest.claim(row, mode="train") == 2


def test_what_the_state_machine_wrote_of_a_failure_stays(lake: Upload) -> None:
    manifest = UploadManifest(lake.account.table)
    row = f"{lake.prefix}any"
    manifest.claim(row, mode="train")
    manifest.failed(row, "arn:1", "the disk is full")
    manifest.failed(row, "arn:1", "the execution ended as FAILED")
    assert lake.account.row(row)["failure"] == "the disk is full"


def test_a_claim_whose_caller_died_is_taken_over_and_started_once(lake: Upload) -> None:
    event = [lake.put(name) for name in SEVEN][-1]
    found = complete(upload._listing(lake.account.bucket, lake.prefix))
    assert found is not None
    # What a call leaves that died before, and one that died after it started the execution.
    assert UploadManifest(lake.account.table).claim(lake.prefix + found.digest, mode="train") == 1
    name = upload.handler(event)[lake.prefix]
    boto3.client("dynamodb").update_item(
        TableName=lake.account.table,
        Key={"id": {"S": lake.prefix + found.digest}},
        UpdateExpression="SET #s = :s",
        ExpressionAttributeNames={"#s": "status"},
        ExpressionAttributeValues={":s": {"S": "starting"}},
    )
    assert upload.handler(event)[lake.prefix] == name
    assert len(lake.executions()) == 1


def test_an_extract_without_labels_is_scored_once_it_says_that_none_will_come(
    lake: Upload, jobs: Jobs
) -> None:
    answers = [upload.handler(lake.put(name)) for name in SEVEN if name != "churn_label.csv"]
    assert answers == [{}] * 6
    assert upload.handler(lake.put("_unlabelled", ""))
    ended(lake.executions()[0])
    assert jobs.verbs() == ["etl", "score", "drift"]


@pytest.mark.parametrize(
    "key", ["raw/readme.txt", "scored/2024-12-31/churn_label.csv", "raw/latest/churn_label.csv"]
)
def test_objects_outside_a_dated_folder_start_nothing(lake: Upload, key: str) -> None:
    assert upload.handler(lake.put(key, prefix="")) == {}


def test_keys_are_decoded_as_s3_encodes_them() -> None:
    assert folder_of("raw/2024-12-31/a b.csv") == ("raw/2024-12-31/", "2024-12-31")
    assert folder_of("raw/2024-12-31") is None


def test_days_since_the_last_good_run_are_counted(lake: Upload) -> None:
    boto3.client("dynamodb").delete_item(TableName=lake.account.table, Key={"id": {"S": "latest"}})
    assert upload.handler({"count_days": True})["days"] == pytest.approx(0, abs=0.01)
    long_ago = {"id": {"S": "counting"}, "ended": {"S": "2026-01-01T00:00:00.000Z"}}
    boto3.client("dynamodb").put_item(TableName=lake.account.table, Item=long_ago)
    assert upload.handler({"count_days": True})["days"] > 300  # none ever ended well
    row = {"id": {"S": "latest"}, "ended": {"S": "2026-01-01T00:00:00.000Z"}}
    boto3.client("dynamodb").put_item(TableName=lake.account.table, Item=row)
    assert upload.handler({"count_days": True})["days"] > 300
    metrics = boto3.client("cloudwatch").list_metrics(Namespace="SpanishGas", MetricName="DaysSinceLastRun")
    assert {"Name": "Pipeline", "Value": lake.account.bucket} in [
        d for m in metrics["Metrics"] for d in m["Dimensions"]
    ]


def objects(*names: str) -> list[ListedObject]:
    return [ListedObject(name, f"etag of {name}", 1) for name in names]


def test_a_table_in_parts_counts_once_its_folder_says_that_it_is_whole() -> None:
    six = [name for name in SEVEN if not name.startswith("consumption")]
    parts = [f"consumption_hourly_2024/part-{n}.parquet" for n in range(2)]
    assert complete(objects(*six, *parts)) is None
    assert complete(objects(*six, *parts, "consumption_hourly_2024/_SUCCESS")) is not None


def test_only_what_the_build_reads_is_content() -> None:
    before = complete(objects(*SEVEN))
    assert complete(objects(*reversed(SEVEN), "notes.txt")) == before
    assert complete(objects(*SEVEN, "mapping.yaml")) != before
    assert before is not None
    assert before.mode == "train"


def test_the_functions_package_needs_boto3_alone() -> None:
    files = [
        "spanishgas/__init__.py",
        "spanishgas/raw_files.py",
        *(f"spanishgas/aws/{n}.py" for n in ("__init__", "upload")),
    ]
    dockerfile = (Path(__file__).resolve().parents[2] / "Dockerfile").read_text()
    assert [file for file in files if file not in dockerfile] == []
    code = (
        "import sys, boto3; before = set(sys.modules); import spanishgas.aws.upload; "
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["boto3", "spanishgas"]
