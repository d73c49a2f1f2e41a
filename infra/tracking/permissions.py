"""Who may do what on the tracking server: its authorization function, and a command that hands out the roles.

MLflow asks for the same permission, `update` on a registered model, to register a version, to move an alias and to
rewrite what is believed of a version. Here a role may call what rules.py names, and nothing else is open. A request is
read once, by MLflow's own reader, and refused where it could be read in two ways.

    python permissions.py reader NAME       # experiment and registered model: READ
    python permissions.py trainer NAME      # both EDIT
    python permissions.py promoter NAME     # registered model: MANAGE
    python permissions.py table             # what each role may call, as docs/security.md has it

The command takes MLFLOW_TRACKING_URI and an administrator's MLFLOW_TRACKING_USERNAME and _PASSWORD; the user must be
there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from routes import ROUTES, as_markdown
from rules import Asked, RequestMalformed, RequestRefused, Role

if TYPE_CHECKING:
    from flask import Request, Response
    from werkzeug.datastructures import Authorization

MODEL = os.environ.get("SPANISHGAS_REGISTERED_MODEL", "spanishgas-churn")
MODELS = {MODEL: "Churn of an energy utility's customers", f"{MODEL}-offers": "What offers change of it"}
EXPERIMENT = os.environ.get("SPANISHGAS_EXPERIMENT_NAME", "spanishgas")
GRANTS = {"reader": ("READ", "READ"), "trainer": ("EDIT", "EDIT"), "promoter": ("EDIT", "MANAGE")}
"""What MLflow keeps of a role: the user's permission on the experiment and on the registered model."""
ROLES = {"READ": Role.READER, "USE": Role.READER, "EDIT": Role.TRAINER, "MANAGE": Role.PROMOTER}


def authorize() -> Authorization | Response:
    """The user of the name and password that come along; 401 without, 403 what is not theirs, 400 what is unclear."""
    from flask import Response, g, request
    from mlflow.server import auth

    user = auth.authenticate_request_basic_auth()
    # MLflow's own checks ask again who the user is, and that is this function.
    if isinstance(user, Response) or "asked" in g:
        return user
    g.asked = True
    try:
        _check(request, str(user.username))
    except RequestMalformed as fault:
        return Response(f"{fault}.", 400, mimetype="text/plain")
    except RequestRefused as fault:
        return Response(f"{fault}.", 403, mimetype="text/plain")
    return user


def _check(request: Request, user: str) -> None:
    from mlflow.server import auth

    if auth.sender_is_admin():
        _message(request)
        return
    route = re.sub(r"^/(ajax-)?api/", "", request.url_rule.rule) if request.url_rule else ""
    roles, row = _roles(user), ROUTES.get(f"{request.method} {route}")
    highest = max(roles.values(), default=Role.NOBODY)
    if row is None or highest < row.role:
        raise RequestRefused(
            f"{request.method} {request.path} is not open to {user} ({highest.name.lower()}): see docs/security.md"
        )
    message = _message(request)
    if row.rule:
        row.rule(Asked(user, roles, message, request.view_args or {}))


def _roles(user: str) -> dict[str, Role]:
    """The user's role by registered model, `*` for all; what a server gives to all logins makes readers at most."""
    from mlflow.server import auth
    from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

    number = auth.store.get_user(user).id
    roles = {"*": Role.READER} if auth.auth_config.default_permission in ROLES else {}
    grants = auth.store.list_grants(number, DEFAULT_WORKSPACE_NAME, {"registered_model"})
    for kind, name, permission in grants:
        if kind == "registered_model":
            roles[name] = max(roles.get(name, Role.NOBODY), ROLES.get(permission, Role.NOBODY))
    return roles


@cache
def _messages() -> dict[tuple[str, str], Any]:
    """MLflow's protobuf message of each route and method that has one."""
    from mlflow.server import handlers

    endpoints = handlers.get_endpoints(lambda message: message)
    return {
        (path, method): kind
        for path, kind, methods in endpoints
        for method in methods
        if isinstance(kind, type)
    }


def _message(request: Request) -> Any:
    """What is asked, as MLflow's handler will read it; None where a route has no message, or streams an artefact."""
    from mlflow.server import handlers

    rule = request.url_rule.rule if request.url_rule else ""
    kind = _messages().get((rule, request.method))
    if "artifact_path" in (request.view_args or {}) or (kind is None and rule != "/graphql"):
        return None
    if request.method == "GET":
        if request.get_data():
            raise RequestMalformed("a GET asks by its query: leave the body out")
        _plain(request.args.to_dict(flat=False))
        return handlers._get_request_message(kind()) if kind else None
    body = _body(request)
    if kind is None:
        return body
    _fits(body, kind())
    return handlers._get_request_message(kind())


def _body(request: Request) -> dict[str, Any]:
    """The body, where MLflow's permissions and its handlers must read the same: JSON, and no query beside it."""
    data = request.get_data()
    if request.query_string:
        raise RequestMalformed(f"a {request.method} asks by its body: leave the query out")
    if data and request.mimetype != "application/json":
        raise RequestMalformed("the body is JSON: send Content-Type: application/json")
    try:
        body = request.get_json(force=True, silent=True) if data else {}
    except RecursionError as fault:
        raise RequestMalformed("the body is nested too deeply") from fault
    if not isinstance(body, dict):
        raise RequestMalformed("the body is no JSON object")
    _plain(body)
    return body


def _plain(content: Any) -> None:
    """Refuse text that no database keeps: NUL, and halves of surrogate pairs."""
    try:
        text = json.dumps(content, ensure_ascii=False).encode().decode()
    except (UnicodeEncodeError, RecursionError) as fault:
        raise RequestMalformed("the request is no Unicode text") from fault
    if "\\u0000" in text:
        raise RequestMalformed("the request holds a NUL character")


def _fits(body: dict[str, Any], message: Any) -> None:
    """Refuse a body that is no `message`, and other spellings of its fields, which MLflow's permissions overlook."""
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
    from mlflow.utils.proto_json_utils import parse_dict

    for field in message.DESCRIPTOR.fields:
        if field.json_name != field.name and field.json_name in body:
            raise RequestMalformed(f"the field is called {field.name}, not {field.json_name}")
    try:
        parse_dict(body, message)
    except (ParseError, TypeError, ValueError, OverflowError, RecursionError) as fault:
        raise RequestMalformed(f"the body is no {message.DESCRIPTOR.name}") from fault


def grant(role: str, user: str) -> None:
    """Give a user what the role needs, on an experiment and the registered models that are made if need be."""
    from mlflow.exceptions import MlflowException
    from mlflow.server.auth.client import AuthServiceClient
    from mlflow.tracking import MlflowClient

    uri = os.environ["MLFLOW_TRACKING_URI"]
    client, store = AuthServiceClient(uri), MlflowClient(uri)
    experiment = store.get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment else store.create_experiment(EXPERIMENT)
    of_experiment, of_model = GRANTS[role]
    client.grant_user_permission(user, "experiment", number, of_experiment)
    for model, description in MODELS.items():
        try:
            store.create_registered_model(model, description=description)
        except MlflowException as fault:
            if fault.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        client.grant_user_permission(user, "registered_model", model, of_model)
    print(f"{user}: {role}")


def main(words: Sequence[str]) -> int:
    """Exit code: 2 for words that are no role and user."""
    if words == ["table"]:
        print(as_markdown(), end="")
        return 0
    if len(words) != 2 or words[0] not in GRANTS:
        print(f"usage: python permissions.py {{{'|'.join(GRANTS)}}} NAME, or: table", file=sys.stderr)
        return 2
    grant(*words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
