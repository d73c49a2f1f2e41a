"""The alarm: did an input move further than time alone moves it, in this utility?

    deviation of a part   = root of chance among customers + what befalls all alike (own_months.py) + floor
    effect of a feature   = max over its parts of |change of share - expected change| / deviation, on the normal scale
    statistic             = max over the champion's features
    alarm                 = statistic > threshold

The threshold is the larger of two. One is a conformal quantile (Vovk et al. 2005): of m pairs of tables of the record
without drift, the statistic of the one with rank ceil((m + 1) (1 - rate)). The other is Bonferroni's over all parts,
for what no pair of the record shows. A deviation that own months estimate is uncertain: a ratio to it is Student's, of
Welch's and Satterthwaite's degrees of freedom (1946), and is stated as the normal deviate of the same probability.

Until a utility has shown `MONTHS` of its own, the rate is not promised, and the first reason says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, t

from spanishgas.config.policy import AlarmLimits
from spanishgas.errors import UsageError
from spanishgas.monitoring.baseline import Baseline, deviation, month_of, months_between
from spanishgas.monitoring.own_months import MONTHS, OwnMonths

NAMED = 5
YEAR = 12
"""Monthly reports of a year."""
NONE_SEEN = OwnMonths(pd.DataFrame())
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AlarmJudgement:
    """The alarm's verdict, and the figures behind it."""

    alarm: bool
    statistic: float
    threshold: float
    calibrated: bool
    """Whether the utility has shown enough months for the false-alarm rate to be promised."""
    reasons: Sequence[str]
    """Sentences, the weightiest first."""
    effects: pd.DataFrame
    """A row per feature, largest effect first: effect, bin, words, before, after, expected, moved.

    `moved` is the share of customers in another bin than expected: half the sum of |change - expected|.
    """


def judge(
    shares: pd.DataFrame,
    customers: tuple[int, int],
    dates: tuple[date, date],
    baseline: Baseline,
    limits: AlarmLimits,
    own: OwnMonths = NONE_SEEN,
) -> AlarmJudgement:
    """Hold `shares` of a reference and a later table, of so many customers at such dates, to baseline variation.

    `own` holds the utility's earlier months, in the parts of the same reference.
    """
    month, lag = month_of(dates[0]), months_between(*dates)
    of_features = list(shares.index.unique("feature"))
    recorded = [f for f in of_features if f in baseline.pairs.columns]
    limit = threshold(baseline, recorded, limits.false_alarm_rate, len(shares))
    of_a_year = _quantile(_statistics(baseline, recorded), limits.false_alarm_rate / YEAR, len(shares))
    moved = effects(shares, customers, dates, baseline, own)
    statistic = float(moved["effect"].iloc[0])
    unrecorded = [f for f in of_features if f not in recorded]
    reasons = [
        *_promise(own, limits.false_alarm_rate),
        *_moved(moved, limit, of_a_year),
        *_doubts((month, lag), baseline.nearest(month, lag) if recorded else None, unrecorded),
    ]
    return AlarmJudgement(statistic > limit, statistic, limit, own.calibrated, reasons, moved)


def threshold(baseline: Baseline, features: Sequence[str], rate: float, parts: int) -> float:
    """What the statistic over `parts` of features exceeds in at most `rate` of cases; `features` are those on record.

    Raises UsageError where the record has fewer pairs than `rate` takes.
    """
    statistics = _statistics(baseline, features)
    if (least := math.ceil(1 / rate) - 1) > len(statistics) > 0:
        raise UsageError(
            f"drift.false_alarm_rate is {rate}, which needs {least} pairs of tables without drift, but there are "
            f"{len(statistics)}: raise it, or learn baseline variation from more pairs"
        )
    return _quantile(statistics, rate, parts)


def _statistics(baseline: Baseline, features: Sequence[str]) -> Floats:
    """The largest effect of each pair on record, ascending; none where no feature is on record."""
    return np.sort(baseline.pairs[list(features)].max(axis=1).to_numpy()) if features else np.empty(0)


def _quantile(statistics: Floats, rate: float, parts: int) -> float:
    rank = min(math.ceil((len(statistics) + 1) * (1 - rate)), len(statistics))
    of_record = [float(x) for x in statistics[rank - 1 : rank]]
    return max([float(norm.isf(rate / (2 * parts))), *of_record])


