"""Chance that depends on a customer's id and a salt alone: the same on every machine, in any order of the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

ENDS = 2**64
"""One above the largest number that `hashed` gives."""


def hashed(ids: Iterable[object], salt: str) -> list[int]:
    """The first 64 bits of SHA-256(salt + id) of each id."""
    return [int.from_bytes(hashlib.sha256(f"{salt}{i}".encode()).digest()[:8]) for i in ids]


def uniform(ids: Iterable[object], salt: str) -> NDArray[np.float64]:
    """A number from 0 to 1 for each id."""
    return np.array(hashed(ids, salt), dtype="float64") / ENDS
