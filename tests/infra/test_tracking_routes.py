"""Every door of the installed MLflow's server, asked by every role, beside the table of docs/security.md."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from spanishgas.settings import PROJECT

FOLDER = PROJECT / "infra" / "tracking"
BEGIN, END = "<!-- routes -->\n", "<!-- end of routes -->"
MODULES = ("permissions", "routes", "registry_rules", "rules")
ROLES = ("nobody", "reader", "trainer", "promoter")
UNPROTECTED = {"GET /health", "GET 3.0/mlflow/server-info"}
"""What MLflow answers before it asks who is there: that it runs, and what it can."""
OPEN, REFUSED = "open", "refused"


@pytest.fixture(scope="module")
def permissions() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("permissions")
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def server(permissions: Any) -> Iterator[Any]:
    """MLflow's whole server as uvicorn serves it, without a database; who is there stands in the user's name."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "a key of the tests")
        patch.setenv("_MLFLOW_SGI_NAME", "uvicorn")
        from mlflow.server import app, auth

        own = auth.auth_config._replace(authorization_function="permissions:authorize")
        patch.setattr(auth, "auth_config", own)
        patch.setattr(auth, "_init_store_for_app", lambda: None)
        patch.setattr(auth, "authenticate_request_basic_auth", lambda: auth.request.authorization)
        patch.setattr(auth, "sender_is_admin", lambda: False)
        patch.setattr(permissions, "_roles", lambda user: {"m": permissions.Role[user.upper()]})
        # What a rule says of a message is another suite's; here it is whether the route is open at all.
        patch.setattr(
            permissions, "ROUTES", {row: type(route)(route.role) for row, route in permissions.ROUTES.items()}
        )
        auth.get_auth_func.cache_clear()
        try:
            yield auth.create_app(app)
        finally:
            auth.get_auth_func.cache_clear()
            app.before_request_funcs.clear()
            app.after_request_funcs.clear()


def concrete(rule: str) -> str:
    return re.sub(r"<(\w+:)?\w+>|\{\w+(:\w+)?\}", "x", rule)


def row(method: str, rule: str) -> str:
    return f"{method} {re.sub('^/(ajax-)?api/', '', rule)}"


def documented() -> dict[str, str]:
    """Lowest role by row, as docs/security.md says it."""
    table = (PROJECT / "docs" / "security.md").read_text().split(BEGIN)[1].split(END)[0]
    return dict(re.findall(r"^\| `(.+?)` \| ([\w ]+) \|", table, re.MULTILINE))


def expected(table: Mapping[str, str], name: str, role: str) -> str:
    needed = table.get(name, "admin").replace("any login", "nobody")
    return OPEN if needed in ROLES[: ROLES.index(role) + 1] else REFUSED


def test_the_documents_hold_the_servers_own_table(permissions: Any) -> None:
    text = (PROJECT / "docs" / "security.md").read_text()
    assert text.split(BEGIN)[1].split(END)[0] == permissions.as_markdown(), (
        "put the output of `python infra/tracking/permissions.py table` into docs/security.md"
    )


def test_no_role_reaches_a_route_that_the_documents_do_not_name(permissions: Any, server: Any) -> None:
    from mlflow.server import app

    table, wrong, seen = documented(), [], set()
    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            name = row(method, rule.rule)
            seen.add(name)
            for role in ROLES:
                wanted = expected(table, name, role)
                body = None if method in ("GET", "HEAD", "OPTIONS") else {}
                with app.test_request_context(concrete(rule.rule), method=method, json=body, auth=(role, "")):
                    answer = permissions.authorize()
                got = REFUSED if getattr(answer, "status_code", 200) == 403 else OPEN
                if got != wanted:
                    wrong.append((method, rule.rule, role, got))
    assert wrong == []
    assert set(table) <= seen, "the table names routes that this MLflow does not have"
    assert len(seen) > 400


def native(server: Any) -> list[tuple[str, str]]:
    """Method and path of the routes that FastAPI serves beside Flask."""
    contexts = [
        context
        for route in server.routes
        if hasattr(route, "effective_route_contexts")
        for context in route.effective_route_contexts()
    ]
    return [(method, context.path) for context in contexts for method in context.methods]


