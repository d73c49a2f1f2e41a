"""Attacks on the tracking server over HTTP, as a team runs it (PostgreSQL, S3, passwords), by users of every role.

What each begins from: `trainer` made a run with an artefact and a logged model, and registered a version on it; the run
goes on. `other` is a trainer too, `promoter` promotes, `reader` reads, `nobody` has a login and no role.
"""

from __future__ import annotations

import http.client
import importlib
import json
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas.errors import TrackingError
from spanishgas.lake import Lake
from spanishgas.lifecycle import evaluation, history, promotion, registry, transfer
from spanishgas.lifecycle.ladder import ladder_inputs, run_ladder
from spanishgas.settings import settings
from tests import postgres, tracking_server
from tests.cheap_experiments import cheap_search, lenient
from tests.gold_frames import publish_gold
from tests.integration.test_lifecycle import DAY, SEED, labelled_gold, ranked
from tests.tracked import forget, own_store
from tests.tracking_server import ADMIN, PASSWORD
from tests.versions import logged_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
MODEL, EXPERIMENT = "spanishgas-churn", "spanishgas"
ROLES = {"trainer": "trainer", "other": "trainer", "promoter": "promoter", "reader": "reader"}
JSON = {"Content-Type": "application/json"}
PREFIXES = ("api/2.0", "ajax-api/2.0")


@dataclass(frozen=True)
class Server:
    """The server, and how each user calls it."""

    uri: str

    def call(self, user: str, method: str, path: str, **words: Any) -> requests.Response:
        password = PASSWORD if user == ADMIN else f"{user}-password"
        return requests.request(
            method, f"{self.uri}/{path}", auth=(user, password), timeout=60, allow_redirects=False, **words
        )

    def post(self, user: str, path: str, **body: Any) -> requests.Response:
        return self.call(user, "POST", f"api/2.0/mlflow/{path}", json=body)

    def made(self, user: str, path: str, **body: Any) -> dict[str, Any]:
        answer = self.post(user, path, **body)
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def tags(self) -> dict[str, str]:
        answer = self.call(ADMIN, "GET", "api/2.0/mlflow/registered-models/get", params={"name": MODEL})
        return {t["key"]: t["value"] for t in answer.json()["registered_model"].get("tags", [])}

    def version(self, number: str) -> dict[str, Any]:
        found = {"name": MODEL, "version": number}
        answer = self.call(ADMIN, "GET", "api/2.0/mlflow/model-versions/get", params=found)
        content: dict[str, Any] = answer.json()["model_version"]
        return content

    def aliases(self) -> dict[str, str]:
        answer = self.call(ADMIN, "GET", "api/2.0/mlflow/registered-models/get", params={"name": MODEL})
        return {a["alias"]: a["version"] for a in answer.json()["registered_model"].get("aliases", [])}


@dataclass(frozen=True)
class Registered:
    """A version, and what it stands on."""

    experiment: str
    run: str
    model: str
    version: str

    @property
    def verdict(self) -> str:
        return f"{self.experiment}/{self.run}/artifacts/verdict.json"

    @property
    def skops(self) -> str:
        return f"{self.experiment}/models/{self.model}/artifacts/model.skops"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: int, s3_server: str
) -> Iterator[Server]:
    folder, bucket, database = tmp_path_factory.mktemp("permissions"), "permissions", "permissions"
    tracked = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": s3_server,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=bucket)
        postgres.execute(postgres.address(postgres_server, "postgres"), f"CREATE DATABASE {database}")
        url = postgres.address(postgres_server, database)
        with tracking_server.running(folder, url, bucket, s3_server) as uri:
            for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.delenv(name)
            started = Server(uri)
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda user: add_user(started, user), ["nobody", *ROLES]))
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            for user, role in ROLES.items():
                give(role, user)
            mlflow.set_tracking_uri(uri)
            yield started
        mlflow.set_tracking_uri(tracked)


