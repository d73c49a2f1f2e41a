"""Dated labels of one extract beside those of the others: windows that overlap, and dates that contradict each other.

Gold keeps months, so dates contradict each other only where no day fits both.
"""

from __future__ import annotations

from datetime import date

import pandas as pd

from spanishgas.lake import Lake, Snapshot

TIMES = ["customer_id", "churn_month", "observed_months", "horizon_months"]


def overlaps(lake: Lake, as_of: date) -> list[str]:
    """A sentence per other gold of the lake whose label window overlaps that of `as_of`; none without dates."""
    golds = [lake.current("gold_master", day) for day in lake.dates("gold_master")]
    dated = {gold.manifest.as_of: gold for gold in golds if {*TIMES} <= {*gold.manifest.columns}}
    pairs = [sorted((as_of, day)) for day in dated if day != as_of and as_of in dated]
    return [words for first, second in pairs if (words := _overlap(dated[first], dated[second]))]


def _overlap(earlier: Snapshot, later: Snapshot) -> str:
    (first, end), (second, _) = _seen(earlier), _seen(later)
    both = first.join(second, how="inner", lsuffix="_first", rsuffix="_second")
    if both.empty or end <= pd.Timestamp(later.manifest.as_of):
        return ""
    unlike = both.index[(both.gone_first <= both.there_second) | (both.gone_second <= both.there_first)]
    days = f"labels as of {earlier.manifest.as_of} and {later.manifest.as_of}"
    words = f"{days} overlap until {end:%F}: who leaves then counts in both, of {len(both):,} customers"
    if len(unlike):
        words += f". {len(unlike):,}, such as '{min(unlike)}', had left by one while the other still saw them: mend one"
    return words


def _seen(gold: Snapshot) -> tuple[pd.DataFrame, pd.Timestamp]:
    """The last day on which each customer was `there` for sure, that by which it was `gone`, and the window's end."""
    rows = gold.pandas(TIMES).dropna(subset="horizon_months").set_index("customer_id").astype("float64")
    begin, month = pd.Timestamp(gold.manifest.as_of), rows["churn_month"]
    end = begin + pd.DateOffset(months=int(rows["horizon_months"].to_numpy().max(initial=0)))
    there = (month - 1).fillna(rows["observed_months"]).dropna()
    ends = {m: begin + pd.DateOffset(months=int(m)) for m in {*month.dropna(), *there}}
    ends[0.0] = begin - pd.Timedelta(days=1)  # month 1 begins on as-of itself
    return pd.DataFrame({"there": there.map(ends), "gone": month.map(ends)}).loc[there.index], end
