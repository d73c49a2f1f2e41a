"""Where scores come from: from a score back to the raw files, and from a version to what it scored."""

from __future__ import annotations

from spanishgas.lake import Lake, Snapshot
from spanishgas.settings import settings


def produced(version: str, lake: Lake) -> list[tuple[Snapshot, bool]]:
    """Score snapshots that a version made, and the recommendations built from them, with whether each is current."""
    name, held = settings().registered_model, lake.snapshots()
    scores = {s.manifest.digest for s, _ in held if s.manifest.built_from.get(name) == version}
    return [
        (snapshot, current)
        for snapshot, current in held
        if snapshot.manifest.digest in scores or snapshot.manifest.built_from.get("scores") in scores
    ]
