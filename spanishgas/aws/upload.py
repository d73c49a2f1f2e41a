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
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import boto3
from boto3.dynamodb.conditions import Attr, ConditionBase

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
    order = {"id": row, "mode": extract.mode, "raw": f"s3://{bucket}/{prefix.rstrip('/')}", "as_of": as_of}
    _manifest().started(row, _execute(name, order))
    log.info("%s: %s of %s", name, extract.mode, prefix)
    return name


def _execute(name: str, order: Mapping[str, str]) -> str:
    """ARN of the execution; one of the same name that has begun is not begun again."""
    machine, client = os.environ["STATE_MACHINE_ARN"], _client("stepfunctions")
    with suppress(client.exceptions.ExecutionAlreadyExists):
        client.start_execution(stateMachineArn=machine, name=name, input=json.dumps(order))
    return f"{machine.replace(':stateMachine:', ':execution:')}:{name}"


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


@cache
def _client(service: str) -> Any:
    return boto3.client(service)


@cache
def _manifest() -> UploadManifest:
    return UploadManifest(os.environ["MANIFEST_TABLE"])


UNLABELLED, WHOLE = "_unlabelled", "_SUCCESS"
_FOLDER = re.compile(r"(raw/(\d{4}-\d{2}-\d{2})/).*")


class ListedObject(NamedTuple):
    """An object: its name below the extract's prefix, its ETag and its size."""

    name: str
    etag: str
    size: int


class Complete(NamedTuple):
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
    listed = {o.name: o for o in objects}
    ready = {name.removesuffix(f"/{WHOLE}") for name in listed}
    tables = {table for table in RAW_FILES if not ready.isdisjoint(names(table, {}))}
    if tables | {LABELS} != RAW_FILES.keys() or (LABELS not in tables and UNLABELLED not in listed):
        return None
    content = sorted(tuple(o) for o in listed.values() if o.name == MAPPING or table_of(o.name, {}))
    digest = hashlib.sha256(repr(content).encode()).hexdigest()
    return Complete("train" if LABELS in tables else "score", digest)


ABSENT = Attr("id").not_exists()
LATEST, COUNTING = "latest", "counting"
"""The row that the state machine writes when a run ended well, and the one that says since when that is waited for."""


class UploadManifest:
    """Rows of the DynamoDB table `name`."""

    def __init__(self, name: str) -> None:
        self._table = boto3.resource("dynamodb").Table(name)

    def claim(self, row: str, **about: str) -> int | None:
        """Number of the attempt that the caller is to start; None where the content was taken and did not fail."""
        free = ABSENT | Attr("status").eq("failed")
        values = {"status": "starting", "claimed": _now(), **about}
        item = self._update(row, free, values, more=" ADD attempt :one") or self._read(row)
        return int(item["attempt"]) if item["status"] == "starting" else None

    def started(self, row: str, execution: str) -> None:
        """Write down which execution runs; nothing where it has ended by now."""
        self._update(row, Attr("status").eq("starting"), {"status": "started", "execution": execution})

    def failed(self, row: str, execution: str, failure: str) -> None:
        """Write down a failure that the execution could not; one that it did write stays."""
        its_own = Attr("execution").not_exists() | Attr("execution").eq(execution)
        values = {"status": "failed", "ended": _now(), "failure": failure, "execution": execution}
        self._update(row, ABSENT | (Attr("status").ne("failed") & its_own), values)

    def days_since_latest(self) -> float:
        """Days since a run last ended well; where none did, since this was first asked."""
        latest = self._read(LATEST)
        if not latest:
            since = {"status": "waiting", "ended": _now()}
            latest = self._update(COUNTING, ABSENT, since) or self._read(COUNTING)
        ended = datetime.fromisoformat(latest["ended"].replace("Z", "+00:00"))
        return (datetime.now(UTC) - ended).total_seconds() / 86_400

    def _read(self, row: str) -> dict[str, Any]:
        item: dict[str, Any] = self._table.get_item(Key={"id": row}, ConsistentRead=True).get("Item", {})
        return item

    def _update(
        self, row: str, condition: ConditionBase, values: Mapping[str, str], more: str = ""
    ) -> dict[str, Any] | None:
        """The row once it has the values; None where the condition does not hold."""
        assigned = ", ".join(f"#{name} = :{name}" for name in values)
        try:
            answer = self._table.update_item(
                Key={"id": row},
                UpdateExpression=f"SET {assigned}{more}",
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{name}": name for name in values},
                ExpressionAttributeValues={f":{name}": value for name, value in values.items()}
                | ({":one": 1} if more else {}),
                ReturnValues="ALL_NEW",
            )
        except self._table.meta.client.exceptions.ConditionalCheckFailedException:
            return None
        attributes: dict[str, Any] = answer["Attributes"]
        return attributes


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
