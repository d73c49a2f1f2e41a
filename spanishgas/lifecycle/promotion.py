"""Moving the champion: only to a version that may be it, with who, when, why, from which version and by which verdict.

    take the lock -> settle what came before -> check -> write the move down -> aliases, tags -> its run -> done

Every step after the writing down may be done twice, so a command that is killed anywhere is completed by the next one.
A rollback names the move that it undoes: run again, it makes no second one.
"""

from __future__ import annotations

import getpass
import os
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas.config.policy import load_policy
from spanishgas.errors import TrackingError, UsageError
from spanishgas.lifecycle import history, overview, registry, runs
from spanishgas.lifecycle.history import How, Move, MoveRecord, MoveState
from spanishgas.lifecycle.promotion_lock import PromotionLock, promotion_lock
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.version import OVERRIDE, ROLLED_BACK, Version
from spanishgas.settings import of_offers, registered_model

MARKS = ("how", "reason", "by", "at", "replaced", "verdict")
"""What a version's tags say of the move that made it champion."""


def promote(which: str, reason: str, override: str | None = None) -> Version:
    """Make the version behind `which` champion; a version that is champion already stays so, untouched.

    Raises TrackingError for a version without a passed verdict, or one that was rolled back, unless `override` says
    why it may pass all the same; for one without the approval that the policy asks for; and DataError, override or not,
    for one whose bytes are not those that were judged.
    """
    _said(reason)
    number = registry.resolve(which).number
    with promotion_lock(registered_model()) as lock:
        record = settle()
        version = registry.resolve(number)
        if not version.cleared and not override:
            raise TrackingError(
                f"version {number} is not promoted: it {version.fault}. Evaluate another one, or let it pass in your "
                'name with --override "why"'
            )
        version.checked()
        there = record.champion == number
        if not (there and version.cleared):
            how, replaced = (How.CONFIRMED, None) if there else (How.PROMOTED, record.champion)
            approval = {"override": override if version.fault else None, "approved_by": _approval(version)}
            _move(lock, record, how, version, reason, replaced=replaced, **approval)
    overview.refresh()
    return registry.resolve(number)


def rollback(reason: str, *, of: str | None = None, to_none: bool = False) -> Move:
    """Undo the move that made the champion what it is, and mark that version; gives the move back.

    - The champion is the one when the command began, or `of`: TrackingError where another one is champion by then, or
      where the history names none before it, unless `to_none` says that then no version is to be champion.
    - Run again after a kill, or by the same user for the same reason, it gives the move that was made and makes no
      second one.
    - DataError where the version to go back to is no longer what was judged.
    """
    _said(reason)
    before = history.read()
    bad = of or before.champion
    if bad is None and not before.moves:
        bad = registry.resolve(Alias.CHAMPION).number
    with promotion_lock(registered_model()) as lock:
        record = settle()
        newest = record.newest
        if newest is not None and newest.how is How.ROLLED_BACK:
            begun = before.pending is not None and before.pending.number == newest.number
            same = (newest.by, newest.reason) == (who(), reason[: history.LONGEST])
            if begun or same:
                return newest
        if bad is None:
            bad = registry.resolve(Alias.CHAMPION).number
        if record.champion != bad:
            raise TrackingError(
                f"version {bad} is no longer champion, version {record.champion} is: nothing was rolled back. Run it "
                "again to go back from that one"
            )
        back = way_back(record)
        if newest is None or (back is None and not to_none):
            raise TrackingError(
                "there is no previous champion to roll back to: the history names none before version "
                f"{bad}. Promote another version instead"
            )
        version = registry.resolve(back).checked() if back else None
        move = _move(lock, record, How.ROLLED_BACK, version, reason, replaced=bad, undoes=newest.number)
    overview.refresh()
    return move


def way_back(record: MoveRecord) -> str | None:
    """Where a rollback would go."""
    return record.before(record.champion, _usable(record)) if record.champion else None


def approve(which: str, reason: str) -> Version:
    """Record that this user approves of a version's verdict as it stands now; once, however often it is said."""
    _said(reason)
    version = registry.resolve(which)
    approvers = load_policy().promotion.approvers
    if approvers and who() not in approvers:
        raise TrackingError(f"{who()} is no approver: policy.yaml names {', '.join(approvers)}")
    with promotion_lock(registered_model()) as lock:
        record = settle()
        version = registry.resolve(version.number).checked()
        if who() not in {m.by for m in record.approvals(version.number, version.digest)}:
            _move(lock, record, How.APPROVED, version, reason)
    return version


def settle() -> MoveRecord:
    """Bring the record up to date: a move cut short is completed, one made elsewhere is written down.

    Only under the lock. A move cut short is given up where another client has moved the champion since.
    """
    record = history.read()
    if (cut := record.pending) is not None:
        unmoved = record.champion in (cut.version, cut.replaced)
        still = unmoved or cut.how in (How.ELSEWHERE, How.APPROVED)
        if still and (cut.version is None or cut.version in registry.numbers()):
            complete(cut)
        else:
            history.write(cut.model_copy(update={"state": MoveState.ABANDONED}))
        record = history.read()
    if (move := record.unseen) is not None:
        if move.version:
            move = move.model_copy(update={"verdict": registry.resolve(move.version).digest})
        history.write(move)
        complete(move)
        record = history.read()
    return record


