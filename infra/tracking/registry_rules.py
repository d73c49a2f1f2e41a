"""What may be written of the registered model and its versions: a rule per message, raising RequestRefused.

A version's tags are written with it, by its maker; what becomes of it is written by promoters; moves are history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rules import Asked, RequestRefused, Role, is_own, registry, tracking

CHALLENGER, ALIASES = "challenger", ("champion", "challenger", "previous")
TURN, CLAIM = re.compile(r"turn\.[0-9a-f]{32}"), re.compile(r"[0-9]{1,9} [\w.-]{1,255}:[0-9]{1,10}")
OVERVIEW = "## Versions"
MOVE = re.compile(r"move\.[0-9]{4,}")
FIELDS = frozenset({"number", "how", "version", "replaced", "reason", "by", "at", "state"})
OVERRIDE = "gate.override"
PROMOTION = re.compile(
    r"gate\.override|rolled_back|champion\.(how|reason|by|at|replaced|verdict)|probation(\.cohorts)?"
)
"""Tags of a version that say what became of it: a promoter's, never its maker's."""
RECORDS = re.compile(r"approved|(champion|probation|move|turn)\..*|holdout_openings|mlflow\.prompt\..*")


def create_registered(asked: Asked) -> None:
    """Only a model whose promoter the user already is; if it exists, the answer says so."""
    message = asked.message
    _not_decided(message.tags)
    if registry().search_registered_models(f"name = '{_quotable(message.name)}'", max_results=1):
        asked.require(Role.READER, message.name, "asking after versions")
    else:
        asked.require(Role.PROMOTER, message.name, "making the registered model")


def _quotable(name: str) -> str:
    if "'" in name or '"' in name or "\\" in name:
        raise RequestRefused("a registered model's name holds neither quotes nor backslashes")
    return name


def _not_decided(tags: Any) -> None:
    for tag in tags:
        if PROMOTION.fullmatch(tag.key.strip()) or RECORDS.match(tag.key.strip()):
            raise RequestRefused(f"the tag '{tag.key}' is not its maker's to write")


def create_version(asked: Asked) -> None:
    """Only from an own run or its logged model, with any tags except those that a promoter's decisions write."""
    message = asked.message
    asked.require(Role.TRAINER, message.name, "registering a version")
    _not_decided(message.tags)
    roots = []
    run_id = message.run_id
    if message.model_id:
        model = tracking().get_logged_model(message.model_id)
        run_id = run_id or str(model.source_run_id)
        if run_id != str(model.source_run_id):
            raise RequestRefused(f"model {message.model_id} was not made by run {run_id}")
        roots = [f"models:/{message.model_id}", model.artifact_location]
    run = tracking().get_run(run_id)
    if not is_own(asked, run):
        raise RequestRefused(
            f"run {run_id} was not made by {asked.user}, so no version of theirs stands on it"
        )
    if not any(_within(message.source, root) for root in roots or [run.info.artifact_uri, f"runs:/{run_id}"]):
        raise RequestRefused(f"'{message.source}' is not among the artefacts of run {run_id}")


def _within(source: str, root: str) -> bool:
    inside = source == root or source.startswith(f"{root}/")
    return inside and not re.search(r"%|\?|#|\\|(^|/)\.{1,2}(/|$)", source.removeprefix(root))


def describe_version(asked: Asked) -> None:
    """Only the description of an own version, once."""
    message = asked.message
    asked.require(Role.TRAINER, message.name, "describing a version")
    version = registry().get_model_version(message.name, message.version)
    if version.description:
        raise RequestRefused(f"version {message.version} of {message.name} has its description already")
    if not version.run_id or not is_own(asked, tracking().get_run(version.run_id)):
        raise RequestRefused(f"version {message.version} of {message.name} was not made by {asked.user}")


def describe_registered(asked: Asked) -> None:
    """Only the table of versions, which is what stands below the heading `## Versions` of the description."""
    message = asked.message
    asked.require(Role.TRAINER, message.name, "describing the registered model")
    before = registry().get_registered_model(message.name).description or ""
    above, other = (text.partition(OVERVIEW)[0].rstrip() for text in (before, message.description))
    if above != other:
        raise RequestRefused(f"of the description only what stands below {OVERVIEW} is written")


