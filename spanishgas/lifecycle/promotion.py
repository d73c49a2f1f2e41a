"""Moving the champion: only to a version that may be it, with who, when, why, from which version and by which verdict.

    take turns -> settle what came before -> check -> write the move down -> aliases, tags, run -> done

Every step after the writing down may be done twice, so a command that is killed anywhere is completed by the next one.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas.config.policy import load_policy
from spanishgas.errors import TrackingError, UsageError
from spanishgas.lifecycle import history, registry, runs
from spanishgas.lifecycle.history import How, Move, Record, State
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.turns import Turn, turn
from spanishgas.lifecycle.version import APPROVED, OVERRIDE, ROLLED_BACK, Version
from spanishgas.settings import settings


def promote(which: str, reason: str, override: str | None = None) -> Version:
    """Make the version behind `which` champion; a version that is champion already stays so, untouched.

    Raises TrackingError for a version without a passed verdict, or one that was rolled back, unless `override` says
    why it may pass all the same; and for one without the approval that the policy asks for.
    """
    _said(reason)
    version = registry.resolve(which)
    number = version.number
    with _turn() as own:
        record = settle()
        version = registry.resolve(number)
        if record.champion == number and version.cleared:
            return version
        if not version.cleared and not override:
            raise TrackingError(
                f"version {number} is not promoted: it {version.fault}. Evaluate another one, or let it pass in your "
                'name with --override "why"'
            )
        move = Move(
            number=len(record.moves) + 1,
            how=How.CONFIRMED if record.champion == number else How.PROMOTED,
            version=number,
            replaced=None if record.champion == number else record.champion,
            reason=reason[: history.LONGEST],
            by=who(),
            at=history.now(),
            verdict=version.digest,
            override=override if version.fault else None,
            approved_by=_approval(version),
        )
        _carry_out(own, move, f"version {number} to champion")
    return registry.resolve(number)


def rollback(reason: str, *, of: str | None = None) -> Move:
    """Make the champion before this one champion again, and mark this one; TrackingError where none is on record.

    With `of`, only if that version is champion still.
    """
    _said(reason)
    registry.resolve(Alias.CHAMPION)
    with _turn() as own:
        record = settle()
        bad = record.champion
        back = way_back(record)
        if of not in (None, bad):
            raise TrackingError(
                f"version {of} is no longer champion, version {bad} is: nothing was rolled back"
            )
        if bad is None or back is None:
            raise TrackingError(
                "there is no previous champion to roll back to: the history names none before version "
                f"{bad}. Promote another version instead"
            )
        move = Move(
            number=len(record.moves) + 1,
            how=How.ROLLED_BACK,
            version=back,
            replaced=bad,
            reason=reason[: history.LONGEST],
            by=who(),
            at=history.now(),
            verdict=registry.resolve(back).digest,
        )
        _carry_out(own, move, f"back to version {back}")
    return move


def way_back(record: Record) -> str | None:
    """Where a rollback would go."""
    return record.before(record.champion, _usable()) if record.champion else None


def approve(which: str, reason: str) -> Version:
    """Record that this user approves of a version as its verdict stands now."""
    _said(reason)
    version = registry.resolve(which)
    approvers = load_policy().promotion.approvers
    if approvers and who() not in approvers:
        raise TrackingError(f"{who()} is no approver: policy.yaml names {', '.join(approvers)}")
    approval = {"by": who(), "at": history.now(), "reason": reason, "verdict": version.digest}
    MlflowClient().set_model_version_tag(version.name, version.number, APPROVED, json.dumps(approval))
    return version


def settle() -> Record:
    """Bring the record up to date: a move cut short is completed, one made elsewhere is written down.

    Only within a turn. A move cut short is given up where another client has moved the champion since.
    """
    record = history.read()
    if (cut := record.pending) is not None:
        unmoved = record.champion in (cut.version, cut.replaced) or cut.how is How.ELSEWHERE
        if unmoved and (cut.version is None or cut.version in _numbers()):
            complete(cut)
        else:
            history.write(cut.model_copy(update={"state": State.ABANDONED}))
        record = history.read()
    if (move := record.unseen) is not None:
        if move.version:
            move = move.model_copy(update={"verdict": registry.resolve(move.version).digest})
        history.write(move)
        complete(move)
        record = history.read()
    return record


def seen() -> Record:
    """The record, settled; takes a turn only where there is something to settle."""
    record = history.read()
    if record.settled:
        return record
    with _turn():
        return settle()


def _carry_out(own: Turn, move: Move, title: str) -> None:
    with runs.stage("promote", title, params={"version": move.version}) as run:
        move = move.model_copy(update={"run_id": run.run_id})
        run.log(tags={"reason": move.reason, "replaced": move.replaced or "none", "how": move.how})
        own.check()
        _written(move)
        try:
            complete(move)
        except MlflowException as fault:
            raise TrackingError(
                f"moving champion to version {move.version} was begun and not finished ({fault.message}): "
                "`spanishgas reconcile` completes it, as does the next promote, rollback or score"
            ) from fault


def _written(move: Move) -> None:
    """Write the move down; TrackingError where the server lets this user move no champion."""
    try:
        history.write(move)
    except MlflowException as fault:
        if fault.error_code != "PERMISSION_DENIED":
            raise
        raise TrackingError(
            f"{who()} may move no champion: the tracking server asks for MANAGE on the registered model "
            f"{settings().registered_model}. Nothing was moved: ask somebody who may promote"
        ) from fault


def complete(move: Move) -> None:
    """Do what a move says; every step may have been done before."""
    client, name = MlflowClient(), settings().registered_model
    if move.how is not How.ELSEWHERE and move.version:
        registry.point(Alias.CHAMPION, move.version)
    if move.how is How.ROLLED_BACK and move.replaced:
        client.set_model_version_tag(name, move.replaced, ROLLED_BACK, move.reason)
        client.delete_model_version_tag(name, move.replaced, OVERRIDE)
    if move.how in (How.PROMOTED, How.CONFIRMED) and move.version and move.override:
        passed = f"{move.override} ({move.by}, {move.at})"
        client.set_model_version_tag(name, move.version, OVERRIDE, passed)
    if move.version:
        for key, value in _tags(move).items():
            client.set_model_version_tag(name, move.version, key, value)
    done = move.model_copy(update={"state": State.DONE})
    _point_previous(done)
    if move.run_id and runs.status(move.run_id) in ("KILLED", "FAILED"):
        client.set_tag(move.run_id, "completed", "by a later command")
        client.set_terminated(move.run_id, "FINISHED")
    history.write(done)


def _point_previous(move: Move) -> None:
    """`previous` is where a rollback would go; it names nothing where there is nowhere to go."""
    record = history.read()
    moves = [*(m for m in record.moves if m.number != move.number), move]
    after = Record(moves=moves, aliases=record.aliases)
    earlier = after.before(move.version, _usable()) if move.version else move.replaced
    if earlier:
        registry.point(Alias.PREVIOUS, earlier)
    elif Alias.PREVIOUS in record.aliases:
        MlflowClient().delete_registered_model_alias(settings().registered_model, Alias.PREVIOUS.value)


def _tags(move: Move) -> dict[str, str]:
    return {
        "champion.how": move.how,
        "champion.reason": move.reason,
        "champion.by": move.by,
        "champion.at": move.at,
        "champion.replaced": move.replaced or "none",
        "champion.verdict": move.verdict or "none",
    }


def _usable() -> set[str]:
    """Versions that a rollback may go back to: those still there and not marked, or let pass since."""
    return {v.number for v in registry.versions() if ROLLED_BACK not in v.tags or v.tags.get(OVERRIDE)}


def _numbers() -> set[str]:
    return {v.number for v in registry.versions()}


def _approval(version: Version) -> str | None:
    """Who approved of the version's verdict; TrackingError where the policy asks for somebody and nobody did."""
    approvers = load_policy().promotion.approvers
    given = json.loads(version.tags.get(APPROVED, "{}"))
    by = given.get("by") if given.get("verdict") == version.digest else None
    if approvers and by not in approvers:
        raise TrackingError(
            f"version {version.number} is not promoted: the policy asks for the approval of one of "
            f"{', '.join(approvers)}, and there is none for its verdict. One of them runs "
            f"`spanishgas approve {version.number} --reason ...`"
        )
    return by


@contextmanager
def _turn() -> Iterator[Turn]:
    with turn(settings().registered_model) as own:
        yield own


def _said(reason: str) -> None:
    if not reason.strip():
        raise UsageError("the reason is empty: say why with --reason, it is kept with the version")


def who() -> str:
    """The user as the tracking server knows them, else as this machine does."""
    if name := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in passwd
        return "unknown"
