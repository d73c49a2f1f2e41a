"""Moving the champion: only to a version whose gate passed, with who, when, why and from which version.

The replaced champion stays reachable as `previous`; rollback goes back to it.
"""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from spanishgas.errors import TrackingError
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.registry import Alias

VERDICT = "gate"
PASSED, REFUSED = "passed", "refused"


def promote(which: str, reason: str) -> ModelVersion:
    """Make the version behind `which` champion; a version that is champion already stays so, untouched.

    Raises TrackingError for a version whose gate verdict is missing or refused.
    """
    version = registry.resolve(which)
    before = registry.aliases().get(Alias.CHAMPION)
    if version.tags.get(VERDICT) != PASSED:
        raise TrackingError(
            f"version {version.version} is not promoted: its gate verdict is "
            f"{version.tags.get(VERDICT, 'missing')} ({version.tags.get('gate.words', 'never evaluated')})"
        )
    if before == str(version.version):
        return version
    with runs.stage(
        "promote", f"version {version.version} to champion", params={"version": version.version}
    ) as run:
        if before:
            registry.point(Alias.PREVIOUS, before)
        _move(version, before, reason, "promoted")
        run.log(tags={"reason": reason, "replaced": before or "none"})
    return version


def rollback(reason: str) -> ModelVersion:
    """Make the previous champion champion again; TrackingError where there is none."""
    known = registry.aliases()
    before, back = known.get(Alias.CHAMPION), known.get(Alias.PREVIOUS)
    if not back or back == before:
        raise TrackingError("there is no previous champion to roll back to: promote another version instead")
    version = registry.resolve(back)
    with runs.stage("promote", f"back to version {back}", params={"version": back}) as run:
        _move(version, before, reason, "rolled back to")
        MlflowClient().delete_registered_model_alias(version.name, Alias.PREVIOUS.value)
        if before:
            MlflowClient().set_model_version_tag(version.name, before, "rolled_back", reason)
        run.log(tags={"reason": reason, "replaced": before or "none"})
    return version


def _move(version: ModelVersion, before: str | None, reason: str, what: str) -> None:
    registry.point(Alias.CHAMPION, str(version.version))
    client = MlflowClient()
    record = {
        "champion.how": what,
        "champion.reason": reason,
        "champion.by": _who(),
        "champion.at": datetime.now(UTC).isoformat(timespec="seconds"),
        "champion.replaced": before or "none",
    }
    for key, value in record.items():
        client.set_model_version_tag(version.name, version.version, key, value)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in passwd
        return "unknown"
