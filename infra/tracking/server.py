"""The tracking server's container: `serve`, `upgrade` (the database, then it ends) or `users` (the pipeline's user).

RDS changes the database's password every week, and it stands in no setting: libpq reads it from a file at each new
connection, and this process writes that file anew every minute from Secrets Manager.

Settings: TRACKING_HOST, TRACKING_ARTIFACTS, TRACKING_DATABASE_HOST, TRACKING_DATABASE_SECRET (its ARN),
TRACKING_DATABASE_CA (certificates that the database's is checked against), MLFLOW_AUTH_ADMIN_PASSWORD,
MLFLOW_FLASK_SERVER_SECRET_KEY; for `users` also TRACKING_USER and TRACKING_USER_PASSWORD; to try it elsewhere
TRACKING_DATABASE_PORT, TRACKING_LISTEN, TRACKING_PORT and TRACKING_URI.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote, urlencode

import boto3
from botocore.exceptions import BotoCoreError, ClientError

DATABASE = "mlflow"
REFRESH_SECONDS = 60.0
UPGRADE_SECONDS, LOOK_SECONDS = 600.0, 5.0
"""How long a server waits for the task that upgrades its database, and how often it looks."""


def main(command: str) -> int:
    """Exit code of the command."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PGPASSFILE"] = f"{folder}/pgpass"
        return {"serve": serve, "upgrade": upgrade, "users": users}[command](Path(folder))


def serve(folder: Path) -> int:
    """Run MLflow's server until it ends or is told to; a release starts it before the database is upgraded."""
    url = database(folder)
    if not upgraded(url):
        print("the database's tables are older than this MLflow: run the task `upgrade`", file=sys.stderr)
        return 1
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\nadmin_username = admin\nauth_cache_ttl_seconds = 60\n"
        "authorization_function = permissions:authorize\n"
        f"database_uri = {url.replace('%', '%%')}\n"
    )
    host = os.environ["TRACKING_HOST"]
    os.environ.update(
        MLFLOW_AUTH_CONFIG_PATH=str(settings),
        PYTHONPATH=os.pathsep.join(
            [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        MLFLOW_SERVER_ALLOWED_HOSTS=f"{host},{host}:*",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",  # otherwise a dozen processes more
        MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD="false",  # clients do not reach the bucket
        MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD="false",
    )
    artifacts = ["--serve-artifacts", "--artifacts-destination", os.environ["TRACKING_ARTIFACTS"]]
    listen = [
        "--host",
        os.environ.get("TRACKING_LISTEN", "0.0.0.0"),
        "--port",
        os.environ.get("TRACKING_PORT", "5000"),
        "--workers",
        "2",
    ]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--app-name",
        "basic-auth",
        "--backend-store-uri",
        url,
    ]
    process = subprocess.Popen([*command, *artifacts, *listen])
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, lambda *_: process.terminate())
    while True:
        try:
            return process.wait(timeout=REFRESH_SECONDS)
        except subprocess.TimeoutExpired:
            refresh(folder)


def upgraded(url: str) -> bool:
    """Whether the tables are what this MLflow wants, after waiting for that; MLflow's server would end at once.

    An empty database, and one of a later MLflow, is left to the server.
    """
    import mlflow.store.db_migrations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import NullPool, create_engine

    known = ScriptDirectory(mlflow.store.db_migrations.__path__[0])
    older = {script.revision for script in known.walk_revisions()} - set(known.get_heads())
    until, engine = time.monotonic() + UPGRADE_SECONDS, create_engine(url, poolclass=NullPool)
    while True:
        with engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        if found not in older or time.monotonic() > until:
            return found not in older
        print(f"waiting for the database's upgrade: its tables are of {found}", flush=True)
        time.sleep(LOOK_SECONDS)


def refresh(folder: Path) -> None:
    """Write the password file anew; where Secrets Manager does not answer the old one stays for another minute."""
    try:
        database(folder)
    except (BotoCoreError, ClientError) as fault:
        print(f"the database's password could not be read: {fault}", file=sys.stderr, flush=True)


def upgrade(folder: Path) -> int:
    """Bring the tables to what this MLflow wants; an empty database is left to the server, which makes them."""
    from sqlalchemy import create_engine, inspect

    url = database(folder)
    if not inspect(create_engine(url)).has_table("alembic_version"):
        print("the database is empty: the server makes its tables when it starts")
        return 0
    return subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", url], check=False).returncode


def users(folder: Path) -> int:
    """Make the pipeline's user, a promoter, or give it the secret's password if it is there."""
    from mlflow.exceptions import MlflowException
    from mlflow.server.auth.client import AuthServiceClient
    from permissions import grant

    name, password = os.environ["TRACKING_USER"], os.environ["TRACKING_USER_PASSWORD"]
    os.environ.update(
        MLFLOW_TRACKING_USERNAME="admin", MLFLOW_TRACKING_PASSWORD=os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"]
    )
    uri = os.environ.get("TRACKING_URI", f"https://{os.environ['TRACKING_HOST']}")
    client = AuthServiceClient(uri)
    try:
        client.create_user(name, password)
    except MlflowException as fault:
        if fault.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        client.update_user_password(name, password)
    print(f"user {name}")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    grant("promoter", name)
    return 0


def database(folder: Path) -> str:
    """URL of the database without a password; the password is in the file that libpq reads."""
    secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["TRACKING_DATABASE_SECRET"])
    user = json.loads(secret["SecretString"])
    host, port = os.environ["TRACKING_DATABASE_HOST"], os.environ.get("TRACKING_DATABASE_PORT", "5432")
    words = (host, port, DATABASE, user["username"], user["password"])
    fresh = folder / "fresh"
    fresh.touch(mode=0o600)
    fresh.write_text(":".join(word.replace("\\", "\\\\").replace(":", "\\:") for word in words) + "\n")
    fresh.replace(os.environ["PGPASSFILE"])
    authority = os.environ.get("TRACKING_DATABASE_CA")
    ssl = {"sslmode": "verify-full", "sslrootcert": authority} if authority else {"sslmode": "disable"}
    return f"postgresql+psycopg://{quote(user['username'])}@{host}:{port}/{DATABASE}?{urlencode(ssl)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