def set_version_tag(asked: Asked) -> None:
    """Only `gate.override`, `rolled_back`, a move's `champion.*`, and `probation*`."""
    message = asked.message
    asked.require(Role.PROMOTER, message.name, "marking a version")
    if not PROMOTION.fullmatch(message.key):
        raise RequestRefused(f"the tag '{message.key}' of a version is as it was made")


def delete_version_tag(asked: Asked) -> None:
    """Only `gate.override`, which a rollback removes."""
    message = asked.message
    asked.require(Role.PROMOTER, message.name, "marking a version")
    if message.key != OVERRIDE:
        raise RequestRefused(f"the tag '{message.key}' of a version stays")


def set_alias(asked: Asked) -> None:
    """A trainer only `challenger`; a promoter `champion` and `previous` too."""
    message = asked.message
    if message.alias not in ALIASES:
        raise RequestRefused(f"the aliases are {', '.join(ALIASES)}, not '{message.alias}'")
    role = Role.TRAINER if message.alias == CHALLENGER else Role.PROMOTER
    asked.require(role, message.name, f"moving {message.alias}")


def delete_alias(asked: Asked) -> None:
    """`champion`, `challenger` and `previous`."""
    if asked.message.alias not in ALIASES:
        raise RequestRefused(f"the aliases are {', '.join(ALIASES)}, not '{asked.message.alias}'")
    asked.require(Role.PROMOTER, asked.message.name, "taking an alias away")


def set_registered_tag(asked: Asked) -> None:
    """A trainer a claim `turn.*`, and `holdout_openings` plus one; a promoter the next `move.*`, in own name."""
    key, value, name = asked.message.key, asked.message.value, asked.message.name
    asked.require(Role.TRAINER, name, f"the tag '{key}'")
    if TURN.fullmatch(key) and CLAIM.fullmatch(value):
        return
    tags = registry().get_registered_model(name).tags
    if key == "holdout_openings" and value == str(int(tags.get(key, "0")) + 1):
        return
    if not MOVE.fullmatch(key):
        raise RequestRefused(
            f"the tag '{key}' is not set to '{value[:40]}' by {asked.user}: see docs/security.md"
        )
    asked.require(Role.PROMOTER, name, f"the tag '{key}'")
    _next_state(asked, key, value, tags)


def _next_state(asked: Asked, key: str, value: str, tags: Mapping[str, str]) -> None:
    """A move is appended in its maker's name; of one begun the end and its run may change, of others nothing."""
    move = _record(value)
    if key in tags:
        before, ending = _record(tags[key]), {"state": None, "run_id": None}
        if before.get("state") != "begun" or before | ending != move | ending:
            raise RequestRefused(
                f"{key} is history, of which only the end of a move that was begun may change"
            )
        return
    if key != f"move.{1 + sum(k.startswith('move.') for k in tags):04d}":
        raise RequestRefused(f"{key} is not the next move")
    if not move.keys() >= FIELDS:
        raise RequestRefused(f"a move says its {', '.join(sorted(FIELDS))}")
    maker = "unknown" if move.get("how") == "moved elsewhere" else asked.user
    if move.get("by") != maker or move.get("state") != "begun":
        raise RequestRefused(f"a move of {asked.user} is begun by {asked.user}: set MLFLOW_TRACKING_USERNAME")


def _record(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError as fault:
        raise RequestRefused("this tag holds a JSON object") from fault
    if not isinstance(record, dict):
        raise RequestRefused("this tag holds a JSON object")
    return record


def delete_registered_tag(asked: Asked) -> None:
    """Only a claim `turn.*`."""
    asked.require(Role.TRAINER, asked.message.name, f"the tag '{asked.message.key}'")
    if not TURN.fullmatch(asked.message.key):
        raise RequestRefused(f"the tag '{asked.message.key}' of a registered model stays")
