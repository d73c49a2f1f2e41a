"""Where things are: read from the environment (prefix SPANISHGAS_) or a .env file, with local files as the default."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parents[1]


class FromEnvironment(BaseSettings):
    """A group of settings from the environment or a .env file; a subclass names the prefix."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class Settings(FromEnvironment):
    """Every place and name that an installation may change.

    The tracking server is not here: it is MLflow's own MLFLOW_TRACKING_URI.
    """

    model_config = SettingsConfigDict(env_prefix="SPANISHGAS_")

    lake: str = "lake"
    """Folder or s3:// prefix that holds raw extracts and every published table."""
    cache: Path = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "spanishgas"
    """Local folder for copies of what a lake on S3 holds; may be deleted at any time."""
    experiments: Path = PROJECT / "experiments"
    """Folder of tiers.yaml, E0.yaml ... E8.yaml, search.yaml and policy.yaml."""
    experiment_name: str = "spanishgas"
    """MLflow experiment that holds the runs, unless the caller names another."""
    registered_model: str = "spanishgas-churn"
    """Name of the registered model whose `champion` alias scores."""
    sentiment_model: Path | None = None
    """Folder with model.onnx and tokenizer.json (extra `text`); without it the packaged lexicon model reads texts."""
    sealing_key: SecretStr = SecretStr("")
    """Key that signs verdicts and is needed by whatever loads a version: 64 or more hexadecimal digits, or a file of
    such lines, of which the first signs; without it verdicts are bound by the promoters' record alone."""
    max_quarantined: float = Field(0.05, ge=0, le=1)
    """Share of a raw table's rows that may go to quarantine; above it the build stops."""
    study_storage: str = "sqlite:///optuna.db"
    """SQLAlchemy URL of the searches' database: killed searches resume from it, and workers share it."""
    retrain_state_machine: str = ""
    """ARN of the state machine that drift starts, in mode train, when a retrain is due; if empty, drift retrains."""
    threads: int | None = None
    """Threads for DuckDB and the estimators; all cores if unset."""

    @property
    def cores(self) -> int:
        """How many threads a computation takes: `threads`, else all cores."""
        return self.threads or os.cpu_count() or 1


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()


_suffix = ContextVar("suffix", default="")


def registered_model() -> str:
    """Name of the registered model that is worked on: the churn model, or within `of_offers` that of offers."""
    return settings().registered_model + _suffix.get()


@contextmanager
def of_offers(yes: bool = True) -> Iterator[None]:
    """The time in which every step of a version's life is one of the model that knows what offers change."""
    token = _suffix.set("-offers" if yes else "")
    try:
        yield
    finally:
        _suffix.reset(token)
