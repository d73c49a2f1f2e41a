"""How the serving process runs: from the environment, or a .env file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MEGABYTE = 1024 * 1024
MOST_MB_IN_FLIGHT = 100
"""SageMaker's limit on concurrent requests times payload in MB."""


class Serving(BaseSettings):
    """The serving process; the prefix is SPANISHGAS_SERVE_."""

    model_config = SettingsConfigDict(
        env_prefix="SPANISHGAS_SERVE_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    model_dir: Path = Field(
        Path("/opt/ml/model"), validation_alias=AliasChoices("SPANISHGAS_MODEL_DIR", "SM_MODEL_DIR")
    )
    """Folder of the model artefact; SageMaker unpacks its archive to the default."""
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

    @model_validator(mode="after")
    def _in_flight(self) -> Self:
        if self.workers * self.payload_mb > MOST_MB_IN_FLIGHT:
            raise ValueError(
                f"{self.workers} workers x {self.payload_mb} MB is more than {MOST_MB_IN_FLIGHT} MB, "
                "SageMaker's limit: lower one of them"
            )
        return self
