"""Taking turns at a registered model, also between machines: MLflow's aliases have no compare-and-swap.

Who wants a turn writes a claim under a key of its own, then reads all claims: alone, it goes; else it takes its claim
back and waits. Of two that claim at once each has written before it reads, so at least one sees the other, and never
do both go. A claim is void when its process is known to be dead, or was seen unchanged for LEASE_SECONDS.

Limits: it holds between those who take turns, not against other clients of the server (`reconcile` sees what they did);
a holder that sleeps longer than the lease must look again (`Turn.check`) before it writes.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow.tracking import MlflowClient

from spanishgas import code
from spanishgas.errors import TrackingError

PREFIX = "turn."
LEASE_SECONDS = 120.0
PATIENCE_SECONDS = 600.0
PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Turn:
    """A turn that was taken."""

    model: str
    key: str

    def check(self) -> None:
        """Raise TrackingError if the turn was lost: its holder slept for longer than the lease."""
        if self.key not in claims(self.model):
            raise TrackingError(
                f"this command's turn at {self.model} was given to another one, for it did nothing for "
                f"{LEASE_SECONDS:.0f} s; nothing was changed: run it again"
            )


def claims(model: str) -> dict[str, str]:
    """Process by claim, of all that want a turn at `model` or have it."""
    tags = MlflowClient().get_registered_model(model).tags
    return {key: value for key, value in tags.items() if key.startswith(PREFIX)}


@contextmanager
def turn(model: str) -> Iterator[Turn]:
    """Be the only one that moves an alias of `model`; others wait, and raise TrackingError in the end."""
    client, own = MlflowClient(), Turn(model, f"{PREFIX}{uuid.uuid4().hex}")
    seen: dict[str, float] = {}
    began = time.monotonic()
    while True:
        if not _living(model, seen):
            client.set_registered_model_tag(model, own.key, code.process())
            if set(_living(model, seen)) == {own.key}:
                break
            client.delete_registered_model_tag(model, own.key)
        if time.monotonic() - began > PATIENCE_SECONDS:
            holders = ", ".join(sorted(set(claims(model).values())))
            raise TrackingError(f"{model} is busy with a promotion of {holders}: wait for it, then run again")
        time.sleep(PAUSE_SECONDS * random.uniform(0.25, 1.75))
    try:
        yield own
    finally:
        client.delete_registered_model_tag(model, own.key)


def _living(model: str, seen: dict[str, float]) -> list[str]:
    """Claims that count; those of the dead are removed. `seen` keeps when each was first read, by this clock."""
    living, now = [], time.monotonic()
    for key, process in claims(model).items():
        if code.is_gone(process) or now - seen.setdefault(key, now) > LEASE_SECONDS:
            MlflowClient().delete_registered_model_tag(model, key)
        else:
            living.append(key)
    return living