def seen() -> MoveRecord:
    """The record, settled; takes the lock only where there is something to settle."""
    record = history.read()
    if record.settled:
        return record
    with promotion_lock(registered_model()):
        record = settle()
    overview.refresh()
    return record


def scorable(which: str) -> Version:
    """The version behind `which`, if it may score: moves are settled first, and its verdict must have passed.

    Raises TrackingError that names the verdict and the ways out, and DataError, whoever let it pass, for other bytes
    than were judged.
    """
    seen()
    version = registry.resolve(which)
    version.require()
    return version.checked()


def scorable_offers() -> Version | None:
    """The champion of the model that knows what offers change, if there is one; raises what `scorable` does."""
    with of_offers():
        return scorable(Alias.CHAMPION) if Alias.CHAMPION in registry.aliases() else None


def _move(
    lock: PromotionLock, record: MoveRecord, how: How, version: Version | None, reason: str, **beside: Any
) -> Move:
    """Write a move down, then do it; TrackingError where the server lets this user move no champion."""
    move = Move(
        number=len(record.moves) + 1,
        how=how,
        version=version.number if version else None,
        reason=reason[: history.LONGEST],
        by=who(),
        at=history.now(),
        verdict=version.digest if version else None,
        **{"replaced": None, **beside},
    )
    lock.check()
    try:
        history.write(move)
    except MlflowException as fault:
        if fault.error_code != "PERMISSION_DENIED":
            raise
        raise TrackingError(
            f"{who()} may move no champion: the tracking server asks for MANAGE on the registered model "
            f"{registered_model()}. Nothing was moved: ask somebody who may promote"
        ) from fault
    try:
        complete(move)
    except MlflowException as fault:
        raise TrackingError(
            f"move {move.number} ({move.how}, version {move.version}) was begun and not finished ({fault.message}): "
            "`spanishgas reconcile` completes it, as does the next promote, rollback or score"
        ) from fault
    return move


def complete(move: Move) -> None:
    """Do what a move says; every step may have been done before."""
    done = move.model_copy(update={"state": MoveState.DONE})
    ours = move.how in (How.PROMOTED, How.ROLLED_BACK, How.CONFIRMED)
    if ours:
        registry.point(Alias.CHAMPION, move.version)
    if move.how is not How.APPROVED:
        _mark(move)
        _point_previous(done)
    if ours:
        done = done.model_copy(update={"run_id": _run_of(move)})
    history.write(done)


def _mark(move: Move) -> None:
    """What the UI shows of the versions that a move is about."""
    client, name = MlflowClient(), registered_model()
    if move.how is How.ROLLED_BACK and move.replaced in registry.numbers():
        client.set_model_version_tag(name, move.replaced, ROLLED_BACK, move.reason)
        client.delete_model_version_tag(name, move.replaced, OVERRIDE)
    tags = {f"champion.{key}": getattr(move, key) or "none" for key in MARKS}
    if move.override:
        tags[OVERRIDE] = f"{move.override} ({move.by}, {move.at})"
    for key, value in tags.items() if move.version else ():
        client.set_model_version_tag(name, str(move.version), key, value)


def _run_of(move: Move) -> str:
    """The move's run, written when the move is made; one that a kill left without an end is ended."""
    tag = f"{registered_model()}/{move.key}"
    for run in runs.find({"stage": "promote", "move": tag}, finished=False):
        if run.info.status != "FINISHED":
            MlflowClient().set_tag(run.info.run_id, "completed", "by a later command")
            MlflowClient().set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)
    where = f"version {move.version}" if move.version else "none"
    title = f"back to {where}" if move.undoes else f"{where} to champion"
    tags = {"move": tag, "reason": move.reason, "replaced": move.replaced or "none", "how": move.how}
    with runs.stage("promote", title, params={"version": move.version or "none"}, tags=tags) as opened:
        return opened.run_id


def _point_previous(move: Move) -> None:
    """`previous` is where a rollback would go; it names nothing where there is nowhere to go."""
    record = history.read()
    moves = [*(m for m in record.moves if m.number != move.number), move]
    after = MoveRecord(moves=moves, aliases=record.aliases)
    usable, last = _usable(after), move.version or move.replaced
    earlier = last if last in usable and not move.version else after.before(str(last), usable)
    if earlier:
        registry.point(Alias.PREVIOUS, earlier)
    else:
        registry.point(Alias.PREVIOUS, None)


def _usable(record: MoveRecord) -> set[str]:
    """Versions that a rollback may go back to: those still there and not rolled back, or let pass since."""
    return {v for v in registry.numbers() if record.rolled_back(v) is None or record.override(v)}


def approved(version: Version) -> bool:
    """Whether nobody's approval of the version's verdict is missing."""
    return not load_policy().promotion.approvers or _approver(version) is not None


def _approver(version: Version) -> str | None:
    approvers = load_policy().promotion.approvers
    approved_by = [m.by for m in version.moves.approvals(version.number, version.digest)]
    return next((name for name in approved_by[::-1] if name in approvers or not approvers), None)


def _approval(version: Version) -> str | None:
    """Who approved of the version's verdict; TrackingError where the policy asks for somebody and nobody did."""
    approvers = load_policy().promotion.approvers
    if not approved(version):
        raise TrackingError(
            f"version {version.number} is not promoted: the policy asks for the approval of one of "
            f"{', '.join(approvers)}, and there is none for its verdict. One of them runs "
            f"`spanishgas approve {version.number} --reason ...`"
        )
    return _approver(version)


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
