"""Who may move the champion: the tracking server's authorization function, and a command that hands out the roles.

MLflow asks for the same permission, `update` on a registered model, to register a version and to move an alias. Here
aliases, and the moves that the model's tags record, take MANAGE: whoever has EDIT trains and registers, and no more.

    python permissions.py trainer NAME      # experiments and registered model: EDIT
    python permissions.py promoter NAME     # registered model: MANAGE as well

The command takes MLFLOW_TRACKING_URI and an administrator's MLFLOW_TRACKING_USERNAME and _PASSWORD; the user must be
there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Response
    from werkzeug.datastructures import Authorization

MODEL = os.environ.get("SPANISHGAS_REGISTERED_MODEL", "spanishgas-churn")
EXPERIMENT = os.environ.get("SPANISHGAS_EXPERIMENT_NAME", "spanishgas")
MOVES = "move."
"""How the tags begin that hold the moves of the champion."""
ROLES = {"trainer": "EDIT", "promoter": "MANAGE"}


def authorize() -> Authorization | Response:
    """The user whose name and password the request carries; 401 without, 403 where the champion is not theirs."""
    from flask import Response, g, request
    from mlflow.server import auth

    user = auth.authenticate_request_basic_auth()
    if isinstance(user, Response) or "promotes" in g or not _moves_the_champion(request):
        return user
    g.promotes = True  # MLflow's checks ask who the user is, and that is this function
    if auth.sender_is_admin() or auth.validate_can_manage_registered_model():
        return user
    return auth.make_forbidden_response()


def _moves_the_champion(request: Any) -> bool:
    path, given = request.path, request.get_json(silent=True) or {}
    if path.endswith("/mlflow/registered-models/alias"):
        return bool(request.method != "GET")
    of_tags = path.endswith(("/mlflow/registered-models/set-tag", "/mlflow/registered-models/delete-tag"))
    key = given.get("key") or request.args.get("key") or ""
    return of_tags and str(key).startswith(MOVES)


def grant(role: str, user: str) -> None:
    """Give a user what the role needs; MlflowException where the server refuses."""
    from mlflow.server.auth.client import AuthServiceClient
    from mlflow.tracking import MlflowClient

    uri = os.environ["MLFLOW_TRACKING_URI"]
    client, store = AuthServiceClient(uri), MlflowClient(uri)
    experiment = store.get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment else store.create_experiment(EXPERIMENT)
    client.grant_user_permission(user, "experiment", number, "EDIT")
    client.grant_user_permission(user, "registered_model", MODEL, ROLES[role])
    print(f"{user}: {role}")


def main(words: Sequence[str]) -> int:
    """Exit code: 2 for words that are no role and user."""
    if len(words) != 2 or words[0] not in ROLES:
        print(f"usage: python permissions.py {{{'|'.join(ROLES)}}} NAME", file=sys.stderr)
        return 2
    grant(*words)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
