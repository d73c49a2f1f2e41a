"""Fixtures that every suite shares."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from spanishgas.settings import settings
from tests import postgres

# Tests run side by side: one thread each, in this process and in those they start.
os.environ.update(OMP_NUM_THREADS="1", SPANISHGAS_THREADS="1")
# In tables of a few rows a single bad one is more than any sound share; tests of the limit set it themselves.
os.environ["SPANISHGAS_MAX_QUARANTINED"] = "1"


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tracking store of the test's own (SQLite, artefacts beside it), and a work folder where it lies."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield tmp_path
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The limit that the settings have where nobody set one."""
    monkeypatch.delenv("SPANISHGAS_MAX_QUARANTINED")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[int]:
    """Port of a PostgreSQL server of this test process, started when a test first asks for it."""
    with postgres.running() as port:
        yield port


_databases = itertools.count()


@pytest.fixture
def postgres_url(postgres_server: int) -> str:
    """SQLAlchemy URL of an empty PostgreSQL database of the test's own."""
    name = f"test_{next(_databases)}"
    postgres.execute(postgres.address(postgres_server, "postgres"), f"CREATE DATABASE {name}")
    return postgres.address(postgres_server, name)
