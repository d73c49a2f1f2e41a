"""The Lambda function: a complete raw upload starts one execution of the state machine. Needs boto3 alone.

    S3 event, or {"prefix": "raw/2024-12-31/"}   extract complete? -> claim its content in the manifest -> execution
    the end of an execution                       what it could not write down itself: the content may be tried again
    {"count_days": true}                          metric DaysSinceLastRun, for the alarm of silence

Settings: PIPELINE_NAME, MANIFEST_TABLE, STATE_MACHINE_ARN, and LAKE_BUCKET for an event that names no bucket.

What an extract under a prefix of the bucket is:

    raw/<as_of>/churn_label.csv and six more     complete, labelled: to train on
    raw/<as_of>/_unlabelled and the six          complete, without labels: to score
    raw/<as_of>/consumption_hourly_2024/...      a table in parts counts once its folder holds _SUCCESS

The manifest is a DynamoDB row per content that was taken, so that each starts one execution:

    absent or failed --claim--> starting --started--> started --(the state machine)--> succeeded, not promoted, failed

A claim that nobody followed up (`starting`) is taken over by the next event: the execution's name is derived from the
row, so starting it twice is starting it once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote_plus

import boto3

from spanishgas.raw_files import LABELS, MAPPING, RAW_FILES, names, table_of

log = logging.getLogger(__name__)
log.setLevel(logging.INFO)


def handler(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:
    """What was started, by prefix, with the name of each execution; an event that starts nothing gives an empty one."""
    if event.get("detail-type") == "Step Functions Execution Status Change":
        _ended(event["detail"])
        return {}
    if event.get("count_days"):
        return _count_days()
    uploads = {
        (record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"]))
        for record in event.get("Records", [])
    }
    if "prefix" in event:
        uploads.add((os.environ["LAKE_BUCKET"], f"{event['prefix'].rstrip('/')}/"))
    folders = {(bucket, *folder) for bucket, key in uploads if (folder := folder_of(key)) is not None}
    started = {prefix: _start(bucket, prefix, as_of) for bucket, prefix, as_of in sorted(folders)}
    return {prefix: name for prefix, name in started.items() if name}


def _start(bucket: str, prefix: str, as_of: str) -> str | None:
    """Name of the execution that runs on this content from now on; None where none is to be started."""
    extract = complete(_listing(bucket, prefix))
    if extract is None:
        log.info("%s is not complete", prefix)
        return None
    row = f"{prefix}{extract.digest}"
    attempt = _manifest().claim(row, mode=extract.mode, as_of=as_of)
    if attempt is None:
        log.info("%s was taken already", row)
        return None
    name = f"{as_of}-{extract.digest[:16]}-{attempt}"
    given = {"id": row, "mode": extract.mode, "raw": f"s3://{bucket}/{prefix.rstrip('/')}", "as_of": as_of}
    _manifest().started(row, _execute(name, given))
    log.info("%s: %s of %s", name, extract.mode, prefix)
    return name


def _execute(name: str, given: Mapping[str, str]) -> str:
    """ARN of the execution; one of the same name that has begun is not begun again."""
    machine = os.environ["STATE_MACHINE_ARN"]
    client = _client("stepfunctions")
    try:
        answer = client.start_execution(stateMachineArn=machine, name=name, input=json.dumps(given))
    except client.exceptions.ExecutionAlreadyExists:
        return f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
    arn: str = answer["executionArn"]
    return arn


def _listing(bucket: str, prefix: str) -> list[ListedObject]:
    pages = _client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [
        ListedObject(item["Key"].removeprefix(prefix), item["ETag"].strip('"'), item["Size"])
        for page in pages
        for item in page.get("Contents", [])
    ]


def _ended(detail: Mapping[str, Any]) -> None:
    row = json.loads(detail.get("input") or "{}").get("id", detail["name"])
    _manifest().failed(row, detail["executionArn"], f"the execution ended as {detail['status']}")


def _count_days() -> dict[str, Any]:
    days = _manifest().days_since_latest()
    metric = {
        "MetricName": "DaysSinceLastRun",
        "Value": days,
        "Dimensions": [{"Name": "Pipeline", "Value": os.environ["PIPELINE_NAME"]}],
    }
    _client("cloudwatch").put_metric_data(Namespace="SpanishGas", MetricData=[metric])
    return {"days": days}


def _manifest() -> UploadManifest:
    return UploadManifest(_client("dynamodb"), os.environ["MANIFEST_TABLE"])


@cache
def _client(service: str) -> Any:
    return boto3.client(service)


UNLABELLED, WHOLE = "_unlabelled", "_SUCCESS"
_FOLDER = re.compile(r"(raw/(\d{4}-\d{2}-\d{2})/).*")


@dataclass(frozen=True)
class ListedObject:
    """An object: its name below the extract's prefix, its ETag and its size."""

    name: str
    etag: str
    size: int


