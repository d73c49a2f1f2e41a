"""The Lambda function: a complete raw upload starts one execution of the state machine. Needs boto3 alone.

    S3 event, or {"prefix": "raw/2024-12-31/"}   extract complete? -> claim its content in the manifest -> execution
    the end of an execution                       what it could not write down itself: the content may be tried again
    {"count_days": true}                          metric DaysSinceLastRun, for the alarm of silence

Settings: PIPELINE_NAME, MANIFEST_TABLE, STATE_MACHINE_ARN, and LAKE_BUCKET for an event that names no bucket.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote_plus

import boto3

from spanishgas.aws.extract import Listed, complete, folder_of
from spanishgas.aws.manifest import Manifest

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


def _listing(bucket: str, prefix: str) -> list[Listed]:
    pages = _client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [
        Listed(item["Key"].removeprefix(prefix), item["ETag"].strip('"'), item["Size"])
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


def _manifest() -> Manifest:
    return Manifest(_client("dynamodb"), os.environ["MANIFEST_TABLE"])


@cache
def _client(service: str) -> Any:
    return boto3.client(service)
