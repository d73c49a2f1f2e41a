"""Moving the champion on a server as a team runs it (PostgreSQL, S3, passwords), also when it fails half-way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from spanishgas import cli, pipeline
from spanishgas.cli import app
from spanishgas.errors import DataError, TrackingError
from spanishgas.lifecycle import history, promotion, promotion_lock, registry, runs
from spanishgas.lifecycle.compare import compare, reproduce
from spanishgas.lifecycle.experiments import silent
from spanishgas.lifecycle.history import How
from spanishgas.lifecycle.lineage import lineage
from spanishgas.lifecycle.promotion import scorable
from spanishgas.scoring import rollback as rolling
from spanishgas.scoring.score import score
from spanishgas.settings import settings
from tests import postgres, tracking_server
from tests.cheap_experiments import cheap_search
from tests.gold_frames import publish_gold
from tests.integration.test_lifecycle import (
    CUSTOMERS,
    SEED,
    TRIALS,
    forget,
    later_gold,
    pass_through,
    ranked,
)
from tests.s3_proxy import Answer, proxy
from tests.tracking_server import ADMIN, PASSWORD
from tests.versions import add_version

pytestmark = pytest.mark.slow
DATABASE = "lifecycle_server"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, postgres_server: int, s3_server: str) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    tracked = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": s3_server,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="lifecycle-server")
        postgres.execute(postgres.address(postgres_server, "postgres"), f"CREATE DATABASE {DATABASE}")
        url = postgres.address(postgres_server, DATABASE)
        with tracking_server.running(folder, url, "lifecycle-server", s3_server) as started:
            for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.delenv(name)
            yield started
        mlflow.set_tracking_uri(tracked)


@pytest.fixture
def model(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A registered model without versions on the server, and a client that retries once and soon."""
    name = re.sub(r"\W", "-", request.node.name)
    for key, value in {
        "SPANISHGAS_REGISTERED_MODEL": name,
        "MLFLOW_TRACKING_USERNAME": ADMIN,
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    }.items():
        monkeypatch.setenv(key, value)
    settings.cache_clear()
    mlflow.set_tracking_uri(server)
    MlflowClient().create_registered_model(name)
    yield name
    while mlflow.active_run():
        mlflow.end_run()
    monkeypatch.undo()
    settings.cache_clear()


def test_promote_see_a_move_elsewhere_refuse_roll_back_and_approve_on_the_server(model: str) -> None:
    first, second, bad = add_version(), add_version(0.8), add_version(0.6)
    promotion.promote(first, "first")
    promotion.promote(second, "better")
    with pytest.raises(TrackingError, match=r"is 0\.600"):
        promotion.promote(bad, "please")
    MlflowClient().set_registered_model_alias(model, "champion", bad)
    with pytest.raises(TrackingError, match="has no passed verdict"):
        scorable("champion")
    promotion.rollback("nobody judged it")
    assert scorable("champion").number == second
    assert [(m.how, m.version, m.by) for m in history.read().done] == [
        (How.PROMOTED, first, ADMIN),
        (How.PROMOTED, second, ADMIN),
        (How.ELSEWHERE, bad, "unknown"),
        (How.ROLLED_BACK, second, ADMIN),
    ]
    promotion.approve(first, "seen")
    version = registry.resolve(first)
    assert [m.by for m in history.read().approvals(first, version.digest)] == [ADMIN]


@contextmanager
def as_user(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", name)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", f"{name}-password")
        yield


