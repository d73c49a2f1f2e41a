"""What may be written of experiments, runs and artefacts: a rule per message, raising RequestRefused.

A run belongs to the login that made it. Once a registered version stands on a run, what the run and its logged models
hold is what was judged: nothing of it changes any more. The first line of a rule's docstring is what docs/security.md
says of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

LOGIN = "spanishgas.login"
"""Tag of a run with the login that made it; the server writes it, no client may."""
NOTE, VERSIONS = "mlflow.note.content", "mlflow.modelVersions"
ARTEFACT = re.compile(
    r"(?P<experiment>[0-9]+)/(?:(?P<run>[0-9a-f]{32})|models/(?P<model>m-[0-9a-f]{32}))/artifacts/[\w .=+@,()/-]+"
)
READS_BY_QUERY = frozenset({"mlflowGetRun", "mlflowSearchRuns", "mlflowGetExperiment"}) | frozenset(
    {"mlflowGetMetricHistoryBulkInterval", "mlflowListArtifacts", "mlflowSearchModelVersions"}
)
"""Fields of GraphQL that MLflow's pages of runs and experiments ask for."""


class Role(IntEnum):
    """What a user may do, each role all that the ones before it may."""

    NOBODY = 0
    READER = 1
    TRAINER = 2
    PROMOTER = 3


class RequestRefused(Exception):
    """A request that the user's role does not cover, with one sentence that says why."""


class RequestMalformed(Exception):
    """A request that two readers might read differently, or none at all."""


@dataclass(frozen=True)
class Asked:
    """A request as MLflow's own handler reads it."""

    user: str
    roles: Mapping[str, Role]
    """By registered model; `*` stands for all of them."""
    message: Any
    """MLflow's protobuf message, or the JSON of a route without one."""
    variables: Mapping[str, str]
    """What the route's own placeholders hold."""

    @property
    def role(self) -> Role:
        """The highest, on whichever registered model: runs name none."""
        return max(self.roles.values(), default=Role.NOBODY)

    def role_on(self, model: str) -> Role:
        """The role on the registered model of that name."""
        return max(self.roles.get(model, Role.NOBODY), self.roles.get("*", Role.NOBODY))

    def require(self, role: Role, model: str, what: str) -> None:
        """Raise RequestRefused unless the user has `role` on the registered model."""
        if self.role_on(model) < role:
            raise RequestRefused(
                f"{what} of {model} takes a {role.name.lower()}, and {self.user} is none there"
            )


Rule = Callable[[Asked], None]


def tracking() -> Any:
    """The server's own store of runs, as its handlers use it."""
    from mlflow.server.handlers import _get_tracking_store

    return _get_tracking_store()


def registry() -> Any:
    """The server's own store of registered models, as its handlers use it."""
    from mlflow.server.handlers import _get_model_registry_store

    return _get_model_registry_store()


# Runs


def _is_registered(run: Any) -> bool:
    """Whether a version of any registered model stands on the run; MLflow gives a model's version its model's run."""
    return bool(registry().search_model_versions(f"run_id = '{run.info.run_id}'", max_results=1))


def is_own(asked: Asked, run: Any) -> bool:
    """Whether the user made the run."""
    return bool(run.data.tags.get(LOGIN) == asked.user)


def _own_run(asked: Asked, run_id: str) -> Any:
    """The run, if this user may write into it; a search's trials are shared by all who search."""
    run = tracking().get_run(run_id)
    if not is_own(asked, run) and run.data.tags.get("stage") != "trial":
        raise RequestRefused(f"run {run_id} was not made by {asked.user}, so it is not theirs to write into")
    return run


def _unregistered_run(asked: Asked, run_id: str) -> Any:
    run = _own_run(asked, run_id)
    if _is_registered(run):
        raise RequestRefused(f"a registered version stands on run {run_id}, so it stays as it is")
    return run


def _add(asked: Asked, run_id: str, tags: Collection[str] = (), metrics: Collection[str] = ()) -> None:
    """Refuse to change what a registered version stands on; its own run adds what comes after, until it ends."""
    run = _own_run(asked, run_id)
    if LOGIN in tags:
        raise RequestRefused(f"the tag {LOGIN} is written by the server alone")
    if not _is_registered(run):
        return
    # What MLflow samples of the machine, as long as the run lasts, is nothing that was judged.
    judged = {name for name in metrics if not name.startswith("system/")}
    there = sorted(run.data.tags.keys() & set(tags) | run.data.metrics.keys() & judged)
    if there or run.info.status != "RUNNING":
        raise RequestRefused(
            f"a registered version stands on run {run_id}, so nothing of it changes"
            + (f": it has {', '.join(there)}" if there else " once it has ended")
        )


def create_run(asked: Asked) -> None:
    """The run carries its login in the tag `spanishgas.login`, which the server writes."""
    from flask import request

    if LOGIN in {tag.key for tag in asked.message.tags}:
        raise RequestRefused(f"the tag {LOGIN} is written by the server alone")
    # Flask keeps what it parsed, and MLflow's handler is given the same object.
    body: Any = request.get_json(force=True, silent=True)
    body["tags"] = [*(body.get("tags") or []), {"key": LOGIN, "value": asked.user}]


def log_batch(asked: Asked) -> None:
    """Only into an own run or a search's trial; one behind a version accepts new keys while it runs, but no changes."""
    message = asked.message
    _add(asked, message.run_id, [t.key for t in message.tags], [m.key for m in message.metrics])
    for model in {metric.model_id for metric in message.metrics} - {""}:
        _open_model(asked, model)


