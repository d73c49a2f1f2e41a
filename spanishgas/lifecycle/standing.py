"""Whether a version may be champion: its verdict as recorded, untampered, or an override; and not rolled back."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion

from spanishgas import code
from spanishgas.errors import TrackingError
from spanishgas.lifecycle import runs

VERDICT, DIGEST, WORDS = "gate", "gate.digest", "gate.words"
OVERRIDE, ROLLED_BACK, APPROVED = "gate.override", "rolled_back", "approved"
PROBATION = "probation"
"""How a champion fares beside the one before it, in words."""
PASSED, REFUSED = "passed", "refused"


@dataclass(frozen=True)
class Standing:
    """What is known of a version's verdict; `fault` says in words why it may not be champion, if so."""

    version: ModelVersion
    digest: str | None
    fault: str | None

    @property
    def override(self) -> str | None:
        """Who let it pass all the same, when and why."""
        return self.version.tags.get(OVERRIDE)

    @property
    def cleared(self) -> bool:
        """Whether it may be champion and score."""
        return self.fault is None or bool(self.override)

    def require(self) -> None:
        """Raise TrackingError that names the verdict and the ways out, unless it is cleared."""
        if not self.cleared:
            number = self.version.version
            raise TrackingError(
                f"version {number} of {self.version.name} {self.fault}. Nothing is scored with it: go back with "
                f"`spanishgas rollback --reason ...`, promote another version, or let this one pass in your name with "
                f'`spanishgas promote --version {number} --reason ... --override "why"`'
            )


def digest_of(verdict: object) -> str:
    """Digest of a verdict's data, as version tags and moves hold it."""
    return code.fingerprint("verdict", json.loads(json.dumps(verdict)))


def standing(version: ModelVersion) -> Standing:
    """The version's standing, its verdict artefact held against the digest that was recorded with it."""
    tags = version.tags
    recorded = tags.get(DIGEST)
    if ROLLED_BACK in tags:
        return Standing(version, recorded, f"was rolled back ({tags[ROLLED_BACK]})")
    if tags.get(VERDICT) != PASSED:
        words = tags.get(WORDS, "never evaluated")
        return Standing(
            version, recorded, f"has no passed verdict: it is {tags.get(VERDICT, 'missing')} ({words})"
        )
    return Standing(version, recorded, _tampered(version, recorded))


def _tampered(version: ModelVersion, recorded: str | None) -> str | None:
    if not version.run_id:
        return "says that its gate passed, but no run holds the verdict"
    try:
        found = runs.artifact(version.run_id, "verdict.json").get("verdict")
    except TrackingError as fault:
        why = fault.__cause__
        return f"says that its gate passed, but run {version.run_id} holds no verdict.json that can be read ({why})"
    if digest_of(found) != recorded:
        return f"says that its gate passed, but the verdict of run {version.run_id} has another digest"
    return None
