"""The drift alarm where every month befalls all customers alike: false alarms and power, by own months seen.

One simulated utility at the ends of thirteen months is shaken month by month: consumption, price trends, costs and
margins of all its customers move together, by a plausible draw (scale 1: 4 % of electricity, 8 % of gas, two points of
price trend, 2 % of costs, 5 % of margins) times the scale. The last month is held against the one a quarter before it,
by the shipped record and by what the months before it show. Shifts come in the last month of a world that is not
shaken.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmarks.drift import KINDS, LIMITS
from benchmarks.pools import month_end, pool
from spanishgas.evaluation.inference import Z, wilson
from spanishgas.monitoring import baseline
from spanishgas.monitoring.alarm import judge
from spanishgas.monitoring.own_months import MONTHS, OwnMonths
from spanishgas.monitoring.parts import shares

CUSTOMERS, SMALL, SEED, REPEATS = 6_000, 1_000, 21, 200
REFERENCE = 9
"""The champion's month, of twelve before the one that is judged."""
SCALES, SEEN = (0.0, 0.5, 1.0), (1, 3, MONTHS)
SHIFTS = ("prices:0.1", "prices", "channels:0.1", "channels:0.25", "province:0.25", "province")
SHAKEN = {
    ("total_elec_kwh_2024", "avg_monthly_elec_kwh", "std_monthly_elec_kwh"): (0.04, np.multiply),
    ("total_gas_m3_2024", "avg_monthly_gas_m3", "std_monthly_gas_m3"): (0.08, np.multiply),
    ("elec_price_trend_12m",): (0.02, np.add),
    ("gas_price_trend_12m",): (0.02, np.add),
    ("province_avg_elec_cost_2024",): (0.02, np.multiply),
    ("province_avg_gas_cost_2024",): (0.02, np.multiply),
    ("min_monthly_margin", "rolling_margin_trend", "std_margin"): (0.05, np.multiply),
}
"""Inputs that move together: standard deviation of their draw, and whether it is a share or is added."""
MOVED = [name for names in SHAKEN for name in names if name in KINDS]


def utility(number: int, last: str = "none") -> list[pd.DataFrame]:
    """Thirteen months of one group of SMALL customers and its successors, or of all (-1); a shift in the last one."""
    months = [pool(CUSTOMERS, SEED, at) for at in range(MONTHS)] + [pool(CUSTOMERS, SEED, MONTHS, last)]
    if number < 0:
        return months
    dealt = [pd.util.hash_array(month["customer_id"].to_numpy(dtype=object)) for month in months]
    return [month[group % (CUSTOMERS // SMALL) == number] for month, group in zip(months, dealt, strict=True)]


def shaken(month: pd.DataFrame, scale: float, rng: np.random.Generator) -> pd.DataFrame:
    """The inputs that a draw moves, after it."""
    moved = {}
    for names, (deviation, how) in SHAKEN.items():
        draw = scale * deviation * rng.standard_normal()
        for name in set(names) & KINDS.keys():
            moved[name] = how(month[name].astype("float64"), np.exp(draw) if how is np.multiply else draw)
    return pd.DataFrame(moved)


def reports(months: list[pd.DataFrame], scale: float, repeats: int, seed: int) -> Iterator[dict[int, bool]]:
    """Whether the last month rings, by own months seen, in each of so many histories of shocks."""
    rng, record = np.random.default_rng([SEED, seed, int(100 * scale)]), baseline.read(baseline.SHIPPED)
    calm = {name: kind for name, kind in KINDS.items() if name not in MOVED}
    still = [shares(months[REFERENCE], month, calm) for month in months]
    for _ in range(repeats):
        tables = [shaken(month, scale, rng) for month in months]
        kinds = {name: KINDS[name] for name in MOVED}
        moved = [shares(tables[REFERENCE], table, kinds) for table in tables]
        whole = [pd.concat(parts) for parts in zip(still, moved, strict=True)]
        own = pd.DataFrame(
            [month["after"] for month in whole[:-1]], index=[month_end(at) for at in range(MONTHS)]
        )
        customers, dates = (
            (len(months[REFERENCE]), len(months[-1])),
            (month_end(REFERENCE), month_end(MONTHS)),
        )
        yield {
            seen: judge(
                whole[-1], customers, dates, record, LIMITS, OwnMonths(own.fillna(0.0).tail(seen))
            ).alarm
            for seen in SEEN
        }


def row(words: str, rung: list[dict[int, bool]]) -> str:
    """A line of the table."""
    cells = []
    for seen in SEEN:
        hits = sum(report[seen] for report in rung)
        low, high = wilson(hits, len(rung), Z)
        cells.append(f"{hits / len(rung):.1%} ({low:.1%} to {high:.1%})")
    return f"| {words} | {len(rung)} | " + " | ".join(cells) + " |"


def run(quick: bool) -> None:
    """Print the table: share of reports that rang, with 95 % intervals, by own months seen."""
    groups, repeats = range(CUSTOMERS // SMALL), 2 if quick else REPEATS
    print("| what | reports | " + " | ".join(f"{seen} own months" for seen in SEEN) + " |")
    print("|---|---|" + "---|" * len(SEEN))
    for scale in SCALES[::2] if quick else SCALES:
        each = 1 if scale == 0 else -(-repeats // len(groups))
        rung = [report for group in groups for report in reports(utility(group), scale, each, group)]
        print(row(f"shocks x {scale:g}, {SMALL:,} customers", rung), flush=True)
        once = 1 if scale == 0 else repeats
        print(
            row(f"shocks x {scale:g}, {CUSTOMERS:,} customers", [*reports(utility(-1), scale, once, 99)]),
            flush=True,
        )
    for shift in SHIFTS[:1] if quick else SHIFTS:
        rung = [report for group in groups for report in reports(utility(group, shift), 0.0, 1, group)]
        print(row(f"{shift}, {SMALL:,} customers", rung), flush=True)