def test_no_role_reaches_what_fastapi_serves_beside_flask(server: Any) -> None:
    from starlette.routing import Mount
    from starlette.testclient import TestClient

    assert {type(route).__name__ for route in server.routes if not isinstance(route, Mount)} == {
        "_IncludedRouter"
    }, "routes of a kind that this test does not walk"
    client = TestClient(server, base_url="http://localhost", raise_server_exceptions=False)
    table, routes, wrong = documented(), native(server), []
    for method, path in routes:
        if row(method, path) in UNPROTECTED:
            continue
        for role in ROLES:
            answer = client.request(method, concrete(path), auth=(role, ""))
            # FastAPI and Flask spell placeholders differently.
            name = row(method, path).replace("{artifact_path:path}", "<path:artifact_path>")
            got = REFUSED if answer.status_code == 403 else OPEN
            if got != expected(table, name, role):
                wrong.append((method, path, role, got))
    assert wrong == []
    assert len(routes) > 60
    assert any("assistant" in path for _, path in routes)
    assert any("gateway" in path for _, path in routes)


def test_graphql_is_asked_for_reading_alone(permissions: Any) -> None:
    from mlflow.server.graphql.graphql_schema_extensions import schema

    rules = sys.modules["rules"]
    fields = set(schema.graphql_schema.query_type.fields) | set(schema.graphql_schema.mutation_type.fields)
    for field in sorted(fields):
        for text in (
            f"query {{ {field} {{ __typename }} }}",
            f"mutation {{ {field} {{ __typename }} }}",
            f"{{ mlflowGetRun {{ __typename }} {field} {{ __typename }} }}",
            f"{{ ...f }} fragment f on Query {{ {field} {{ __typename }} }}",
        ):
            asked = rules.Asked("reader", {"m": rules.Role.READER}, {"query": text}, {})
            if field in rules.READS_BY_QUERY and text.startswith(("query", "{ mlflow")):
                rules.graphql(asked)
            else:
                with pytest.raises(rules.RequestRefused):
                    rules.graphql(asked)
    assert fields >= rules.READS_BY_QUERY
    assert fields - rules.READS_BY_QUERY == {"mlflowSearchDatasets", "test", "testMutation"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"data": b'"{}"', "content_type": "application/json"}, "no JSON object"),
        ({"data": b"[1]", "content_type": "application/json"}, "no JSON object"),
        ({"data": b"{", "content_type": "application/json"}, "no JSON object"),
        ({"data": b"[" * 100_000, "content_type": "application/json"}, "deeply"),
        ({"data": b'{"key": "\\u0000"}', "content_type": "application/json"}, "NUL"),
        ({"data": b'{"key": "\\ud800"}', "content_type": "application/json"}, "Unicode"),
        ({"data": b'{"run_id": {"a": 1}}', "content_type": "application/json"}, "no SetTag"),
        ({"data": b'{"runId": "x"}', "content_type": "application/json"}, "called run_id"),
        ({"data": b"{}", "content_type": "text/plain"}, "Content-Type"),
        ({"data": b"run_id=x", "content_type": "application/x-www-form-urlencoded"}, "Content-Type"),
        ({"json": {"run_id": "x"}, "query_string": "run_id=y"}, "leave the query out"),
    ],
)
def test_a_body_that_is_none_or_could_be_read_in_two_ways_is_400(
    permissions: Any, server: Any, given: dict[str, Any], says: str
) -> None:
    from mlflow.server import app

    with app.test_request_context(
        "/api/2.0/mlflow/runs/set-tag", method="POST", auth=("trainer", ""), **given
    ):
        answer = permissions.authorize()
    assert answer.status_code == 400
    assert says in answer.get_data(as_text=True)


def test_a_get_with_a_body_is_400(permissions: Any, server: Any) -> None:
    from mlflow.server import app

    with app.test_request_context(
        "/api/2.0/mlflow/runs/get", method="GET", json={"run_id": "x"}, auth=("reader", "")
    ):
        assert permissions.authorize().status_code == 400
