"""Columns divided alike in two tables, and the share of customers in each part before and after.

- numbers: by the customer's rank in the reference, from 0 to 1; equal values share their middle rank. A rank counts
  for the two nearest of eleven marks at 0, 0.1 ... 1, in proportion to nearness: a value that many share, such as a
  price of a whole province, cannot jump from one part to the next when a few customers come or go
- flags, categories and crossed strings: each value of either table
- either: the missing values

Shares are of all customers, so a column's add up to 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.errors import DataError

MISSING = "missing"
MARKS = 10
ROUNDING = 1e-9
"""Two engines may differ in the last digits: numbers this close are equal."""
Counts = dict[str, tuple[float, float, str]]
Floats = NDArray[np.float64]


def shares(reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Columns before, after and words by (feature, bin), for the columns of `kinds`.

    Raises DataError where there is nothing to divide.
    """
    if reference.empty or current.empty or not kinds:
        raise DataError(
            f"drift needs customers and inputs, but got {len(reference)} customers before, {len(current)} now and "
            f"{len(kinds)} inputs: score a table that has customers"
        )
    found = {
        (name, part): counted
        for name, kind in kinds.items()
        for part, counted in _parts(kind, reference[name], current[name]).items()
    }
    index = pd.MultiIndex.from_tuples(found, names=["feature", "bin"])
    return pd.DataFrame(list(found.values()), index=index, columns=["before", "after", "words"])


def new_values(reference: pd.Series[Any], current: pd.Series[Any]) -> pd.Series[float]:
    """Share of customers by category that the reference has not, most first."""
    known = _texts(reference)
    return pd.Series({v: share for v, share in _texts(current).items() if v not in known}, dtype="float64")


def _parts(kind: str, reference: pd.Series[Any], current: pd.Series[Any]) -> Counts:
    missing = (float(reference.isna().mean()), float(current.isna().mean()), "no value")
    known = _numbers(reference, current) if kind == "numeric" else _values(reference, current, kind == "flag")
    return known | {MISSING: missing}


def _numbers(reference: pd.Series[Any], current: pd.Series[Any]) -> Counts:
    before, after = (s.to_numpy(dtype="float64", na_value=np.nan) for s in (reference, current))
    known = np.sort(before[~np.isnan(before)])
    if not len(known):
        return {"any": (0.0, float((~np.isnan(after)).mean()), "a value at all")}
    was, now = (_near(marks, len(x)) for x in (before, after) for marks in [_rank(x[~np.isnan(x)], known)])
    at = np.quantile(known, np.linspace(0, 1, MARKS + 1), method="inverted_cdf")
    ends = {0: " or below", MARKS: " or above"}
    return {
        f"mark {k}": (was[k], now[k], f"a value near{ends.get(k, '')} {at[k]:.4g}") for k in range(MARKS + 1)
    }


def _rank(values: Floats, known: Floats) -> Floats:
    wide = ROUNDING * np.abs(values)
    below, upto = np.searchsorted(known, values - wide), np.searchsorted(known, values + wide, side="right")
    middle: Floats = (below + upto) / (2 * len(known))
    return middle


def _near(rank: Floats, customers: int) -> list[float]:
    place = rank * MARKS
    left = np.minimum(place.astype(int), MARKS - 1)
    right = place - left
    total = np.bincount(left, 1 - right, MARKS + 1) + np.bincount(left + 1, right, MARKS + 1)
    counted: list[float] = (total / customers).tolist()
    return counted


def _values(reference: pd.Series[Any], current: pd.Series[Any], flag: bool) -> Counts:
    before, after = (_flags(s) if flag else _texts(s) for s in (reference, current))
    return {f"= {v}": (before.get(v, 0.0), after.get(v, 0.0), f"the value {v}") for v in before | after}


def _flags(column: pd.Series[Any]) -> dict[str, float]:
    values = column.to_numpy(dtype="float64", na_value=np.nan)
    found, counts = np.unique(values[~np.isnan(values)].astype(int), return_counts=True)
    return {str(v): float(n) / len(values) for v, n in zip(found, counts, strict=True)}


def _texts(column: pd.Series[Any]) -> dict[str, float]:
    counts = Counter(map(str, column.dropna().to_numpy(dtype=object))).most_common()
    return {v: n / len(column) for v, n in counts}