def add_user(server: Server, user: str) -> None:
    server.made(ADMIN, "users/create", username=user, password=f"{user}-password")


def give(role: str, user: str) -> None:
    """The role, by what the command of the documents calls."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # MLflow's own, of what it imports.
        warnings.simplefilter("ignore")
        patch.syspath_prepend(str(tracking_server.PERMISSIONS.parent))
        importlib.import_module("permissions").grant(role, user)


def begin(server: Server, user: str, *tags: tuple[str, str]) -> tuple[str, str]:
    """Experiment and id of a run of a user."""
    found = server.call(
        ADMIN, "GET", "api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": EXPERIMENT}
    ).json()["experiment"]["experiment_id"]
    run = server.made(
        user, "runs/create", experiment_id=found, tags=[{"key": k, "value": v} for k, v in tags]
    )
    return found, run["run"]["info"]["run_id"]


def put(server: Server, user: str, path: str, prefix: str = "api/2.0") -> requests.Response:
    return server.call(user, "PUT", f"{prefix}/mlflow-artifacts/artifacts/{path}", data=b"another")


@pytest.fixture(scope="module")
def registered(server: Server) -> Registered:
    """A version as the project registers one: artefacts, logged model, version, in that order; its run is open."""
    experiment, run = begin(server, "trainer", ("stage", "evaluate"))
    made = server.made("trainer", "logged-models", experiment_id=experiment, name="churn", source_run_id=run)
    it = Registered(experiment, run, made["model"]["info"]["model_id"], "1")
    for path in (it.verdict, it.skops):
        assert put(server, "trainer", path).status_code == 200
    server.made(
        "trainer",
        "runs/log-batch",
        run_id=run,
        metrics=[{"key": "holdout.average_precision", "value": 0.4, "timestamp": 1, "step": 0}],
    )
    done = server.call(
        "trainer",
        "PATCH",
        f"api/2.0/mlflow/logged-models/{it.model}",
        json={"model_id": it.model, "status": "LOGGED_MODEL_READY"},
    )
    assert done.status_code == 200, done.text
    version = server.made(
        "trainer",
        "model-versions/create",
        name=MODEL,
        source=f"models:/{it.model}",
        model_id=it.model,
        tags=[{"key": "gate", "value": "refused"}, {"key": "data.digest", "value": "d"}],
    )
    assert version["model_version"]["run_id"] == run
    return Registered(experiment, run, it.model, version["model_version"]["version"])


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("user", ["trainer", "other", "promoter", "reader", "nobody"])
def test_nobody_swaps_the_model_or_the_verdict_that_a_version_stands_on(
    server: Server, registered: Registered, user: str, prefix: str
) -> None:
    for path in (
        registered.verdict,
        registered.skops,
        registered.skops.replace("model.skops", "beside.txt"),
        registered.skops.replace("/artifacts", "//artifacts"),
        registered.skops.replace("artifacts", "%61rtifacts"),
        registered.skops.replace("artifacts", "%2561rtifacts"),
        registered.skops.replace("/models/", "/./models/"),
        registered.skops.replace("/models/", "%2Fmodels%2F"),
    ):
        assert put(server, user, path, prefix).status_code in (400, 403, 404), path
        gone = server.call(user, "DELETE", f"{prefix}/mlflow-artifacts/artifacts/{path}")
        assert gone.status_code in (403, 404, 308), path
    kept = server.call(ADMIN, "GET", f"api/2.0/mlflow-artifacts/artifacts/{registered.skops}")
    assert kept.content == b"another"


@pytest.mark.parametrize("step", ["create", "complete", "abort"])
def test_multipart_uploads_are_off(server: Server, registered: Registered, step: str) -> None:
    for prefix in PREFIXES:
        answer = server.call(
            "trainer",
            "POST",
            f"{prefix}/mlflow-artifacts/mpu/{step}/{registered.skops}",
            json={"path": "model.skops", "num_parts": 1},
        )
        assert answer.status_code == 403
    for path in ("artifacts/presigned-upload-url", "upload-artifact"):
        for prefix in PREFIXES:
            assert server.call("trainer", "POST", f"{prefix}/mlflow/{path}", json={}).status_code == 403


def test_a_trainer_writes_artefacts_into_own_running_runs_alone(server: Server) -> None:
    experiment, own = begin(server, "trainer")
    _, others = begin(server, "other")
    root = f"{experiment}/{own}/artifacts"
    assert put(server, "trainer", f"{root}/a folder/table.json").status_code == 200
    for path in (
        f"{experiment}/{others}/artifacts/x.json",
        f"{root}/../../{others}/artifacts/x.json",
        f"{root}/%2e%2e/%2e%2e/{others}/artifacts/x.json",
        f"{root}/%252e%252e/%252e%252e/{others}/artifacts/x.json",
        f"{root}/..%2f..%2f{others}%2fartifacts%2fx.json",
        f"{root}/x%3F/../y",
        f"{root}/x%23y",
        f"{root}/x%00y",
        f"99/{own}/artifacts/x.json",
        f"{experiment}/{own.upper()}/artifacts/x.json",
        f"{experiment}/x.json",
        "x.json",
        f"{experiment}/traces/tr-1/artifacts/traces.json",
    ):
        raw = raw_put(server, "trainer", f"/api/2.0/mlflow-artifacts/artifacts/{path}")
        assert raw in (400, 403, 404), path
    server.made("trainer", "runs/update", run_id=own, status="FINISHED")
    assert put(server, "trainer", f"{root}/late.json").status_code == 403


def raw_put(server: Server, user: str, path: str, host: str | None = None) -> int:
    """The status of a PUT whose path goes over the wire as it is."""
    at = urlsplit(server.uri)
    secret = requests.auth._basic_auth_str(user, f"{user}-password")
    headers = {"Authorization": secret} | ({"Host": host} if host else {})
    with closing(http.client.HTTPConnection(at.hostname or "", at.port, timeout=60)) as link:
        link.request("PUT", path, body=b"another", headers=headers)
        return link.getresponse().status


def test_a_host_header_that_looks_like_a_path_does_not_lead_elsewhere(
    server: Server, registered: Registered
) -> None:
    experiment, own = begin(server, "trainer")
    allowed = f"/api/2.0/mlflow-artifacts/artifacts/{experiment}/{own}/artifacts/x?"
    port = urlsplit(server.uri).port
    path = f"/api/2.0/mlflow-artifacts/artifacts/{registered.skops}"
    assert raw_put(server, "trainer", path, f"127.0.0.1:{port}{allowed}") in (400, 403)
    assert raw_put(server, "trainer", path, f"127.0.0.1:{port}#") in (400, 403)


@pytest.mark.parametrize("user", ["trainer", "promoter", "reader", "nobody"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "registered-models/rename", {"name": MODEL, "new_name": "elsewhere"}),
        ("POST", "registered-models/create", {"name": "spanishgas-churn-2"}),
        ("POST", "registered-models/create", {"name": "x' OR name LIKE '%"}),
        ("PATCH", "registered-models/update", {"name": MODEL, "description": "believe me"}),
        ("DELETE", "registered-models/delete", {"name": MODEL}),
        ("DELETE", "model-versions/delete", {"name": MODEL, "version": "1"}),
        ("POST", "model-versions/transition-stage", {"name": MODEL, "version": "1", "stage": "Production"}),
        ("POST", "experiments/delete", {"experiment_id": "1"}),
        ("POST", "experiments/restore", {"experiment_id": "1"}),
        ("POST", "experiments/update", {"experiment_id": "1", "new_name": "elsewhere"}),
        ("POST", "experiments/delete-experiment-tag", {"experiment_id": "1", "key": "a"}),
        ("POST", "experiments/create", {"name": "e", "artifact_location": "file:///etc"}),
        ("POST", "runs/log-model", {"run_id": "x", "model_json": "{}"}),
        ("POST", "runs/restore", {"run_id": "x"}),
    ],
)
def test_no_role_renames_deletes_or_takes_over(
    server: Server, registered: Registered, user: str, method: str, path: str, body: dict[str, str]
) -> None:
    for prefix in PREFIXES:
        for route in (path, f"{path}/", f"/{path}"):
            answer = server.call(user, method, f"{prefix}/mlflow/{route}", json=body)
            assert answer.status_code == 403, (route, answer.text)
            assert answer.text.count("\n") == 0
        for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            answer = server.call(
                user, "GET", f"{prefix}/mlflow/{path}", headers={header: method}, params=body
            )
            assert answer.status_code in (400, 403, 404)
    assert server.version(registered.version)["run_id"] == registered.run


def test_no_role_deletes_a_run_or_its_tags(server: Server, registered: Registered) -> None:
    for user in ("trainer", "other", "promoter"):
        assert server.post(user, "runs/delete", run_id=registered.run).status_code == 403
        assert server.post(user, "runs/delete-tag", run_id=registered.run, key="stage").status_code == 403
        gone = server.call(user, "DELETE", f"api/2.0/mlflow/logged-models/{registered.model}")
        assert gone.status_code == 403


BELIEVED = [
    "gate",
    "Gate",
    "gate ",
    "gate.digest",
    "gate.override",
    "rolled_back",
    "approved",
    "data.digest",
    "champion.by",
    "probation",
    "fingerprint",
    "turn.1",
    "holdout_openings",
    "move.0001",
    "m\N{GREEK SMALL LETTER OMICRON}ve.0001",
    "anything",
]


@pytest.mark.parametrize("key", BELIEVED)
def test_a_trainer_writes_no_tag_that_is_believed(server: Server, registered: Registered, key: str) -> None:
    before = server.tags(), server.version(registered.version)
    for prefix in PREFIXES:
        for body in (
            {"name": MODEL, "key": key, "value": "passed"},
            {"name": MODEL, "key": key, "value": "{}", "version": registered.version},
        ):
            for route in ("registered-models", "model-versions"):
                for method, path in (("POST", "set-tag"), ("DELETE", "delete-tag")):
                    answer = server.call("trainer", method, f"{prefix}/mlflow/{route}/{path}", json=body)
                    assert answer.status_code == 403, answer.text
    assert (server.tags(), server.version(registered.version)) == before


def test_a_trainers_own_version_is_described_once_and_never_again(
    server: Server, registered: Registered
) -> None:
    order = {"name": MODEL, "version": registered.version, "description": "as judged"}
    where = "api/2.0/mlflow/model-versions/update"
    assert server.call("other", "PATCH", where, json=order).status_code == 403
    assert server.call("trainer", "PATCH", where, json=order).status_code == 200
    for user in ("trainer", "promoter"):
        again = server.call(user, "PATCH", where, json=order | {"description": "better"})
        assert again.status_code == 403
    assert server.version(registered.version)["description"] == "as judged"


def test_what_a_version_stands_on_is_added_to_and_not_changed(server: Server, registered: Registered) -> None:
    run = registered.run
    metric = {"key": "holdout.average_precision", "value": 0.99, "timestamp": 2, "step": 1}
    for step in range(2):
        sample = {"key": "system/cpu_utilization_percentage", "value": 9.5, "timestamp": 2, "step": step}
        server.made("trainer", "runs/log-batch", run_id=run, metrics=[sample])
    for body in (
        {"metrics": [metric]},
        {"metrics": [metric | {"key": "new"}], "tags": [{"key": "stage", "value": "x"}]},
    ):
        assert server.post("trainer", "runs/log-batch", run_id=run, **body).status_code == 403
    assert server.post("trainer", "runs/log-metric", run_id=run, **metric).status_code == 403
    assert server.post("trainer", "runs/set-tag", run_id=run, key="stage", value="x").status_code == 403
    assert server.post("trainer", "runs/update", run_id=run, run_name="x").status_code == 403
    tags = f"api/2.0/mlflow/logged-models/{registered.model}"
    for method, path, content in (
        ("PATCH", f"{tags}/tags", {"tags": [{"key": "a", "value": "b"}]}),
        ("POST", f"{tags}/params", {"params": [{"key": "a", "value": "b"}]}),
        ("PATCH", tags, {"model_id": registered.model, "status": "LOGGED_MODEL_UPLOAD_FAILED"}),
    ):
        assert server.call("trainer", method, path, json=content).status_code == 403
    server.made(
        "trainer", "runs/log-batch", run_id=run, metrics=[metric | {"key": "seconds"}],
        tags=[{"key": "version", "value": registered.version}],
    )  # fmt: skip


def test_a_trainer_writes_into_own_runs_alone(server: Server) -> None:
    _, run = begin(server, "trainer")
    for user in ("other", "promoter", "reader", "nobody"):
        for path, body in (
            ("runs/log-batch", {"tags": [{"key": "a", "value": "b"}]}),
            ("runs/set-tag", {"key": "a", "value": "b"}),
            ("runs/log-parameter", {"key": "a", "value": "b"}),
            ("runs/log-metric", {"key": "a", "value": 1, "timestamp": 1}),
            ("runs/log-inputs", {}),
            ("runs/outputs", {}),
            ("runs/update", {"status": "FINISHED"}),
            ("runs/update", {"run_name": "x", "status": "KILLED"}),
            ("logged-models", {"experiment_id": "1", "name": "m", "source_run_id": run}),
            ("model-versions/create", {"name": MODEL, "source": f"runs:/{run}/x", "run_id": run}),
        ):
            whole = body if path.startswith(("logged", "model")) else body | {"run_id": run}
            answer = server.post(user, path, **whole)
            assert answer.status_code == 403, (user, path, answer.text)
    for path in ("runs/create", "runs/set-tag", "runs/log-batch"):
        forged = {"key": "spanishgas.login", "value": "other"}
        body = {"run_id": run, "experiment_id": "1", "tags": [forged], **forged}
        assert server.post("trainer", path, **body).status_code == 403


def test_a_killed_run_is_ended_by_whoever_comes_next(server: Server) -> None:
    _, run = begin(server, "other")
    server.made("trainer", "runs/update", run_id=run, status="KILLED", end_time=1)
    assert server.post("trainer", "runs/update", run_id=run, status="RUNNING").status_code == 403


@pytest.mark.parametrize(
    "key",
    [
        "approved",
        "gate.override",
        "rolled_back",
        "champion.by",
        "probation",
        " approved",
        "mlflow.prompt.is_prompt",
    ],
)
def test_a_version_is_not_born_with_what_a_promoter_decides(server: Server, key: str) -> None:
    _, run = begin(server, "trainer")
    source = {"name": MODEL, "source": f"runs:/{run}/m", "run_id": run}
    answer = server.post("trainer", "model-versions/create", **source, tags=[{"key": key, "value": "{}"}])
    assert answer.status_code == 403


def test_a_version_stands_on_its_makers_own_artefacts(server: Server, registered: Registered) -> None:
    experiment, run = begin(server, "other")
    root = f"mlflow-artifacts:/{experiment}"
    for words in (
        {"source": f"models:/{registered.model}", "model_id": registered.model},
        {"source": f"{root}/{run}/artifacts/../../{registered.run}/artifacts", "run_id": run},
        {"source": f"{root}/{registered.run}/artifacts", "run_id": run},
        {"source": "s3://elsewhere/model", "run_id": run},
        {"source": f"models:/{MODEL}/{registered.version}", "run_id": run},
        {"source": "file:///etc", "run_id": run},
    ):
        answer = server.post("other", "model-versions/create", name=MODEL, **words)
        assert answer.status_code in (400, 403), (words, answer.text)


def test_a_trainer_names_the_challenger_and_no_champion(server: Server, registered: Registered) -> None:
    order = {"name": MODEL, "version": registered.version}
    for prefix in PREFIXES:
        route = f"{prefix}/mlflow/registered-models/alias"
        for alias in (
            "champion",
            "Champion",
            "CHALLENGER",
            "previous",
            "champion\n",
            "challenger ",
            "ch\N{CYRILLIC SMALL LETTER A}mpion",
        ):
            assert server.call("trainer", "POST", route, json=order | {"alias": alias}).status_code == 403
        assert server.call("reader", "POST", route, json=order | {"alias": "challenger"}).status_code == 403
        assert server.call("trainer", "POST", route, json=order | {"alias": "challenger"}).status_code == 200
        assert (
            server.call("trainer", "DELETE", route, json=order | {"alias": "challenger"}).status_code == 403
        )
        # The last of two keys is what both readers see.
        twice = json.dumps(order)[:-1] + ', "alias": "challenger", "alias": "champion"}'
        assert server.call("trainer", "POST", route, data=twice, headers=JSON).status_code == 403
    assert server.aliases() == {"challenger": registered.version}


def test_the_openings_of_the_holdout_are_counted_up_and_nothing_else(server: Server) -> None:
    def count(value: str) -> int:
        words = {"name": MODEL, "key": "holdout_openings", "value": value}
        return server.post("trainer", "registered-models/set-tag", **words).status_code

    now = int(server.tags().get("holdout_openings", "0"))
    assert count(str(now + 1)) == 200
    for value in (str(now), str(now + 1), str(now + 3), "0", "", " 9", f"0{now + 2}"):
        assert count(value) == 403, value
    assert server.tags()["holdout_openings"] == str(now + 1)


def test_a_claim_is_well_formed(server: Server) -> None:
    key = f"turn.{uuid.uuid4().hex}"
    for name, value in ((key, "x"), (key, "1 h:1\n"), (f"{key} ", "1 host:1"), ("turn.", "1 host:1")):
        answer = server.post("trainer", "registered-models/set-tag", name=MODEL, key=name, value=value)
        assert answer.status_code == 403
    server.made("trainer", "registered-models/set-tag", name=MODEL, key=key, value="1 host:1")
    where = "api/2.0/mlflow/registered-models/delete-tag"
    assert server.call("trainer", "DELETE", where, json={"name": MODEL, "key": key}).status_code == 200


def test_moves_are_appended_in_ones_own_name_and_stay(server: Server) -> None:
    def write(user: str, number: int, **fields: Any) -> int:
        known = {"number": number, "how": "promoted", "version": "1", "replaced": None, "reason": "x"}
        move = known | {"by": user, "at": "2025-01-01T00:00:00+00:00", "state": "begun"} | fields
        words = {"name": MODEL, "key": f"move.{number:04d}", "value": json.dumps(move)}
        return server.post(user, "registered-models/set-tag", **words).status_code

    number = 1 + sum(key.startswith("move.") for key in server.tags())
    assert write("trainer", number) == 403
    assert write("promoter", number, by="other") == 403
    assert write("promoter", number, state="done") == 403
    assert write("promoter", number + 1) == 403
    assert write("promoter", number) == 200
    assert write("promoter", number, version="2") == 403
    assert write("promoter", number, verdict="another") == 403
    assert write("promoter", number, state="abandoned", run_id="its run") == 200
    assert write("promoter", number, state="abandoned", run_id="another") == 403
    assert write("promoter", number, state="done") == 403
    gone = {"name": MODEL, "key": f"move.{number:04d}"}
    for user in ("trainer", "promoter"):
        for words in (
            {"json": gone},
            {"data": json.dumps(gone), "headers": {"Content-Type": "text/plain"}},
            {"data": json.dumps(gone)},
            {"data": json.dumps(json.dumps(gone)), "headers": JSON},
            {"data": json.dumps("{"), "headers": JSON},
            {"data": b"{", "headers": JSON},
            {"data": b"\xff", "headers": JSON},
            {"data": gone},
            {"params": gone},
            {"json": gone, "params": gone | {"key": f"turn.{uuid.uuid4().hex}"}},
        ):
            for prefix in PREFIXES:
                where = f"{prefix}/mlflow/registered-models/delete-tag"
                answer = server.call(user, "DELETE", where, **words)
                assert answer.status_code in (400, 403), (words, answer.text)
    assert f"move.{number:04d}" in server.tags()


def test_a_promoter_marks_versions_and_rewrites_no_verdict(server: Server, registered: Registered) -> None:
    def mark(key: str, value: str) -> int:
        words = {"name": MODEL, "version": registered.version, "key": key, "value": value}
        return server.post("promoter", "model-versions/set-tag", **words).status_code

    for key in (
        "gate",
        "gate.words",
        "gate.digest",
        "data.digest",
        "fingerprint",
        "gate.override ",
        "approved",
        "Approved",
    ):
        assert mark(key, "passed") == 403
    assert mark("gate.override", "why (promoter, today)") == 200
    where = "api/2.0/mlflow/model-versions/delete-tag"
    for key in ("gate", "approved", "rolled_back"):
        words = {"name": MODEL, "version": registered.version, "key": key}
        assert server.call("promoter", "DELETE", where, json=words).status_code == 403


@pytest.mark.parametrize("user", ["promoter", "nobody"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "ajax-api/3.0/mlflow/gateway/secrets/list"),
        ("GET", "api/3.0/mlflow/gateway/secrets/list"),
        ("GET", "ajax-api/3.0/mlflow/gateway/secrets/config"),
        ("GET", "gateway/mlflow/v1/models"),
        ("POST", "gateway/openai/v1/chat/completions"),
        ("GET", "ajax-api/3.0/mlflow/assistant/config"),
        ("PUT", "ajax-api/3.0/mlflow/assistant/config"),
        ("POST", "ajax-api/3.0/mlflow/assistant/message"),
        ("GET", "api/2.0/mlflow/webhooks"),
        ("POST", "api/2.0/mlflow/webhooks"),
        ("POST", "api/3.0/mlflow/prompt-optimization/jobs/search"),
        ("GET", "api/3.0/mlflow/scorers/list"),
        ("POST", "ajax-api/3.0/mlflow/scorer/invoke"),
        ("GET", "api/3.0/mlflow/datasets/search"),
        ("POST", "api/3.0/mlflow/traces/search"),
        ("POST", "v1/traces"),
        ("POST", "ajax-api/3.0/jobs/search"),
        ("GET", "api/3.0/mlflow/mcp-servers"),
        ("GET", "api/3.0/mlflow/workspaces"),
        ("GET", "graphql"),
        ("GET", "signup"),
        ("POST", "api/2.0/mlflow/users/create"),
        ("POST", "api/3.0/mlflow/users/permissions/grant"),
        ("POST", "ajax-api/2.0/mlflow/runs/create-promptlab-run"),
        ("GET", "ajax-api/2.0/mlflow/gateway-proxy"),
    ],
)
def test_what_the_project_does_not_use_is_off(server: Server, user: str, method: str, path: str) -> None:
    answer = server.call(user, method, path, json=None if method == "GET" else {})
    assert answer.status_code == 403, answer.text
    assert answer.text.endswith("see docs/security.md.")


def test_a_login_without_a_role_reads_nothing(server: Server, registered: Registered) -> None:
    for method, path, words in (
        ("GET", "runs/get", {"params": {"run_id": registered.run}}),
        ("POST", "runs/search", {"json": {"experiment_ids": [registered.experiment]}}),
        ("GET", "registered-models/search", {}),
        ("GET", "model-versions/search", {}),
    ):
        for prefix in PREFIXES:
            assert server.call("nobody", method, f"{prefix}/mlflow/{path}", **words).status_code == 403
            assert server.call("reader", method, f"{prefix}/mlflow/{path}", **words).status_code == 200
    path = f"api/2.0/mlflow-artifacts/artifacts/{registered.verdict}"
    assert server.call("nobody", "GET", path).status_code == 403
    assert server.call("reader", "GET", path).content == b"another"


def test_a_reader_sees_a_run_in_the_ui_by_graphql(server: Server, registered: Registered) -> None:
    query = "query GetRun($data: MlflowGetRunInput!) { mlflowGetRun(input: $data) { run { info { runName status } } } }"
    body = {"operationName": "GetRun", "query": query, "variables": {"data": {"runId": registered.run}}}
    answer = server.call("reader", "POST", "graphql", json=body)
    assert answer.json()["data"]["mlflowGetRun"]["run"]["info"]["status"] == "RUNNING"
    assert server.call("nobody", "POST", "graphql", json=body).status_code == 403
    assert server.call("reader", "POST", "graphql", json={"query": "{"}).status_code == 400


def test_a_trainers_evaluate_comes_to_its_end_and_a_promoter_promotes_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPANISHGAS_EXPERIMENTS", str(lenient(cheap_search(tmp_path / "experiments"))))
    # The package's two hundred files are an upload each, of which one is like the other.
    monkeypatch.setattr(registry, "PACKAGE", registry.PACKAGE / "config")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_UV_AUTO_DETECT", "false")
    forget()

    def become(user: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", f"{user}-password")

    try:
        lake = Lake(tmp_path / "lake")
        gold = publish_gold(lake, labelled_gold(), DAY)
        become("trainer")
        run_ladder(ladder_inputs(["E5"], ["xgboost"], trials=1, lake=lake, seed=SEED))
        version = str(evaluation.evaluate(None, lake=lake).number)
        assert registry.aliases()["challenger"] == version
        client = MlflowClient()
        assert client.get_run(registry.resolve(version).run_id).info.status == "FINISHED"
        assert registry.resolve(version).entity.description
        assert {name for name, _ in ranked(gold)} == {"E5-xgboost", "churn-E5-xgboost"}
        overview = str(client.get_registered_model(MODEL).description)
        assert f"| {version} | challenger | E5 xgboost |" in overview
        with pytest.raises(TrackingError, match="trainer may move no champion"):
            promotion.promote(version, "mine")
        with pytest.raises(MlflowException, match="403"):
            client.set_model_version_tag(settings().registered_model, version, "gate", "passed")
        become("promoter")
        promotion.promote(version, "passed its gate")
        assert registry.aliases()["champion"] == version
        assert history.read().done[-1].by == "promoter"
        overview = str(client.get_registered_model(MODEL).description)
        assert f"| {version} | challenger, champion | E5 xgboost |" in overview
        other = {
            "name": MODEL,
            "description": overview.replace("## Versions", "All are well.\n\n## Versions"),
        }
        for user in ("trainer", "promoter"):
            answer = server.call(user, "PATCH", "api/2.0/mlflow/registered-models/update", json=other)
            assert "only what stands below ## Versions" in answer.text
    finally:
        forget()


def test_a_trainer_transfers_a_version_from_a_local_store(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "trainer")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "trainer-password")
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "MLmodel").write_text("flavors: {}\n")
    with own_store(tmp_path):
        number = transfer.transfer(logged_version(tmp_path / "bytes"), server.uri).number
    version = server.version(number)
    assert version["description"] == "as judged"
    assert {t["key"]: t["value"] for t in version["tags"]}["gate"] == "passed"
