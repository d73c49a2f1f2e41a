"""The manifest: a DynamoDB row per content that was taken, so that each starts one execution.

    absent or failed --claim--> starting --started--> started --(the state machine)--> succeeded, not promoted, failed

A claim that nobody followed up (`starting`) is taken over by the next event: the execution's name is derived from the
row, so starting it twice is starting it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

LATEST, COUNTING = "latest", "counting"
"""The row that the state machine writes when a run ended well, and the one that says since when that is waited for."""


class Manifest:
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
        found = done or self._read(row)
        return int(found["attempt"]["N"]) if found["status"]["S"] == "starting" else None

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
        found = self._read(LATEST)
        if not found:
            since = {":at": {"S": _now()}, ":waiting": {"S": "waiting"}}
            change, first = "SET #status = :waiting, ended = :at", "attribute_not_exists(id)"
            found = self._update(COUNTING, change, first, since) or self._read(COUNTING)
        ended = datetime.fromisoformat(found["ended"]["S"].replace("Z", "+00:00"))
        return (datetime.now(UTC) - ended).total_seconds() / 86_400

    def _read(self, row: str) -> dict[str, Any]:
        answer = self._client.get_item(TableName=self._name, Key={"id": {"S": row}}, ConsistentRead=True)
        found: dict[str, Any] = answer.get("Item", {})
        return found

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
        found: dict[str, Any] = answer["Attributes"]
        return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
