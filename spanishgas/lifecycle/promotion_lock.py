"""The promotion lock of a registered model, also between machines: MLflow's aliases have no compare-and-swap.

Lamport's bakery (1974), which needs no more than plain reads and writes: whoever wants the lock writes a claim under
a key of its own, reads all claims, draws the next number, and waits until nobody with a lower one is left. Claims of
dead processes are void; so is one at the head of the queue that does not go for LEASE_SECONDS, by the clock of who
waits.

Limits: it holds between those who take the lock, not against other clients of the server (`reconcile` sees what they
did); a holder that sleeps longer than the lease must look again (`PromotionLock.check`) before it writes.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from mlflow.tracking import MlflowClient

from spanishgas import provenance
from spanishgas.errors import TrackingError

PREFIX = "turn."
_CLAIM = re.compile(r"([0-9]{1,9}) (\S{1,255}:[0-9]{1,10})")
LEASE_SECONDS = 120.0
PATIENCE_SECONDS = 600.0
PAUSE_SECONDS = 0.2
DRAWING = 0
"""The number of a claim that has yet to draw one; it is waited for, as it may draw a low one."""


class Claim(NamedTuple):
    """One who wants the lock or has it; claims are served in this order."""

    number: int
    key: str
    process: str


@dataclass(frozen=True)
class PromotionLock:
    """The lock as one command has taken it."""

    model: str
    key: str

    def check(self) -> list[Claim]:
        """All claims at the model; TrackingError if this one is lost, for its holder slept longer than the lease."""
        queue = claims(self.model)
        if self.key not in {c.key for c in queue}:
            raise TrackingError(
                f"this command's lock on {self.model} was given to another one, for it did nothing for "
                f"{LEASE_SECONDS:.0f} s; nothing was changed: run it again"
            )
        return queue


def claims(model: str) -> list[Claim]:
    """All who want the lock on `model` or have it, in the order of being served; what is no claim is let be."""
    tags = MlflowClient().get_registered_model(model).tags
    matches = [(key, _CLAIM.fullmatch(value)) for key, value in tags.items() if key.startswith(PREFIX)]
    return sorted(Claim(int(claim[1]), key, claim[2]) for key, claim in matches if claim)


@contextmanager
def promotion_lock(model: str) -> Iterator[PromotionLock]:
    """Be the only one that moves an alias of `model`; others wait, and raise TrackingError in the end."""
    lock = PromotionLock(model, f"{PREFIX}{uuid.uuid4().hex}")
    _claim(lock, DRAWING)
    try:
        _claim(lock, 1 + max(c.number for c in claims(model)))
        _wait(lock)
        yield lock
    finally:
        MlflowClient().delete_registered_model_tag(model, lock.key)


def _claim(lock: PromotionLock, number: int) -> None:
    MlflowClient().set_registered_model_tag(lock.model, lock.key, f"{number} {provenance.process()}")


def _wait(lock: PromotionLock) -> None:
    began = time.monotonic()
    head, since = "", began
    while (first := _first(lock)).key != lock.key:
        now = time.monotonic()
        if first.key != head:
            head, since = first.key, now
        if now - since > LEASE_SECONDS:
            MlflowClient().delete_registered_model_tag(lock.model, head)
        if now - began > PATIENCE_SECONDS:
            raise TrackingError(
                f"{lock.model} is busy with a promotion of {first.process}: wait for it, then run again"
            )
        time.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))


def _first(lock: PromotionLock) -> Claim:
    """Who is next to have the lock; claims of processes that are known to be dead are removed."""
    for claim in lock.check():
        if claim.key == lock.key or not provenance.is_gone(claim.process):
            return claim
        MlflowClient().delete_registered_model_tag(lock.model, claim.key)
    raise AssertionError("the queue holds this command's own claim")
