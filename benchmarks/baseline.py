"""`python -m benchmarks.baseline [FOLDER]`: what the shipped alarm knows of baseline variation, learned anew.

One utility of 50,000 simulated customers at the ends of 21 months, December 2024 to August 2026. From each of the first
twelve on, one to twelve months later, it is divided at random into utilities of 1,000 customers: some fifty pairs of
tables without drift for each calendar month and lag. An hour of one core.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.pools import divided, month_end, pool
from spanishgas.features import load_tiers
from spanishgas.monitoring import baseline
from spanishgas.monitoring.alarm import shares

CUSTOMERS, SIZE, SEED = 50_000, 1_000, 11
STARTS, LAGS, LAST = range(12), range(1, 13), 20
"""Months from December 2024 to the earlier table, from there to the later one, and to the latest that is drawn."""


def kinds() -> dict[str, str]:
    """Every feature of the data dictionary."""
    tiers = load_tiers()
    return {name: tiers.kind(name) for name in tiers.features()}


def pairs(seed: int, start: int, lag: int, size: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Tables of small utilities `lag` months apart."""
    rng = np.random.default_rng([seed, start, lag, size])
    yield from divided(pool(CUSTOMERS, seed, start), pool(CUSTOMERS, seed, start + lag), size, rng)


def learned() -> baseline.Baseline:
    """Baseline variation of the simulated utility."""
    changes = {
        (month_end(start).month, lag): [shares(a, b, kinds()) for a, b in pairs(SEED, start, lag, SIZE)]
        for start in STARTS
        for lag in LAGS
        if start + lag <= LAST
    }
    return baseline.learn(changes, SIZE, source=f"simulated utilities of {SIZE:,} customers")


if __name__ == "__main__":
    learned().write(Path(sys.argv[1]) if len(sys.argv) > 1 else baseline.SHIPPED)
