"""What it takes to score a table by parts, wherever that happens: the task, the backends' common face, the estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spanishgas.errors import SpanishGasError
from spanishgas.scoring.settings import Transform
from spanishgas.scoring.shards import Shards

Progress = Callable[[str, int, int], None]
START_MINUTES = 6
"""Minutes until an instance answers: assumed, not measured."""


class TransformError(SpanishGasError):
    """A transform failed, was stopped, or lost a part; nothing was published."""


@dataclass(frozen=True)
class Task:
    """What is scored by what."""

    model_dir: Path
    """Folder of the model's artefact."""
    model: str
    """Name of the registered model."""
    version: str
    gold_digest: str
    rows: int
    shards: Shards
    tags: Mapping[str, str]
    model_sha256: str = ""
    """Of the model file, as it was judged; the serving process then takes no other."""

    def environment(self, given: Transform, workers: int) -> dict[str, str]:
        """What the serving process must be told to take the parts, and to serve this model alone."""
        return {
            "SPANISHGAS_SERVE_WORKERS": str(workers),
            "SPANISHGAS_SERVE_PAYLOAD_MB": str(given.payload_mb),
            "SPANISHGAS_SERVE_MAX_ROWS": str(given.part_rows),
            **({"SPANISHGAS_SERVE_MODEL_SHA256": self.model_sha256} if self.model_sha256 else {}),
        }


class Backend(Protocol):
    """Where parts are scored."""

    def answers(self, task: Task, progress: Progress) -> Iterator[bytes]:
        """The answer to each part of the task in order, as Parquet or CSV; TransformError where one is missing."""
        ...

    def clean_up(self, task: Task) -> None:
        """Remove what only this task needed, as the policy says; called once the scores are published."""
        ...


def estimate(rows: int, parts: int, given: Transform) -> str:
    """Time and cost of a job in words, before it starts: start-up plus rows over the throughput that was set."""
    minutes = START_MINUTES + rows / (given.rows_per_second * given.instances * given.concurrency) / 60
    hours = minutes / 60 * given.instances
    cost = (
        f"about {hours * given.price_per_hour:.2f} at {given.price_per_hour} an hour"
        if given.price_per_hour
        else "set SPANISHGAS_TRANSFORM_PRICE_PER_HOUR to see the cost"
    )
    return (
        f"{rows:,} rows in about {parts:,} parts on {given.instances} x {given.instance_type}: about {minutes:.0f} "
        f"minutes, {hours:.2f} instance-hours, {cost}"
    )
