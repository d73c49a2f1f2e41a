"""The tracking server's container script: where the database's password is, and that it follows the secret."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import boto3
import pytest
from sqlalchemy import make_url

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


def test_with_an_authority_the_databases_certificate_is_verified(
    server: ModuleType, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKING_DATABASE_CA", "/app/rds.pem")
    query = make_url(server.database(tmp_path)).query
    assert query == {"sslmode": "verify-full", "sslrootcert": "/app/rds.pem"}
    dockerfile = (SCRIPT.parents[2] / "Dockerfile").read_text()
    assert "TRACKING_DATABASE_CA=/app/rds.pem" in dockerfile
