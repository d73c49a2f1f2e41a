"""The tracking server's container script: where the database's password is, and that it follows the secret."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import boto3
import mlflow.store.db_migrations
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from mlflow.tracking import MlflowClient
from sqlalchemy import NullPool, create_engine, make_url, text

SCRIPT = Path(__file__).resolve().parents[2] / "infra" / "tracking" / "server.py"


@pytest.fixture(scope="module")
def server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tracking_server", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def secret(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    user = {"username": "mlflow", "password": "a:b\\c/d@e"}
    name = f"database-{tmp_path.name}"
    arn = boto3.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(user))["ARN"]
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    monkeypatch.setenv("TRACKING_DATABASE_SECRET", arn)
    monkeypatch.setenv("TRACKING_DATABASE_HOST", "db.internal")
    monkeypatch.delenv("TRACKING_DATABASE_CA", raising=False)
    return arn


def test_the_password_is_in_a_file_of_the_process_alone_not_in_the_address(
    server: ModuleType, secret: str, tmp_path: Path
) -> None:
    url = make_url(server.database(tmp_path))
    assert (url.username, url.password, url.host, url.database) == ("mlflow", None, "db.internal", "mlflow")
    # Colons and backslashes are escaped, as libpq's documentation of the file asks.
    assert (tmp_path / "pgpass").read_text() == "db.internal:5432:mlflow:mlflow:a\\:b\\\\c/d@e\n"
    assert (tmp_path / "pgpass").stat().st_mode & 0o777 == 0o600


def test_a_password_that_was_changed_is_read_within_a_minute(
    server: ModuleType, secret: str, tmp_path: Path
) -> None:
    server.database(tmp_path)
    changed = json.dumps({"username": "mlflow", "password": "new"})
    boto3.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=changed)
    server.refresh(tmp_path)
    assert (tmp_path / "pgpass").read_text().endswith(":new\n")
    assert server.REFRESH_SECONDS <= 60


def test_a_secret_that_does_not_answer_leaves_the_old_password_and_says_so(
    server: ModuleType,
    secret: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server.database(tmp_path)
    before = (tmp_path / "pgpass").read_text()
    monkeypatch.setenv("TRACKING_DATABASE_SECRET", "none")
    server.refresh(tmp_path)
    assert (tmp_path / "pgpass").read_text() == before
    assert "could not be read" in capfd.readouterr().err


def migrations(url: str) -> tuple[ScriptDirectory, Config]:
    folder = mlflow.store.db_migrations.__path__[0]
    config = Config(f"{folder}/alembic.ini")
    config.set_main_option("script_location", folder)
    config.set_main_option("sqlalchemy.url", url)
    return ScriptDirectory(folder), config


@pytest.mark.slow
def test_a_server_that_is_newer_than_its_database_waits_for_the_upgrade(
    server: ModuleType, postgres_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.2)
    assert server.upgraded(postgres_url)  # empty: the server makes its tables
    known, config = migrations(postgres_url)
    (head,) = known.get_heads()
    before = known.get_revision(head).down_revision
    MlflowClient(postgres_url).search_experiments()  # makes the tables
    command.downgrade(config, before)
    with monkeypatch.context() as at_once:
        at_once.setattr(server, "UPGRADE_SECONDS", 0.0)
        assert not server.upgraded(postgres_url)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.upgraded, postgres_url)
        time.sleep(1)
        assert not waiting.done()
        subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", postgres_url], check=True)
        assert waiting.result(timeout=60)
    assert f"its tables are of {before}" in capfd.readouterr().out


def test_a_database_of_a_later_mlflow_is_left_to_the_server(server: ModuleType, postgres_url: str) -> None:
    with create_engine(postgres_url, poolclass=NullPool).begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num varchar(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('ffffffffffff')"))
    assert server.upgraded(postgres_url)


def test_ecs_lets_a_server_wait_for_as_long_as_it_does(server: ModuleType) -> None:
    module = (SCRIPT.parents[1] / "terraform/modules/tracking/main.tf").read_text()
    grace = re.search(r"health_check_grace_period_seconds = (\d+)", module)
    assert grace is not None
    assert int(grace[1]) > server.UPGRADE_SECONDS + server.REFRESH_SECONDS


def test_with_an_authority_the_databases_certificate_is_verified(
    server: ModuleType, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKING_DATABASE_CA", "/app/rds.pem")
    query = make_url(server.database(tmp_path)).query
    assert query == {"sslmode": "verify-full", "sslrootcert": "/app/rds.pem"}
    dockerfile = (SCRIPT.parents[2] / "Dockerfile").read_text()
    assert "TRACKING_DATABASE_CA=/app/rds.pem" in dockerfile
