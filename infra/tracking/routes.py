"""What each role may call on the tracking server; what is not named here is refused, whoever asks but an admin.

A row is a method and a route of MLflow (`/api` and `/ajax-api` are one), the lowest role that may call it and, where
the role alone does not decide, the rule that reads the message.
"""

from __future__ import annotations

from dataclasses import dataclass

import registry_rules
import rules
from rules import Role, Rule

LOGINS = """
GET /
GET /build/<path:filename>
GET /static-files/<path:path>
GET /version
GET 2.0/mlflow/users/current
PATCH 2.0/mlflow/users/update-password
"""
READERS = """
GET /get-artifact
GET /model-versions/get-artifact
GET 2.0/mlflow-artifacts/artifacts
GET 2.0/mlflow-artifacts/artifacts/<path:artifact_path>
GET 2.0/mlflow-artifacts/presigned/<path:artifact_path>
GET 2.0/mlflow/artifacts/list
GET 2.0/mlflow/experiments/get
GET 2.0/mlflow/experiments/get-by-name
GET 2.0/mlflow/experiments/search
POST 2.0/mlflow/experiments/search
POST 2.0/mlflow/experiments/search-datasets
GET 2.0/mlflow/logged-models/<model_id>
GET 2.0/mlflow/logged-models/<model_id>/artifacts/directories
GET 2.0/mlflow/logged-models/<model_id>/artifacts/files
POST 2.0/mlflow/logged-models/search
GET 2.0/mlflow/metrics/get-history
GET 2.0/mlflow/metrics/get-history-bulk
GET 2.0/mlflow/metrics/get-history-bulk-interval
GET 2.0/mlflow/model-versions/get
GET 2.0/mlflow/model-versions/get-download-uri
GET 2.0/mlflow/model-versions/search
GET 2.0/mlflow/registered-models/alias
GET 2.0/mlflow/registered-models/get
GET 2.0/mlflow/registered-models/get-latest-versions
POST 2.0/mlflow/registered-models/get-latest-versions
GET 2.0/mlflow/registered-models/search
GET 2.0/mlflow/runs/get
POST 2.0/mlflow/runs/search
"""


@dataclass(frozen=True)
class Route:
    """Who may call a route, and the rule that looks at what is asked."""

    role: Role
    rule: Rule | None = None


def _rows(lines: str, role: Role) -> dict[str, Route]:
    return dict.fromkeys(lines.strip().splitlines(), Route(role))


_WRITES: dict[str, tuple[Role, Rule]] = {
    "POST /graphql": (Role.READER, rules.graphql),
    "PUT 2.0/mlflow-artifacts/artifacts/<path:artifact_path>": (Role.TRAINER, rules.put_artefact),
    "POST 2.0/mlflow/experiments/create": (Role.TRAINER, rules.create_experiment),
    "POST 2.0/mlflow/experiments/set-experiment-tag": (Role.TRAINER, rules.set_experiment_tag),
    "POST 2.0/mlflow/logged-models": (Role.TRAINER, rules.create_model),
    "PATCH 2.0/mlflow/logged-models/<model_id>": (Role.TRAINER, rules.write_model),
    "POST 2.0/mlflow/logged-models/<model_id>/params": (Role.TRAINER, rules.write_model),
    "PATCH 2.0/mlflow/logged-models/<model_id>/tags": (Role.TRAINER, rules.set_model_tags),
    "POST 2.0/mlflow/model-versions/create": (Role.TRAINER, registry_rules.create_version),
    "DELETE 2.0/mlflow/model-versions/delete-tag": (Role.PROMOTER, registry_rules.delete_version_tag),
    "POST 2.0/mlflow/model-versions/set-tag": (Role.PROMOTER, registry_rules.set_version_tag),
    "PATCH 2.0/mlflow/model-versions/update": (Role.TRAINER, registry_rules.describe_version),
    "DELETE 2.0/mlflow/registered-models/alias": (Role.PROMOTER, registry_rules.delete_alias),
    "POST 2.0/mlflow/registered-models/alias": (Role.TRAINER, registry_rules.set_alias),
    "POST 2.0/mlflow/registered-models/create": (Role.TRAINER, registry_rules.create_registered),
    "DELETE 2.0/mlflow/registered-models/delete-tag": (Role.TRAINER, registry_rules.delete_registered_tag),
    "POST 2.0/mlflow/registered-models/set-tag": (Role.TRAINER, registry_rules.set_registered_tag),
    "PATCH 2.0/mlflow/registered-models/update": (Role.TRAINER, registry_rules.describe_registered),
    "POST 2.0/mlflow/runs/create": (Role.TRAINER, rules.create_run),
    "POST 2.0/mlflow/runs/log-batch": (Role.TRAINER, rules.log_batch),
    "POST 2.0/mlflow/runs/log-inputs": (Role.TRAINER, rules.log_links),
    "POST 2.0/mlflow/runs/log-metric": (Role.TRAINER, rules.log_metric),
    "POST 2.0/mlflow/runs/log-parameter": (Role.TRAINER, rules.log_param),
    "POST 2.0/mlflow/runs/outputs": (Role.TRAINER, rules.log_links),
    "POST 2.0/mlflow/runs/set-tag": (Role.TRAINER, rules.set_run_tag),
    "POST 2.0/mlflow/runs/update": (Role.TRAINER, rules.update_run),
}
ROUTES = (
    _rows(LOGINS, Role.NOBODY)
    | _rows(READERS, Role.READER)
    | {row: Route(role, rule) for row, (role, rule) in _WRITES.items()}
)


def as_markdown() -> str:
    """The table of docs/security.md."""
    lines = ["| route | from which role | what |", "|---|---|---|"]
    for route, row in ROUTES.items():
        words = (row.rule.__doc__ or "").splitlines()[0] if row.rule else ""
        who = row.role.name.lower() if row.role else "any login"
        lines.append(f"| `{route}` | {who} | {words} |")
    return "\n".join(lines) + "\n"
