"""`python -m benchmarks.ordinary [FOLDER]`: what the shipped alarm knows of ordinary change, learned anew.

One utility of 50,000 simulated customers at the end of December and of each of the twelve months after, divided into
fifty utilities of 1,000, twice for each lag: 1,200 pairs of tables without drift. Twenty minutes of one core.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.pools import divided, pool
from spanishgas.features import load_tiers
from spanishgas.monitoring import ordinary
from spanishgas.monitoring.bins import shares

CUSTOMERS, SIZE, DIVISIONS, SEED = 50_000, 1_000, 2, 11
LAGS = range(1, 13)


def kinds() -> dict[str, str]:
    """Every feature of the data dictionary."""
    tiers = load_tiers()
    return {name: tiers.kind(name) for name in tiers.features()}


def pairs(seed: int, lag: int, size: int, division: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Tables of small utilities `lag` months apart."""
    rng = np.random.default_rng([seed, lag, size, division])
    before = pool(CUSTOMERS, seed, 0)
    yield from divided(before[before["churn"].notna()], pool(CUSTOMERS, seed, lag), size, rng)


def learned() -> ordinary.Ordinary:
    """Ordinary change of the simulated utility."""
    changes = {
        lag: [
            [shares(a, b, kinds()) for a, b in pairs(SEED, lag, SIZE, division)]
            for division in range(DIVISIONS)
        ]
        for lag in LAGS
    }
    source = f"{CUSTOMERS // SIZE} simulated utilities of {SIZE:,} customers"
    return ordinary.learn(changes, SIZE, month=12, source=source)


if __name__ == "__main__":
    learned().write(Path(sys.argv[1]) if len(sys.argv) > 1 else ordinary.SHIPPED)
