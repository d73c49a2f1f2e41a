"""A tracking server as a team runs it: PostgreSQL behind it, artefacts on S3, and passwords."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spanishgas.settings import PROJECT

PERMISSIONS = PROJECT / "infra" / "tracking" / "permissions.py"
ADMIN, PASSWORD = "admin", "a-password-of-the-tests"


@contextmanager
def running(folder: Path, database: str, bucket: str, s3: str) -> Iterator[str]:
    """URL of a `mlflow server` with basic auth, stopped afterwards; clients need no access to S3."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "basic_auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder}/auth.db\nadmin_username = {ADMIN}\n"
        "authorization_function = permissions:authorize\n"
        "auth_cache_ttl_seconds = 60\n"
    )
    words = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", "127.0.0.1"]
    words += ["--port", str(port), "--workers", "1", "--backend-store-uri", database]
    words += ["--artifacts-destination", f"s3://{bucket}/artifacts"]
    environment = os.environ | {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "PYTHONPATH": str(PERMISSIONS.parent),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key of the tests",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_S3_ENDPOINT_URL": s3,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = folder / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(words, cwd=folder, env=environment, stdout=out, stderr=out)
    try:
        await_health(server, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=60)


def await_health(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the tracking server says that it is well."""
    until = time.monotonic() + 600
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the tracking server did not start:\n{log.read_text()}")