def effects(
    shares: pd.DataFrame,
    customers: tuple[int, int],
    dates: tuple[date, date],
    baseline: Baseline,
    own: OwnMonths,
) -> pd.DataFrame:
    """The table `AlarmJudgement.effects`. Where no time has passed, no change is expected.

    A part without a record, such as a category of another utility, is given the spread of two samples of strangers, the
    less of it the more own months show how it moves.
    """
    size, lag = 2 / sum(1 / n for n in customers), months_between(*dates)
    both = shares.join(baseline.moments_of(month_of(dates[0]), lag), how="left")
    common = own.variation(baseline, both.index, size, lag)
    middle = both[["before", "after"]].mean(axis=1)
    strangers = np.sqrt(2 * middle * (1 - middle) / baseline.customers)
    both["expected"] = (both["expected"].fillna(0.0) + common["trend"]) * (lag != 0)
    chance = deviation(
        both["spread"].fillna(strangers * own.ignorance**0.5).to_numpy(),
        middle.to_numpy(),
        baseline.customers / size + 1 / baseline.groups,
        size,
        baseline.floor,
    )
    variance = chance**2 + (common["variance"].to_numpy() if lag else 0.0)
    both["beyond"] = (both["after"] - both["before"] - both["expected"]).abs()
    ratio = both["beyond"].to_numpy() / np.sqrt(variance)
    both["effect"] = _normal(ratio, variance, common["own"].to_numpy(), own.freedom)
    most = both.loc[both.groupby(level="feature", sort=False)["effect"].idxmax()].reset_index("bin")
    most["moved"] = both["beyond"].groupby(level="feature").sum() / 2
    columns = ["effect", "bin", "words", "before", "after", "expected", "moved"]
    return most[columns].sort_values("effect", ascending=False, kind="stable")


def _normal(ratio: Floats, variance: Floats, estimated: Floats, freedom: int) -> Floats:
    """The normal deviate as improbable as a ratio to a root of `variance`, of which `estimated` has so few degrees."""
    few = (estimated > 0) & (freedom > 0)
    of_student = np.where(few, freedom * (variance / np.where(few, estimated, 1.0)) ** 2, np.inf)
    tail = t.sf(ratio, of_student)
    with np.errstate(divide="ignore"):
        deviate: Floats = np.where(few & (tail > 0), norm.isf(tail), ratio)
    return deviate


def sentence(feature: str, row: pd.Series) -> str:
    """One feature's largest move in words."""
    usual = min(max(row["before"] + row["expected"], 0.0), 1.0)
    return (
        f"{feature}: {row['after']:.1%} of customers have {row['words']}, where {usual:.1%} were expected and "
        f"{row['before']:.1%} were in the training table ({row['effect']:.1f} times its baseline variation)"
    )


def _promise(own: OwnMonths, rate: float) -> list[str]:
    if own.calibrated:
        return []
    return [
        f"Not calibrated for this utility yet: {own.seen} of {MONTHS} months seen. The false-alarm rate of {rate:.1%} "
        "is not promised: what befalls all customers alike is bounded by the record, not measured."
    ]


def _moved(table: pd.DataFrame, limit: float, of_a_year: float) -> list[str]:
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
    beyond = "holds" if float(table["effect"].iloc[0]) > of_a_year else "does not hold"
    year = f"Counting {YEAR} monthly reports a year, the alarm {beyond} at the same rate ({of_a_year:.1f} times)."
    return [counted, *farthest, year]


def _doubts(asked: tuple[int, int], taken: tuple[int, int] | None, unrecorded: Sequence[str]) -> list[str]:
    (month, lag), lines = asked, []
    if taken and lag not in (0, taken[1]):
        lines.append(
            f"No baseline variation is on record for {lag} months after training: that of {taken[1]} months stands in, "
            "so time alone may ring the alarm."
        )
    if taken and month != taken[0]:
        lines.append(
            f"The training table is of month {month}, for which no baseline variation is on record: that from month "
            f"{taken[0]} on stands in, so what the season does may count as drift."
        )
    if unrecorded:
        lines.append(f"Without a record, and so judged by own months alone: {', '.join(unrecorded)}.")
    return lines
