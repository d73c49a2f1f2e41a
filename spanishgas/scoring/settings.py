"""How the serving process and the transform jobs run: from the environment, or a .env file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Self, TypeVar

from pydantic import AliasChoices, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spanishgas.errors import UsageError
from spanishgas.scoring.payload import DECODED, Media
from spanishgas.settings import FromEnvironment

MEGABYTE = 1024 * 1024
LISTENING = "listening on port "
"""How the line begins in which the serving process says its port."""
MOST_MB_IN_FLIGHT = 100
"""SageMaker's limit on concurrent requests times payload in MB."""


class Serving(FromEnvironment):
    """The serving process; the prefix is SPANISHGAS_SERVE_."""

    model_config = SettingsConfigDict(env_prefix="SPANISHGAS_SERVE_")

    model_dir: Path = Field(
        Path("/opt/ml/model"), validation_alias=AliasChoices("SPANISHGAS_MODEL_DIR", "SM_MODEL_DIR")
    )
    """Folder of the model artefact; SageMaker unpacks its archive to the default."""
    model_sha256: str = ""
    """SHA-256 that the model file must have; if empty, any. A transform job sets it to the judged file's."""
    host: str = "127.0.0.1"
    """Address to listen on; the image listens on all."""
    port: int = Field(8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which the first line of the log names."""
    workers: int = Field(1, ge=1)
    """Processes, each with the model in memory; a process scores one part at a time, on all cores where trees can."""
    payload_mb: int = Field(20, ge=1, le=MOST_MB_IN_FLIGHT)
    """Largest body in MB; workers times payload may not exceed 100, SageMaker's limit."""
    max_rows: int = Field(500_000, ge=1)
    """Most rows in one body: a small Parquet file can hold very many."""
    decoded_mb: int = Field(DECODED // MEGABYTE, ge=1)
    """Most memory in MB that a body's table may take: text that repeats takes next to nothing in a Parquet file."""
    body_seconds: float = Field(10, gt=0)
    """How long a body may take to arrive, plus one second for every 64 kB of it."""

    @model_validator(mode="after")
    def _in_flight(self) -> Self:
        _fitting(self.workers, f"{self.workers} workers", self.payload_mb)
        return self


class CleanUp(StrEnum):
    """When the objects and the SageMaker model of a job are removed; the model archive always stays."""

    PUBLISHED = "published"
    NEVER = "never"


class Transform(FromEnvironment):
    """How gold is cut into parts, and the batch transform jobs; the prefix is SPANISHGAS_TRANSFORM_."""

    model_config = SettingsConfigDict(env_prefix="SPANISHGAS_TRANSFORM_")

    media: Media = Media.PARQUET
    """Format of the parts: application/x-parquet, or text/csv."""
    part_rows: int = Field(50_000, ge=1, le=500_000)
    """Rows per part; fewer if they would exceed the payload."""
    payload_mb: int = Field(20, ge=1, le=MOST_MB_IN_FLIGHT)
    """Largest part in MB; concurrency times payload may not exceed 100, SageMaker's limit."""
    timeout_seconds: int = Field(600, ge=1, le=3600)
    """How long one part may take."""
    retries: int = Field(3, ge=0, le=3)
    """How often a part is tried again when the server fails."""
    s3: str | None = None
    """s3://bucket/prefix of model archives and parts."""
    role: str | None = None
    """ARN of the role that the job runs as."""
    image: str | None = None
    """Image of the Dockerfile's target `serve` in ECR."""
    instance_type: str = "ml.m5.xlarge"
    instances: int = Field(1, ge=1)
    """Instances that share the parts."""
    concurrency: int = Field(1, ge=1)
    """Parts in flight per instance, each with a worker of its own; trees use all cores for one part already."""
    kms_key: str | None = None
    """Key that encrypts answers and volumes."""
    poll_seconds: float = Field(15, gt=0)
    stall_seconds: float = Field(3600, gt=0)
    """How long a job may go without a new part before it is stopped."""
    clean_up: CleanUp = CleanUp.PUBLISHED
    """published: parts, answers and SageMaker model are removed once the scores are published; never: they stay."""
    rows_per_second: float = Field(50_000, gt=0)
    """Throughput of a worker that the estimate assumes: measure yours."""
    price_per_hour: float | None = Field(None, gt=0)
    """Price of an instance-hour, for the estimate; prices change, so none is built in."""

    @model_validator(mode="after")
    def _in_flight(self) -> Self:
        _fitting(self.concurrency, f"concurrency {self.concurrency}", self.payload_mb)
        if self.media is Media.JSON:
            raise ValueError("parts are application/x-parquet or text/csv; JSON is for trying by hand")
        return self


def _fitting(concurrent: int, words: str, payload_mb: int) -> None:
    if concurrent * payload_mb > MOST_MB_IN_FLIGHT:
        raise ValueError(
            f"{words} x {payload_mb} MB is more than {MOST_MB_IN_FLIGHT} MB, SageMaker's limit: lower one of them"
        )


S = TypeVar("S", bound=BaseSettings)


def read_settings(kind: type[S]) -> S:
    """The settings of the environment; UsageError that names what is wrong."""
    try:
        return kind()
    except ValidationError as fault:
        first = fault.errors()[0]
        prefix = kind.model_config["env_prefix"]
        where = "".join(str(part).upper() for part in first["loc"])
        raise UsageError(f"{prefix}{where}: {first['msg']} (got {first['input']!r})") from fault
