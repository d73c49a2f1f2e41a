"""Ordinary change: how the inputs of a model move with nothing but time.

Customers age, renewals come nearer, seasons turn, a few customers leave and others come. None of it is a reason for
an alarm, and none of it shows in resamples of one date: it is learned from pairs of tables of the same utility, some
months apart, in which nothing else happened. Per lag in months, feature and bin:

    expected   mean change of the bin's share of customers
    spread     its standard deviation between utilities of `customers` customers

and for each pair how far each of its features moved, in standard deviations, by what the *other* pairs of that lag say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spanishgas.errors import DataError, UsageError

Floats = NDArray[np.float64]
SHIPPED = Path(__file__).parent / "ordinary_change"
"""Learned on simulated utilities by `python -m benchmarks ordinary`."""
RARE = 0.01
"""Bins of a smaller share of customers are counts of a few: their spread is that of two samples of strangers."""
MOMENTS, PAIRS = "moments.parquet", "pairs.parquet"


@dataclass(frozen=True)
class Ordinary:
    """What pairs without drift have taught."""

    moments: pd.DataFrame
    """expected and spread by (lag, feature, bin)."""
    pairs: pd.DataFrame
    """The largest standardised effect: a row per pair, a column per feature, indexed by lag."""
    customers: float
    """In each table of a pair."""
    groups: float
    """Independent pairs behind each expected change."""
    month: int
    """Calendar month (1 to 12) of the earlier tables; 0 if they were taken in any."""
    source: str
    """Whose tables they were, in words."""

    @property
    def lags(self) -> list[int]:
        """Months between the two tables of a pair."""
        return sorted(set(self.pairs.index))

    def write(self, folder: Path) -> None:
        """Two Parquet files, which `read` takes."""
        folder.mkdir(parents=True, exist_ok=True)
        about = {name: str(getattr(self, name)) for name in ("customers", "groups", "month", "source")}
        for name, table in ((MOMENTS, self.moments), (PAIRS, self.pairs)):
            held = pa.Table.from_pandas(table.astype("float32").reset_index(), preserve_index=False)
            pq.write_table(held.replace_schema_metadata(about), folder / name, compression="zstd")


def read(folder: Path) -> Ordinary:
    """What `write` left in `folder`; UsageError where there is nothing."""
    try:
        moments, pairs = (pq.read_table(folder / name) for name in (MOMENTS, PAIRS))
    except FileNotFoundError:
        raise UsageError(
            f"drift.ordinary names {folder}, which has no {MOMENTS} and {PAIRS}: write them with "
            "spanishgas.monitoring.ordinary.learn, or remove the key to take the shipped ones"
        ) from None
    about = {k.decode(): v.decode() for k, v in moments.schema.metadata.items()}
    return Ordinary(
        moments.to_pandas(ignore_metadata=True).set_index(["lag", "feature", "bin"]).astype("float64"),
        pairs.to_pandas(ignore_metadata=True).set_index("lag").astype("float64"),
        float(about["customers"]),
        float(about["groups"]),
        int(about["month"]),
        about["source"],
    )


def learn(
    changes: Mapping[int, Sequence[Sequence[pd.DataFrame]]], customers: float, *, month: int, source: str
) -> Ordinary:
    """From `shares` of pairs of tables: per lag, lists of pairs of which none share a customer.

    Several lists of one lag may be several ways to divide the same customers. Raises DataError where a list has
    fewer than three pairs, which have no spread that leaves one out.
    """
    moments, pairs = {}, {}
    for lag, divisions in changes.items():
        tables = [_of_pairs(division, "moved") for division in divisions]
        if min(len(table) for table in tables) < 3:
            raise DataError(f"ordinary change needs at least 3 pairs of tables {lag} months apart")
        moments[lag] = pd.DataFrame(
            {
                "expected": pd.concat(tables).fillna(0.0).mean(),
                "spread": np.sqrt(
                    pd.concat([t.var(ddof=1) for t in tables], axis=1).fillna(0.0).mean(axis=1)
                ),
            }
        )
        pairs[lag] = pd.concat(
            [_left_out(t, _of_pairs(d, "middle"), customers) for t, d in zip(tables, divisions, strict=True)]
        )
    return Ordinary(
        pd.concat(moments, names=["lag"]),
        pd.concat(pairs, names=["lag"]).droplevel(1),
        customers,
        float(np.mean([len(divisions[0]) for divisions in changes.values()])),
        month,
        source,
    )


def _of_pairs(division: Sequence[pd.DataFrame], what: str) -> pd.DataFrame:
    """Change of share, or its middle: a row per pair, a column per (feature, bin), 0 where a pair has no such bin."""
    held = [c["after"] - c["before"] if what == "moved" else (c["after"] + c["before"]) / 2 for c in division]
    return pd.concat(held, axis=1).fillna(0.0).T.reset_index(drop=True)


def _left_out(moved: pd.DataFrame, middle: pd.DataFrame, customers: float) -> pd.DataFrame:
    """Each pair's largest standardised effect per feature, by mean and variance of all others."""
    x, n = moved.to_numpy(), len(moved)
    mean, square = (x.sum(0) - x) / (n - 1), ((x**2).sum(0) - x**2) / (n - 1)
    variance = np.maximum(square - mean**2, 0.0) * (n - 1) / (n - 2)
    usual = deviation(np.sqrt(variance), middle[moved.columns].to_numpy(), 1 + 1 / (n - 1), customers, 0.0)
    effect = np.abs(x - mean) / usual
    by_bin = pd.DataFrame(effect, columns=moved.columns)
    return by_bin.T.groupby(level="feature", sort=False).max().T


def deviation(spread: Floats, middle: Floats, scale: float, customers: float, floor: float) -> Floats:
    """Standard deviation of a change of share between two tables of `customers`.

    The spread times the root of `scale`, one customer, and the floor together; `middle` is the share itself.
    """
    strangers = 2 * middle * (1 - middle) / customers
    found: Floats = np.sqrt(
        np.where(middle < RARE, strangers, spread**2 * scale) + 1 / customers**2 + floor**2
    )
    return found
