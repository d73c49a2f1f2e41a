"""The alarm: did an input move further than time alone moves it?

    effect of a feature = max over its bins of |change of share - expected change| / standard deviation
    statistic           = max over the champion's features
    alarm               = statistic > threshold

The threshold is a conformal quantile (Vovk et al. 2005): of m pairs of tables without drift, the statistic of the one
with rank ceil((m + 1) (1 - rate)). Each pair's statistic is taken over the same features and by what other pairs say,
so a table without drift exceeds it with probability at most `rate`: for all features together, whatever their
dependence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from spanishgas.config.policy import AlarmLimits
from spanishgas.errors import DataError, UsageError
from spanishgas.monitoring.ordinary import Ordinary, deviation

NAMED = 5


@dataclass(frozen=True)
class Judged:
    """What the alarm says and by what."""

    alarm: bool
    statistic: float
    threshold: float
    reasons: Sequence[str]
    """Sentences, the weightiest first."""
    effects: pd.DataFrame
    """By feature, largest effect first: effect, bin, words, before, after, expected, moved.

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
    ordinary: Ordinary,
    limits: AlarmLimits,
) -> Judged:
    """Hold `shares` of a reference and a later table, of so many customers at such dates, against ordinary change."""
    month, lag = month_of(dates[0]), months_between(*dates)
    taken = ordinary.nearest(month, lag)
    of_features = list(shares.index.unique("feature"))
    known = [f for f in of_features if f in ordinary.pairs.columns]
    if not known:
        raise DataError(
            f"no ordinary change is on record for any input ({', '.join(of_features[:NAMED])} ...): learn it from your "
            "own tables, and name its folder as drift.ordinary in policy.yaml"
        )
    limit = threshold(ordinary, known, limits.false_alarm_rate)
    found = effects(shares.loc[known], customers, ordinary.moments.loc[taken, :], ordinary, still=lag == 0)
    statistic = float(found["effect"].iloc[0])
    reasons = _moved(found, limit) if statistic > limit else [_still(found, limit)]
    reasons += _doubts((month, lag), taken, [f for f in of_features if f not in known])
    return Judged(statistic > limit, statistic, limit, reasons, found)


def threshold(ordinary: Ordinary, features: Sequence[str], rate: float) -> float:
    """What the statistic over `features` exceeds without drift in at most `rate` of all cases."""
    statistics = np.sort(ordinary.pairs[list(features)].max(axis=1).to_numpy())
    rank = math.ceil((len(statistics) + 1) * (1 - rate))
    if rank > len(statistics):
        raise UsageError(
            f"drift.false_alarm_rate is {rate}, which needs {math.ceil(1 / rate) - 1} pairs of tables without drift, "
            f"but there are {len(statistics)}: raise it, or learn ordinary change from more pairs"
        )
    return float(statistics[rank - 1])


def effects(
    shares: pd.DataFrame,
    customers: tuple[int, int],
    moments: pd.DataFrame,
    ordinary: Ordinary,
    *,
    still: bool,
) -> pd.DataFrame:
    """The table `Judged.effects`; `still` where no time has passed, so that no change is expected.

    A bin without a record, such as a category of another utility, is given the spread of two samples of strangers.
    """
    size = 2 / sum(1 / n for n in customers)
    both = shares.join(moments, how="left")
    middle = both[["before", "after"]].mean(axis=1)
    strangers = np.sqrt(2 * middle * (1 - middle) / ordinary.customers)
    spread = both["spread"].fillna(strangers)
    both["expected"] = both["expected"].fillna(0.0) * (not still)
    scale = ordinary.customers / size + 1 / ordinary.groups
    both["beyond"] = (both["after"] - both["before"] - both["expected"]).abs()
    both["effect"] = both["beyond"] / deviation(
        spread.to_numpy(), middle.to_numpy(), scale, size, ordinary.floor
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
        f"{row['before']:.1%} were in the training table ({row['effect']:.1f} times its ordinary variation)"
    )


def _moved(found: pd.DataFrame, limit: float) -> list[str]:
    over = found[found["effect"] > limit]
    more = f"; the {NAMED} farthest" if len(over) > NAMED else ""
    lines = [
        f"{len(over)} of {len(found)} inputs moved further than {limit:.1f} times their ordinary variation{more}:"
    ]
    return lines + [sentence(str(name), row) for name, row in over.head(NAMED).iterrows()]


def _still(found: pd.DataFrame, limit: float) -> str:
    return (
        f"None of {len(found)} inputs moved further than {limit:.1f} times its ordinary variation; the farthest is "
        + sentence(str(found.index[0]), found.iloc[0])
    )


def _doubts(asked: tuple[int, int], taken: tuple[int, int], unknown: Sequence[str]) -> list[str]:
    (month, lag), lines = asked, []
    if lag not in (0, taken[1]):
        lines.append(
            f"No ordinary change is on record for {lag} months after training: that of {taken[1]} months stands in, so "
            "time alone may ring the alarm."
        )
    if month != taken[0]:
        lines.append(
            f"The training table is of month {month}, for which no ordinary change is on record: that from month "
            f"{taken[0]} on stands in, so what the season does may count as drift."
        )
    if unknown:
        lines.append(f"Without a record, and so not judged: {', '.join(unknown)}.")
    return lines
