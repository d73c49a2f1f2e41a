"""Worlds that say when customers leave and that the project's simulator did not draw, with customers lost by chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.training.times import Times

Array = NDArray[np.float64]
HORIZON = 12
KINDS = {"x": "numeric", "z": "numeric", "months_to_renewal": "numeric"}


def proportional(X: pd.DataFrame) -> Array:
    """One baseline that rises over the year; features multiply it."""
    level = np.exp(-4.4 + 0.9 * X["x"].to_numpy() - 0.6 * X["z"].to_numpy())
    hazard: Array = 1 - np.exp(-level[:, None] * np.linspace(0.6, 1.6, HORIZON))
    return hazard


def crossing(X: pd.DataFrame) -> Array:
    """Who has x above 0 leaves early, the others late: no feature is bad at all times."""
    early = np.exp(-np.arange(HORIZON) / 3) * 0.06
    sign = (X["x"].to_numpy() > 0)[:, None]
    hazard: Array = np.where(sign, early, early[::-1]) * np.exp(0.3 * X["z"].to_numpy())[:, None]
    return hazard


WORLDS: Mapping[str, Callable[[pd.DataFrame], Array]] = {"proportional": proportional, "crossing": crossing}


def world(name: str, rows: int, seed: int, lost: float = 0.0) -> tuple[pd.DataFrame, Array, Times]:
    """Customers, true hazards, and times of whom the share `lost` is lost in a month of chance."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"x": rng.normal(size=rows), "z": rng.normal(size=rows)})
    X["months_to_renewal"] = rng.uniform(0, 12, rows)
    hazard = WORLDS[name](X)
    leaves = rng.random(hazard.shape) < hazard
    month = np.where(leaves.any(axis=1), leaves.argmax(axis=1) + 1, HORIZON + 1)
    seen = np.where(rng.random(rows) < lost, rng.integers(0, HORIZON, rows), HORIZON)
    left = month <= seen
    return X, hazard, Times(np.where(left, month, seen).astype("int64"), left, HORIZON)


def curve_of(hazard: Array) -> Array:
    curve: Array = 1 - np.cumprod(1 - hazard, axis=1)
    return curve
