"""Fixtures that every suite shares."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from spanishgas.settings import PROJECT, settings
from tests import postgres
from tests.tracked import forget, own_store

# Tests run side by side: one thread each, in this process and in those they start.
os.environ.update(OMP_NUM_THREADS="1", SPANISHGAS_THREADS="1")
# In tables of a few rows a single bad one is more than any sound share; tests of the limit set it themselves.
os.environ["SPANISHGAS_MAX_QUARANTINED"] = "1"

# No power fails during the tests; what is waited for, and when, is tested by counting calls.
os.fsync = lambda descriptor: None


@event.listens_for(Engine, "connect")
def _without_waiting_for_the_disk(connection: object, _: object) -> None:
    """The same for the databases of MLflow and Optuna, which commit thousands of times."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[Path]:
    """A tracking store of the test's own (SQLite, artefacts beside it), and a work folder where it lies."""
    with own_store(tmp_path):
        yield tmp_path


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of experiments/ that the process reads, with every cache of it cleared before and after."""
    folder = tmp_path / "experiments"
    shutil.copytree(PROJECT / "experiments", folder)
    with monkeypatch.context() as patch:
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(folder))
        forget()
        yield folder
    forget()


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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 of this process, over HTTP."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An empty bucket of the test's own, and an environment that leads to it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-south-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("SPANISHGAS_CACHE", str(tmp_path / "cache"))
    settings.cache_clear()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    import boto3

    name = tmp_path.name.lower().replace("_", "-")
    boto3.client("s3").create_bucket(
        Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-south-2"}
    )
    yield name
    settings.cache_clear()
