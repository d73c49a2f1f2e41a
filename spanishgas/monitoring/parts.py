"""Columns are divided alike in a reference and in a later table of customers.

- numbers: by the customer's rank in the reference, from 0 to 1; equal values share their middle rank. A rank counts
  for the two nearest of eleven marks at 0, 0.1 ... 1, in proportion to nearness: a value that many share, such as a
  price of a whole province, cannot jump from one part to the next when a few customers come or go
- flags, categories and crossed strings: each value of either table
- either: the missing values

Shares are of all customers, so a column's add up to 1.
"""

from __future__ import annotations

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
    by_feature = {}
    for name, kind in kinds.items():
        before, after = reference[name], current[name]
        parts = _numbers(before, after) if kind == "numeric" else _values(before, after, kind == "flag")
        parts[MISSING] = (float(before.isna().mean()), float(after.isna().mean()), "no value")
        by_feature.update({(name, part): counted for part, counted in parts.items()})
    index = pd.MultiIndex.from_tuples(by_feature, names=["feature", "bin"])
    return pd.DataFrame(list(by_feature.values()), index=index, columns=["before", "after", "words"])


def new_values(reference: pd.Series[Any], current: pd.Series[Any]) -> pd.Series[float]:
    """Share of customers by category that the reference has not, most first."""
    now = _levels(current, flag=False)
    return now.drop(_levels(reference, flag=False).index, errors="ignore")


def _numbers(reference: pd.Series[Any], current: pd.Series[Any]) -> Counts:
    before, after = (s.to_numpy(dtype="float64", na_value=np.nan) for s in (reference, current))
    ordered = np.sort(before[~np.isnan(before)])
    if not len(ordered):
        return {"any": (0.0, float((~np.isnan(after)).mean()), "a value at all")}
    was, now = (_near(marks, len(x)) for x in (before, after) for marks in [_rank(x[~np.isnan(x)], ordered)])
    at = np.quantile(ordered, np.linspace(0, 1, MARKS + 1), method="inverted_cdf")
    ends = {0: " or below", MARKS: " or above"}
    return {
        f"mark {k}": (was[k], now[k], f"a value near{ends.get(k, '')} {at[k]:.4g}") for k in range(MARKS + 1)
    }


def _rank(values: Floats, ordered: Floats) -> Floats:
    wide = ROUNDING * np.abs(values)
    below = np.searchsorted(ordered, values - wide)
    upto = np.searchsorted(ordered, values + wide, side="right")
    middle: Floats = (below + upto) / (2 * len(ordered))
    return middle


def _near(rank: Floats, customers: int) -> list[float]:
    place = rank * MARKS
    left = np.minimum(place.astype(int), MARKS - 1)
    right = place - left
    total = np.bincount(left, 1 - right, MARKS + 1) + np.bincount(left + 1, right, MARKS + 1)
    counted: list[float] = (total / customers).tolist()
    return counted


def _values(reference: pd.Series[Any], current: pd.Series[Any], flag: bool) -> Counts:
    before, after = (_levels(column, flag).to_dict() for column in (reference, current))
    return {f"= {v}": (before.get(v, 0.0), after.get(v, 0.0), f"the value {v}") for v in before | after}


def _levels(column: pd.Series[Any], flag: bool) -> pd.Series[float]:
    """Share of all customers by value, most first."""
    values = column.dropna()
    texts = (values.astype("int64") if flag else values).astype(object).map(str)
    return texts.value_counts() / len(column)
