"""Large utilities taken to gold, to be divided into many small ones.

Customers are drawn independently of each other and the provinces' costs are the same for every seed, so disjoint
random groups of one utility are utilities of their own. An extract costs a second or two per thousand customers, so
each is kept in a folder (SPANISHGAS_POOLS, else a temporary one of the user) and found again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import period_sums
from spanishgas.etl.build import build
from spanishgas.lake import Lake
from spanishgas.simulate import write_extract

BASE = date(2024, 12, 31)


def month_end(lag: int) -> date:
    """The last day of the month `lag` (0 to 24) months after December 2024."""
    year, month = divmod(2024 * 12 + 11 + lag + 1, 12)
    return date(year, month + 1, 1) - timedelta(days=1)


def folder() -> Path:
    """Where extracts are kept."""
    given = os.environ.get("SPANISHGAS_POOLS")
    return Path(given) if given else Path(tempfile.gettempdir()) / "spanishgas-pools"


def pool(customers: int, seed: int, lag: int, shift: str = "none") -> pd.DataFrame:
    """Gold of a utility, as of `lag` months after the base date."""
    kept = folder() / f"{customers}-{seed}-{lag}-{shift.replace(':', '_')}.parquet"
    if not kept.exists():
        gold = _drawn(customers, seed, month_end(lag), shift)
        kept.parent.mkdir(parents=True, exist_ok=True)
        gold.to_parquet(kept.with_suffix(".part"))
        kept.with_suffix(".part").rename(kept)
    return pd.read_parquet(kept)


def _drawn(customers: int, seed: int, as_of: date, shift: str) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw"
        with period_sums.drawn(as_of):
            write_extract(
                raw, customers=customers, seed=seed, as_of=as_of, labelled=as_of == BASE, shift=shift
            )
        return build(raw, Lake(Path(scratch) / "lake"), as_of).snapshots["gold_master"].pandas()


def divided(
    before: pd.DataFrame, after: pd.DataFrame, size: int, rng: np.random.Generator
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Pairs of tables of disjoint random groups: `size` customers each before, and what becomes of them after.

    Newcomers are dealt out evenly.
    """
    groups = len(before) // size
    old = rng.permutation(before["customer_id"].to_numpy())
    newcomers = rng.permutation(after.loc[~after["customer_id"].isin(old), "customer_id"].to_numpy())
    dealt = np.concatenate([np.arange(len(old)) // size, np.arange(len(newcomers)) % groups])
    group = pd.Series(dealt, index=np.concatenate([old, newcomers]))
    parts = [
        {number: rows for (number,), rows in table.groupby([group[table["customer_id"]].to_numpy()])}
        for table in (before, after)
    ]
    yield from ((parts[0][g], parts[1][g]) for g in range(groups))