@dataclass(frozen=True)
class Complete:
    """A complete extract: `train` where it has labels, else `score`; equal digests mean equal content.

    S3 gives an object under a KMS key a new ETag with every upload, so the same bytes sent again are another digest.
    """

    mode: str
    digest: str


def folder_of(key: str) -> tuple[str, str] | None:
    """Prefix and as-of date of the extract that an object belongs to; None for one that belongs to none."""
    match = _FOLDER.fullmatch(key)
    return (match[1], match[2]) if match else None


def complete(objects: Iterable[ListedObject]) -> Complete | None:
    """What the extract is, or None while a table is missing or unfinished."""
    listed = list(objects)
    lie = {o.name for o in listed}
    held = {table for table in RAW_FILES if _is_whole(table, lie)}
    if held | {LABELS} != RAW_FILES.keys() or (LABELS not in held and UNLABELLED not in lie):
        return None
    content = sorted((o.name, o.etag, o.size) for o in listed if o.name == MAPPING or table_of(o.name, {}))
    digest = hashlib.sha256(repr(content).encode()).hexdigest()
    return Complete("train" if LABELS in held else "score", digest)


def _is_whole(table: str, lie: Set[str]) -> bool:
    return any(name in lie or f"{name}/{WHOLE}" in lie for name in names(table, {}))


LATEST, COUNTING = "latest", "counting"
"""The row that the state machine writes when a run ended well, and the one that says since when that is waited for."""


class UploadManifest:
    """Rows of the table `name`; `client` is a DynamoDB client."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name

    def claim(self, row: str, **about: str) -> int | None:
        """Number of the attempt that the caller is to start; None where the content was taken and did not fail."""
        values = {":starting": "starting", ":failed": "failed", ":at": _now()}
        values |= {f":{key}": value for key, value in about.items()}
        words = ", ".join(f"#{key} = :{key}" for key in about)
        done = self._update(
            row,
            f"SET #status = :starting, claimed = :at, {words} ADD attempt :one",
            "attribute_not_exists(id) OR #status = :failed",
            {key: {"S": value} for key, value in values.items()} | {":one": {"N": "1"}},
            {f"#{key}": key for key in about},
        )
        item = done or self._read(row)
        return int(item["attempt"]["N"]) if item["status"]["S"] == "starting" else None

    def started(self, row: str, execution: str) -> None:
        """Write down which execution runs; nothing where it has ended by now."""
        values = {":started": "started", ":starting": "starting", ":execution": execution}
        self._update(
            row,
            "SET #status = :started, execution = :execution",
            "#status = :starting",
            {key: {"S": value} for key, value in values.items()},
        )

    def failed(self, row: str, execution: str, failure: str) -> None:
        """Write down a failure that the execution could not; one that it did write stays."""
        values = {":failed": "failed", ":execution": execution, ":failure": failure, ":at": _now()}
        self._update(
            row,
            "SET #status = :failed, ended = :at, failure = :failure, execution = :execution",
            "attribute_not_exists(id) OR (#status <> :failed AND "
            "(attribute_not_exists(execution) OR execution = :execution))",
            {key: {"S": value} for key, value in values.items()},
        )

    def days_since_latest(self) -> float:
        """Days since a run last ended well; where none did, since this was first asked."""
        latest = self._read(LATEST)
        if not latest:
            since = {":at": {"S": _now()}, ":waiting": {"S": "waiting"}}
            change, first = "SET #status = :waiting, ended = :at", "attribute_not_exists(id)"
            latest = self._update(COUNTING, change, first, since) or self._read(COUNTING)
        ended = datetime.fromisoformat(latest["ended"]["S"].replace("Z", "+00:00"))
        return (datetime.now(UTC) - ended).total_seconds() / 86_400

    def _read(self, row: str) -> dict[str, Any]:
        answer = self._client.get_item(TableName=self._name, Key={"id": {"S": row}}, ConsistentRead=True)
        item: dict[str, Any] = answer.get("Item", {})
        return item

    def _update(
        self,
        row: str,
        change: str,
        condition: str,
        values: dict[str, dict[str, str]],
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Any] | None:
        """The row after the change; None where the condition does not hold. Names that DynamoDB reserves have a #."""
        try:
            answer = self._client.update_item(
                TableName=self._name,
                Key={"id": {"S": row}},
                UpdateExpression=change,
                ConditionExpression=condition,
                ExpressionAttributeNames={"#status": "status", **names},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return None
        attributes: dict[str, Any] = answer["Attributes"]
        return attributes


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
