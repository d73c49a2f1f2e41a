"""Dated labels of one extract beside those of the others: windows that overlap, and dates that contradict each other.

    gold as of A: left in (there, gone] or seen until `there` --+
                                                                +-> who had left by one while the other still saw it
    gold as of B, later, before the window of A ends -----------+

Gold keeps months, so dates contradict each other only where no day fits both.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pandas as pd

from spanishgas.lake import Lake, Snapshot

TIMES = ["customer_id", "churn_month", "observed_months", "horizon_months"]


def overlaps(lake: Lake, as_of: date) -> list[str]:
    """A sentence per other gold of the lake whose label window overlaps that of `as_of`; none without dates."""
    days = [day for day in lake.dates("gold_master") if day != as_of]
    ours, *others = (lake.current("gold_master", day) for day in (as_of, *days))
    pairs = [sorted((ours, other), key=lambda gold: gold.manifest.as_of) for other in others]
    dated = [pair for pair in pairs if all({*TIMES} <= {*gold.manifest.columns} for gold in pair)]
    return [words for earlier, later in dated for words in _overlap(earlier, later)]


def _overlap(earlier: Snapshot, later: Snapshot) -> Iterator[str]:
    days = [gold.manifest.as_of for gold in (earlier, later)]
    (first, end), (second, _) = (_seen(gold) for gold in (earlier, later))
    both = first.join(second, how="inner", lsuffix="_first", rsuffix="_second")
    if both.empty or end <= pd.Timestamp(days[1]):
        return
    unlike = both.index[(both.gone_first <= both.there_second) | (both.gone_second <= both.there_first)]
    words = f"labels as of {days[0]} and {days[1]} overlap until {end:%F} on {len(both):,} customers"
    if len(unlike):
        words += (
            f", of whom {len(unlike):,}, such as '{min(unlike)}', had left by one while the other still saw them: "
            "mend the file that is wrong"
        )
    yield f"{words}. Who leaves then counts in both: they are no two outcomes"


def _seen(gold: Snapshot) -> tuple[pd.DataFrame, pd.Timestamp]:
    """The last day on which each customer was `there` for sure, that by which it was `gone`, and the window's end."""
    rows = gold.pandas(TIMES).set_index("customer_id").astype("float64")
    begin, month = pd.Timestamp(gold.manifest.as_of), rows["churn_month"]
    end = begin + pd.DateOffset(months=int(rows["horizon_months"].max()))
    there = (month - 1).fillna(rows["observed_months"]).dropna()
    ends = {m: begin + pd.DateOffset(months=int(m)) for m in {*month.dropna(), *there}}
    ends[0.0] = begin - pd.Timedelta(days=1)  # month 1 begins on as-of itself
    return pd.DataFrame({"there": there.map(ends), "gone": month.map(ends)}).loc[there.index], end