def test_a_trainer_registers_and_a_promoter_alone_moves_the_champion(model: str, server: str) -> None:
    for role in ("trainer", "promoter"):
        user = {"username": role, "password": f"{role}-password"}
        made = requests.post(
            f"{server}/api/2.0/mlflow/users/create", json=user, auth=(ADMIN, PASSWORD), timeout=60
        )
        assert made.status_code == 200
        done = subprocess.run(
            [sys.executable, str(tracking_server.PERMISSIONS), role, role],
            env=os.environ | {"MLFLOW_TRACKING_URI": server},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, f"{role}: {role}\n"), done.stderr
    with as_user("trainer"):
        version = add_version()
        registry.count_opening()
        with pytest.raises(TrackingError, match=r"trainer may move no champion.*MANAGE.*Nothing was moved"):
            promotion.promote(version, "mine")
        for path in ("api", "ajax-api"):
            order = {"name": model, "alias": "champion", "version": version}
            answer = requests.post(
                f"{server}/{path}/2.0/mlflow/registered-models/alias",
                json=order,
                auth=("trainer", "trainer-password"),
                headers={"Content-Type": "application/json"},
                timeout=60,
            )
            assert answer.status_code == 403
        with pytest.raises(MlflowException, match="403"):
            MlflowClient().set_registered_model_tag(model, "move.0001", "{}")
        with pytest.raises(MlflowException, match="403"):
            MlflowClient().delete_registered_model_tag(model, "move.0001")
    assert registry.aliases() == {}
    assert history.read().moves == []
    with as_user("promoter"):
        promotion.promote(version, "passed its gate")
        assert registry.aliases()["champion"] == version
    assert history.read().done[-1].by == "promoter"
    with as_user("trainer"), pytest.raises(MlflowException, match="403"):
        MlflowClient().delete_registered_model_alias(model, "champion")


def test_wrong_credentials_are_one_message_and_move_nothing(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add_version()
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "expired")
    for act in (lambda: promotion.promote(version, "please"), lambda: promotion.rollback("please")):
        with pytest.raises(MlflowException, match="401"):
            act()
    done = CliRunner().invoke(app, ["approve", version, "--reason", "please"])
    assert "401" in str(cli._known(done.exception or ValueError()))
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    assert history.read().moves == []


def test_a_server_that_is_down_is_one_message(model: str) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9 cannot be reached.*MLFLOW_TRACKING_URI"):
        runs.connect()


def test_a_slow_server_is_waited_for(model: str, server: str) -> None:
    version = add_version()

    def slow(method: str, path: str) -> Answer | None:
        time.sleep(0.2)
        return None

    with proxy(server, slow) as url:
        mlflow.set_tracking_uri(url)
        promotion.promote(version, "slowly")
    mlflow.set_tracking_uri(server)
    assert registry.aliases() == {"champion": version}


WRITES = ("registered-models/alias", "registered-models/set-tag", "model-versions/set-tag")


