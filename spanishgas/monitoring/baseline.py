"""Baseline variation: how the inputs of a model move with nothing but time.

Customers age, renewals come nearer, seasons turn, a few customers leave and others come. None of it is a reason for
an alarm, and none of it shows in resamples of one date: it is learned from pairs of tables of the same utility, some
months apart, in which nothing else happened. Per calendar month of the earlier table, lag in months, feature and bin:

    expected   mean change of the bin's share of customers
    spread     its standard deviation between utilities of `customers` customers

and for each pair how far each of its features moved, in standard deviations, by what the *other* pairs of that month
and lag say. The floor under a standard deviation is part of the record: pairs and reports are judged by the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pandas.util import hash_pandas_object

from spanishgas.errors import DataError, UsageError

Floats = NDArray[np.float64]
SHIPPED = Path(__file__).parent / "baseline_variation"
"""Learned on simulated utilities by `python -m benchmarks.baseline`."""
RARE = 0.01
"""Bins of a smaller share of customers are counts of a few: their spread is that of two samples of strangers."""
FLOOR = 0.002
"""Share of customers: a change of a bin by so little counts for one standard deviation, however many there are."""
DECIMALS = 2
"""Decimals of the pairs' effects as kept."""
MOMENTS, PAIRS, COMMON = "moments.parquet", "pairs.parquet", "common.parquet"
PART = ["feature", "bin"]
KEY = ["month", "lag"]


def months_between(earlier: date, later: date) -> int:
    """Whole months, rounded; the ends of two months are whole months apart."""
    days = (later.day - earlier.day) / 30.4375
    whole = 12 * (later.year - earlier.year) + later.month - earlier.month
    return whole + (round(days) if abs(days) > 0.5 else 0)


def month_of(day: date) -> int:
    """Calendar month (1 to 12) whose end is nearest."""
    return (months_between(date(day.year - 1, 12, 31), day) - 1) % 12 + 1


_NO_PARTS = pd.MultiIndex.from_arrays([[], []], names=PART)


@dataclass(frozen=True)
class Baseline:
    """What pairs without drift have taught."""

    moments: pd.DataFrame
    """expected and spread by (month, lag, feature, bin)."""
    pairs: pd.DataFrame
    """The largest standardised effect: a row per pair, a column per feature, indexed by (month, lag)."""
    customers: float
    """In each table of a pair."""
    groups: float
    """Independent pairs behind each expected change."""
    floor: float
    """Share of customers, see FLOOR."""
    source: str
    """Whose tables they were, in words."""
    common: pd.Series[float] = field(default_factory=lambda: pd.Series(dtype="float64", index=_NO_PARTS))
    """Root mean square change of share by (feature, bin) that a shock common to all customers brings, over made-up
    worlds: a bound for utilities that have shown no months of their own."""

    @property
    def identity(self) -> list[str]:
        """What an alarm that goes by it depends on."""
        kept = (self.moments, self.pairs, self.common)
        tables = (hash_pandas_object(table).to_numpy().tobytes() for table in kept)
        about = [f"{self.customers}", f"{self.groups}", f"{self.floor}", self.source]
        return [*about, *(hashlib.sha256(rows).hexdigest() for rows in tables)]

    @cached_property
    def starts(self) -> list[tuple[int, int]]:
        """Calendar month of the earlier table and months between the two, of all pairs on record."""
        return sorted(set(self.pairs.index))

    def nearest(self, month: int, lag: int) -> tuple[int, int]:
        """What is on record for tables `lag` months after one of calendar month `month`, or stands in for it.

        The month that is nearest in the round of the year, and of its lags the nearest.
        """
        return min(
            self.starts, key=lambda at: (min((at[0] - month) % 12, (month - at[0]) % 12), abs(at[1] - lag))
        )

    def moments_of(self, month: int, lag: int) -> pd.DataFrame:
        """Expected and spread by (feature, bin), of tables `lag` months apart from calendar month `month` on."""
        return (
            self.moments.loc[self.nearest(month, lag), :] if self.starts else self.moments.droplevel([0, 1])
        )

    def bound(self, parts: pd.Index[Any]) -> Floats:
        """`common` of each part; of one without a record the largest that is on record."""
        largest = float(self.common.max()) if len(self.common) else 0.0
        return np.asarray(self.common.reindex(parts).fillna(largest), dtype="float64")

    def write(self, folder: Path) -> None:
        """Two Parquet files, which `read` takes."""
        folder.mkdir(parents=True, exist_ok=True)
        about = {name: str(getattr(self, name)) for name in ("customers", "groups", "floor", "source")}
        common = self.common.rename_axis(PART).to_frame("common")
        for name, table in ((MOMENTS, self.moments), (PAIRS, self.pairs), (COMMON, common)):
            arrow = pa.Table.from_pandas(table.astype("float32").reset_index(), preserve_index=False)
            pq.write_table(arrow.replace_schema_metadata(about), folder / name, compression="zstd")


