"""The alarm: did an input move further than time alone moves it?

    effect of a feature = max over its bins of |change of share - expected change| / standard deviation
    statistic           = max over the champion's features
    alarm               = statistic > threshold

The threshold is a conformal quantile (Vovk et al. 2005): of m pairs of tables without drift, the statistic of the one
with rank ceil((m + 1) (1 - rate)). Each pair's statistic is taken over the same features and by what other pairs say,
so a table without drift exceeds it with probability at most `rate`: for all features together, whatever their
dependence.

Columns are divided alike in both tables:
- numbers: by the customer's rank in the reference, from 0 to 1; equal values share their middle rank. A rank counts
  for the two nearest of eleven marks at 0, 0.1 ... 1, in proportion to nearness: a value that many share, such as a
  price of a whole province, cannot jump from one part to the next when a few customers come or go
- flags, categories and crossed strings: each value of either table
- either: the missing values

Shares are of all customers, so a column's add up to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.policy import AlarmLimits
from spanishgas.errors import DataError, UsageError
from spanishgas.monitoring.baseline import Baseline, deviation

NAMED = 5


@dataclass(frozen=True)
class AlarmJudgement:
    """The alarm's verdict, and the figures behind it."""

    alarm: bool
    statistic: float
    threshold: float
    reasons: Sequence[str]
    """Sentences, the weightiest first."""
    effects: pd.DataFrame
    """A row per feature, largest effect first: effect, bin, words, before, after, expected, moved.

    `moved` is the share of customers in another bin than expected: half the sum of |change - expected|.
    """


def months_between(earlier: date, later: date) -> int:
    """Whole months, rounded; the ends of two months are whole months apart."""
    days = (later.day - earlier.day) / 30.4375
    whole = 12 * (later.year - earlier.year) + later.month - earlier.month
    return whole + (round(days) if abs(days) > 0.5 else 0)


def month_of(day: date) -> int:
    """Calendar month (1 to 12) whose end is nearest."""
    return (months_between(date(day.year - 1, 12, 31), day) - 1) % 12 + 1


def judge(
    shares: pd.DataFrame,
    customers: tuple[int, int],
    dates: tuple[date, date],
    baseline: Baseline,
    limits: AlarmLimits,
) -> AlarmJudgement:
    """Hold `shares` of a reference and a later table, of so many customers at such dates, to baseline variation."""
    month, lag = month_of(dates[0]), months_between(*dates)
    taken = baseline.nearest(month, lag)
    of_features = list(shares.index.unique("feature"))
    recorded = [f for f in of_features if f in baseline.pairs.columns]
    if not recorded:
        raise DataError(
            f"no baseline variation is on record for any input ({', '.join(of_features[:NAMED])} ...): learn it from "
            "your own tables, and name its folder as drift.baseline in policy.yaml"
        )
    limit = threshold(baseline, recorded, limits.false_alarm_rate)
    moved = effects(shares.loc[recorded], customers, baseline.moments.loc[taken, :], baseline, still=lag == 0)
    statistic = float(moved["effect"].iloc[0])
    unrecorded = [f for f in of_features if f not in recorded]
    reasons = _moved(moved, limit) + _doubts((month, lag), taken, unrecorded)
    return AlarmJudgement(statistic > limit, statistic, limit, reasons, moved)


def threshold(baseline: Baseline, features: Sequence[str], rate: float) -> float:
    """What the statistic over `features` exceeds without drift in at most `rate` of all cases."""
    statistics = np.sort(baseline.pairs[list(features)].max(axis=1).to_numpy())
    rank = math.ceil((len(statistics) + 1) * (1 - rate))
    if rank > len(statistics):
        raise UsageError(
            f"drift.false_alarm_rate is {rate}, which needs {math.ceil(1 / rate) - 1} pairs of tables without drift, "
            f"but there are {len(statistics)}: raise it, or learn baseline variation from more pairs"
        )
    return float(statistics[rank - 1])


def effects(
    shares: pd.DataFrame,
    customers: tuple[int, int],
    moments: pd.DataFrame,
    baseline: Baseline,
    *,
    still: bool,
) -> pd.DataFrame:
    """The table `AlarmJudgement.effects`; `still` where no time has passed, so that no change is expected.

    A bin without a record, such as a category of another utility, is given the spread of two samples of strangers.
    """
    size = 2 / sum(1 / n for n in customers)
    both = shares.join(moments, how="left")
    middle = both[["before", "after"]].mean(axis=1)
    strangers = np.sqrt(2 * middle * (1 - middle) / baseline.customers)
    spread = both["spread"].fillna(strangers)
    both["expected"] = both["expected"].fillna(0.0) * (not still)
    scale = baseline.customers / size + 1 / baseline.groups
    both["beyond"] = (both["after"] - both["before"] - both["expected"]).abs()
    both["effect"] = both["beyond"] / deviation(
        spread.to_numpy(), middle.to_numpy(), scale, size, baseline.floor
    )
    most = both.loc[both.groupby(level="feature", sort=False)["effect"].idxmax()].reset_index("bin")
    most["moved"] = both["beyond"].groupby(level="feature").sum() / 2
    columns = ["effect", "bin", "words", "before", "after", "expected", "moved"]
    return most[columns].sort_values("effect", ascending=False, kind="stable")


def sentence(feature: str, row: pd.Series) -> str:
    """One feature's largest move in words."""
    usual = min(max(row["before"] + row["expected"], 0.0), 1.0)
    return (
        f"{feature}: {row['after']:.1%} of customers have {row['words']}, where {usual:.1%} were expected and "
        f"{row['before']:.1%} were in the training table ({row['effect']:.1f} times its baseline variation)"
    )


def _moved(table: pd.DataFrame, limit: float) -> list[str]:
    over = int((table["effect"] > limit).sum())
    farthest = [sentence(str(name), row) for name, row in table.head(min(max(over, 1), NAMED)).iterrows()]
    if not over:
        return [
            f"None of {len(table)} inputs moved further than {limit:.1f} times its baseline variation; the farthest is "
            + farthest[0]
        ]
    more = f"; the {NAMED} farthest" if over > NAMED else ""
    counted = (
        f"{over} of {len(table)} inputs moved further than {limit:.1f} times their baseline variation{more}:"
    )
    return [counted, *farthest]


def _doubts(asked: tuple[int, int], taken: tuple[int, int], unknown: Sequence[str]) -> list[str]:
    (month, lag), lines = asked, []
    if lag not in (0, taken[1]):
        lines.append(
            f"No baseline variation is on record for {lag} months after training: that of {taken[1]} months stands in, "
            "so time alone may ring the alarm."
        )
    if month != taken[0]:
        lines.append(
            f"The training table is of month {month}, for which no baseline variation is on record: that from month "
            f"{taken[0]} on stands in, so what the season does may count as drift."
        )
    if unknown:
        lines.append(f"Without a record, and so not judged: {', '.join(unknown)}.")
    return lines


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
