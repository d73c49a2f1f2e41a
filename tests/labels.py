"""Customers of whom only the label and its true probability matter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def customers(rows: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels, and the probabilities that they were drawn from."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.4, 2.5, rows)
    return (rng.random(rows) < p).astype("int64"), p