def read(folder: Path) -> Baseline:
    """What `write` left in `folder`; UsageError where there is nothing, or the record of an earlier version."""
    try:
        moments, pairs, common = (pq.read_table(folder / name) for name in (MOMENTS, PAIRS, COMMON))
        about = {k.decode(): v.decode() for k, v in moments.schema.metadata.items()}
        return Baseline(
            moments.to_pandas(ignore_metadata=True).set_index([*KEY, *PART]).astype("float64"),
            pairs.to_pandas(ignore_metadata=True).set_index(KEY).astype("float64"),
            float(about["customers"]),
            float(about["groups"]),
            float(about["floor"]),
            about["source"],
            common.to_pandas(ignore_metadata=True).set_index(PART)["common"].astype("float64"),
        )
    except (FileNotFoundError, KeyError):
        raise UsageError(
            f"drift.baseline names {folder}, which has no {MOMENTS}, {PAIRS} and {COMMON} of this version: write them "
            "with spanishgas.monitoring.baseline.learn, or remove the key to take the shipped ones"
        ) from None


def learn(
    changes: Mapping[tuple[int, int], Sequence[pd.DataFrame]],
    customers: float,
    *,
    source: str,
    floor: float = FLOOR,
) -> Baseline:
    """From `shares` of pairs of tables, by the calendar month of the earlier table and the months between the two.

    No customer stands in two pairs of one list. Raises DataError where a list has fewer than three pairs, which have
    no spread that leaves one out.
    """
    moments, pairs = {}, {}
    for (month, lag), tables in changes.items():
        if len(tables) < 3:
            raise DataError(
                f"baseline variation needs at least 3 pairs of tables {lag} months apart from month {month} on, but "
                f"got {len(tables)}"
            )
        moved, middle = _of_pairs(tables)
        moments[month, lag] = pd.DataFrame({"expected": moved.mean(), "spread": moved.std(ddof=1)})
        pairs[month, lag] = _left_out(moved, middle, customers, floor)
    return Baseline(
        pd.concat(moments, names=KEY).sort_index(),
        pd.concat(pairs, names=KEY).droplevel(2),
        customers,
        float(np.mean([len(tables) for tables in changes.values()])),
        floor,
        source,
    )


def _of_pairs(tables: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Change of share, and its middle: a row per pair, a column per (feature, bin), 0 where a pair has no such bin."""
    before, after = (
        pd.concat([t[when] for t in tables], axis=1).fillna(0.0).T.reset_index(drop=True)
        for when in ("before", "after")
    )
    return after - before, (after + before) / 2


def _left_out(moved: pd.DataFrame, middle: pd.DataFrame, customers: float, floor: float) -> pd.DataFrame:
    """Each pair's largest standardised effect per feature, by mean and variance of all others."""
    x, n = moved.to_numpy(), len(moved)
    mean, square = (x.sum(0) - x) / (n - 1), ((x**2).sum(0) - x**2) / (n - 1)
    spread = np.sqrt(np.maximum(square - mean**2, 0.0) * (n - 1) / (n - 2))
    usual = deviation(spread, middle.to_numpy(), 1 + 1 / (n - 1), customers, floor)
    by_bin = pd.DataFrame(np.abs(x - mean) / usual, columns=moved.columns)
    return by_bin.T.groupby(level="feature", sort=False).max().T.round(DECIMALS)


def deviation(spread: Floats, middle: Floats, scale: float, customers: float, floor: float) -> Floats:
    """Standard deviation of a change of share between two tables of `customers`.

    The spread times the root of `scale`, one customer, and the floor together; `middle` is the share itself.
    """
    strangers = 2 * middle * (1 - middle) / customers
    deviations: Floats = np.sqrt(
        np.where(middle < RARE, strangers, spread**2 * scale) + 1 / customers**2 + floor**2
    )
    return deviations