def log_metric(asked: Asked) -> None:
    """As `log-batch`."""
    message = asked.message
    _add(asked, message.run_id or message.run_uuid, metrics=[message.key])
    if message.model_id:
        _open_model(asked, message.model_id)


def log_param(asked: Asked) -> None:
    """As `log-batch`."""
    _add(asked, asked.message.run_id or asked.message.run_uuid)


def set_run_tag(asked: Asked) -> None:
    """As `log-batch`; a promoter may also set `completed` on any promotion that was cut short."""
    message = asked.message
    run_id = message.run_id or message.run_uuid
    if not (asked.role is Role.PROMOTER and message.key == "completed" and _is_promotion(run_id)):
        _add(asked, run_id, [message.key])


def _is_promotion(run_id: str) -> bool:
    return bool(tracking().get_run(run_id).data.tags.get("stage") == "promote")


def log_links(asked: Asked) -> None:
    """Only into an own run that is behind no version."""
    _unregistered_run(asked, asked.message.run_id)
    for model in getattr(asked.message, "models", []):
        # Inputs may be anybody's models; what a run says it made is its own.
        if asked.message.DESCRIPTOR.name == "LogOutputs":
            _open_model(asked, model.model_id)


def update_run(asked: Asked) -> None:
    """An own run; any running one, to KILLED (its process is dead); a promoter may also end a promotion."""
    from mlflow.entities import RunStatus

    message = asked.message
    run_id = message.run_id or message.run_uuid
    run = tracking().get_run(run_id)
    ends = message.HasField("status") and not message.HasField("run_name")
    status = RunStatus.to_string(message.status) if ends else ""
    if run.info.status == "RUNNING" and status == "KILLED":
        return
    if asked.role is Role.PROMOTER and status == "FINISHED" and _is_promotion(run_id):
        return
    _own_run(asked, run_id)
    if _is_registered(run) and (run.info.status != "RUNNING" or not ends):
        raise RequestRefused(f"a registered version stands on run {run_id}, so it stays as it is")


# Artefacts and logged models


def put_artefact(asked: Asked) -> None:
    """Only into an own running run, or its logged model, that is behind no version."""
    from mlflow.utils.uri import validate_path_is_safe

    path = validate_path_is_safe(asked.variables["artifact_path"])
    place = ARTEFACT.fullmatch(path)
    if place is None:
        raise RequestRefused(f"'{path}' is no artefact of a run or a logged model")
    owner = tracking().get_logged_model(place["model"]) if place["model"] else None
    run = _running(asked, str(owner.source_run_id) if owner else place["run"])
    if place["experiment"] != str(run.info.experiment_id):
        raise RequestRefused(f"'{path}' is not in the experiment of run {run.info.run_id}")


def _running(asked: Asked, run_id: str) -> Any:
    run = _unregistered_run(asked, run_id)
    if not is_own(asked, run) or run.info.status != "RUNNING":
        raise RequestRefused(f"run {run_id} is no running one of {asked.user}, so it takes no artefacts")
    return run


def _open_model(asked: Asked, model_id: str) -> None:
    _unregistered_run(asked, str(tracking().get_logged_model(model_id).source_run_id))


def create_model(asked: Asked) -> None:
    """Only of an own running run that is behind no version."""
    run = _running(asked, asked.message.source_run_id)
    if str(run.info.experiment_id) != asked.message.experiment_id:
        raise RequestRefused(
            f"run {run.info.run_id} is in another experiment than the model it is to have made"
        )


def write_model(asked: Asked) -> None:
    """Only of an own run that is behind no version."""
    _open_model(asked, asked.variables["model_id"])


def set_model_tags(asked: Asked) -> None:
    """Only of an own run that is behind no version; afterwards only its list of versions, `mlflow.modelVersions`."""
    if {tag.key for tag in asked.message.tags} == {VERSIONS}:
        _own_run(asked, str(tracking().get_logged_model(asked.variables["model_id"]).source_run_id))
    else:
        write_model(asked)


# Experiments


def create_experiment(asked: Asked) -> None:
    """Only with artefacts where the server keeps them."""
    if asked.message.artifact_location:
        raise RequestRefused(
            "the server says where an experiment's artefacts lie: leave artifact_location out"
        )


def set_experiment_tag(asked: Asked) -> None:
    """Only the description, if there is none yet."""
    message = asked.message
    if message.key != NOTE or tracking().get_experiment(message.experiment_id).tags.get(NOTE):
        raise RequestRefused(f"of an experiment only its description ({NOTE}) is written, and only once")


def graphql(asked: Asked) -> None:
    """Only the queries of MLflow's pages for runs and experiments."""
    from graphql import FieldNode, GraphQLError, OperationDefinitionNode, OperationType, parse

    try:
        document = parse(str(asked.message.get("query")))
    except GraphQLError as fault:
        raise RequestMalformed("this is no GraphQL") from fault
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode):
            continue
        fields = definition.selection_set.selections
        names = {field.name.value if isinstance(field, FieldNode) else "" for field in fields}
        if definition.operation is not OperationType.QUERY or not names <= READS_BY_QUERY:
            raise RequestRefused(f"GraphQL is asked for {', '.join(sorted(READS_BY_QUERY))} alone")