@pytest.mark.parametrize("lost", [False, True], ids=["refused", "answer lost"])
def test_errors_of_the_server_at_any_write_leave_no_half_promotion(
    model: str, server: str, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the n-th write on the server says 500; the next command, with the server well again, completes the move."""
    # A claim whose answer was lost stands, for this process lives on.
    monkeypatch.setattr(promotion_lock, "LEASE_SECONDS", 2.0)
    first, second = add_version(), add_version()
    began = finished = 0
    for n in range(0, 40, 2):
        promotion.promote(first, "before")
        before = len(history.read().done)
        count = 0

        def ill(method: str, path: str) -> Answer | None:
            nonlocal count
            count += any(part in path for part in WRITES) and method != "GET"
            return (500, "InternalError") if count > n else None  # noqa: B023  # asked within the loop

        with proxy(server, ill, forward=lost) as url:
            mlflow.set_tracking_uri(url)
            failed = _fails(lambda: promotion.promote(second, "better"))
        mlflow.set_tracking_uri(server)
        while mlflow.active_run():
            mlflow.end_run()
        if not failed:
            break
        pending = history.read().pending is not None or len(history.read().done) > before
        record = promotion.seen()
        assert record.settled
        assert record.champion == (second if pending else first)
        assert len(record.done) == before + pending
        began, finished = began + 1, finished + pending
    else:
        pytest.fail("it never came to its end")
    assert began > finished > 0


def _fails(act: Callable[[], object]) -> bool:
    try:
        act()
    except (TrackingError, MlflowException):
        return True
    return False


def stored(s3_server: str, of: str, name: str) -> tuple[Any, str]:
    """A client of the server's own S3, and the key of the artefact called `name` of a run or logged model."""
    s3 = boto3.client(
        "s3",
        endpoint_url=s3_server,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="lifecycle-server", Prefix="artifacts/")
    keys = [o["Key"] for page in pages for o in page["Contents"]]
    (key,) = [k for k in keys if of in k and k.endswith(f"/{name}")]
    return s3, key


def test_a_verdict_that_was_half_uploaded_is_not_believed(model: str, s3_server: str) -> None:
    version = add_version()
    s3, key = stored(s3_server, str(registry.resolve(version).run_id), "verdict.json")
    s3.put_object(Bucket="lifecycle-server", Key=key, Body=b'{"verdict": {"checks"')
    with pytest.raises(TrackingError, match=r"no artefact verdict\.json that can be read"):
        promotion.promote(version, "please")
    assert history.read().moves == []
    s3.delete_object(Bucket="lifecycle-server", Key=key)
    with pytest.raises(TrackingError, match=r"no artefact verdict\.json that can be read"):
        promotion.promote(version, "please")


def test_the_server_keeps_its_artefacts_on_s3_and_its_records_in_postgresql(
    model: str, s3_server: str, postgres_server: int, tmp_path: Path
) -> None:
    import psycopg

    version = add_version()
    promotion.promote(version, "first")
    with psycopg.connect(postgres.address(postgres_server, DATABASE).replace("+psycopg", "")) as connection:
        rows = connection.execute(
            "SELECT alias, version FROM registered_model_aliases WHERE name = %s", (model,)
        ).fetchall()
    assert rows == [("champion", int(version))]


@pytest.mark.timeout(2400)
def test_the_whole_lifecycle_runs_on_the_server(
    model: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPANISHGAS_EXPERIMENTS", str(cheap_search(tmp_path / "experiments")))
    forget()
    try:
        chain = pass_through(tmp_path, monkeypatch)
        lake = chain.lake
        assert len(ranked(chain.gold)) == len(chain.ladder) + 1
        again = pipeline.retrain(TRIALS, lake=lake, seed=SEED + 1, progress=silent)
        second = again.number
        assert "champion.average_precision.difference" in {c.name for c in again.verdict.checks}
        promotion.promote(second, "next", override="a rehearsal")
        assert compare("1", second, lake).customers == CUSTOMERS
        assert pipeline.reconcile(lake=lake).startswith(
            f"champion: version {second}, {CUSTOMERS:,} customers"
        )
        words = rolling.rollback("worse", lake=lake, rescore=True)
        assert f"scored again with version 1: {CUSTOMERS:,} customers" in words
        assert lineage(lake.current("scores").uri, lake).broken == []
        assert reproduce("champion", lake).equal
        moves = [(m.how, m.version, m.replaced) for m in history.read().done]
        assert moves == [
            (How.PROMOTED, "1", None),
            (How.PROMOTED, second, "1"),
            (How.ROLLED_BACK, "1", second),
        ]

        newer = publish_gold(lake, later_gold(), date(2025, 6, 30)).manifest.as_of
        logged = str(registry.resolve("1").entity.source).removeprefix("models:/")
        s3, key = stored(s3_server, logged, "model.skops")
        whole = s3.get_object(Bucket="lifecycle-server", Key=key)["Body"].read()
        s3.put_object(Bucket="lifecycle-server", Key=key, Body=whole[: len(whole) // 2])
        with pytest.raises(DataError, match="is not what was judged"):
            score("champion", lake=lake)
        assert lake.find("scores", newer) is None
    finally:
        monkeypatch.delenv("SPANISHGAS_EXPERIMENTS")
        forget()
