"""Who the customers are: attributes and contracts, as the published marginals have them.

Lengths of contracts and tenure are in days; a month is 30 days.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.simulate.streams import BASE, BLOCK, Stream, rng

Floats = NDArray[np.float64]

PROVINCES = pd.read_csv(Path(__file__).with_name("provinces.csv"))
"""Provinces with their share of customers, mean cost in 2024 (EUR/kWh, EUR/m3), its rise from January to
December, and `pull`: the log-odds of churn that the local market adds."""
NEW_PROVINCE = len(PROVINCES) - 1
"""Row of the province that has customers only under the shift of that name; its costs lie outside the others' range."""

SEGMENTS = ("Residential", "SME", "Corporate")
SEGMENT_COUNTS = np.array([18_090, 1_832, 177])
CHANNELS = ("presencial_comercial", "desconocido", "comparador", "oficina", "telemarketing", "web_propia")
CHANNEL_COUNTS = np.array(
    [[8_235, 4_744, 2_351, 1_654, 1_085, 21], [868, 482, 167, 181, 132, 2], [55, 41, 79, 1, 1, 0]]
)
"""Customers by segment (rows) and sales channel, published table of channel x segment."""
GAS_SHARE = np.array([3_272 / 18_090, 284 / 1_832, 76 / 177])
"""Share of customers with gas, by segment (published portfolio types)."""
GAS_ONLY_SHARE = 30 / 3_632
"""Share of gas customers without any electricity."""
SECOND_RESIDENCE_SHARE = 402 / 18_090
URBAN_SHARE = 0.62
"""Not published; chosen."""
RESIDENTIAL_POWER = np.array([2.3, 3.45, 4.6, 5.75, 6.9, 8.05, 9.2, 10.35])
"""kW, steps of 1.15."""
POWER_SHARES = np.array(
    [
        [0.0824, 0.2671, 0.2489, 0.1262, 0.1451, 0.0594, 0.0460, 0.0249],
        [0.3474, 0.2438, 0.1820, 0.0887, 0.0685, 0.0353, 0.0221, 0.0122],
    ]
)
"""Primary and second residences: means 5.14 and 4.07 kW, standard deviations 1.98 and 1.91, and the published
quartiles."""
CORPORATE_POWER = {
    15: 28, 20: 10, 25: 9, 30: 25, 35: 12, 40: 6, 45: 8, 50: 8, 55: 5, 60: 4, 65: 5, 70: 4, 75: 5, 80: 8, 85: 4, 90: 2,
    95: 4, 100: 3, 105: 2, 110: 2, 115: 1, 120: 3, 130: 5, 140: 1, 145: 1, 150: 12,
}  # fmt: skip
"""Published counts of contracted power (kW) of Corporate customers."""

TENURE_MONTHS = np.array([0, 6, 12, 24, 60, 73.07, 127.6, 182.47])
TENURE_CUMULATIVE = np.array([13, 1_604, 3_200, 6_163, 12_942, 15_221, 17_830, 20_099]) / 20_099
"""Distribution of tenure: published buckets, with the quartiles and moments of stayers beyond 60 months."""
RENEWAL_DAYS = np.array([-29.5, 0.5, 52, 75.6, 90.5, 105, 130, 153, 163, 180.5, 195, 203, 230, 260, 298.5])
RENEWAL_CUMULATIVE = np.array(
    [0, 581, 2_609, 4_020, 4_825, 5_814, 8_105, 10_784, 12_147, 14_037, 15_463, 16_161, 18_051, 19_401, 20_099]
)  # fmt: skip
"""Customers by days from the as-of to renewal: published buckets and quintiles."""
RENEWAL_EDGES = np.array([-29.5, 0.5, 90.5, 180.5, 298.5])
RENEWAL_GIVEN_TENURE = np.array(
    [
        [29, 368, 738, 456],
        [45, 369, 721, 461],
        [90, 668, 1_356, 849],
        [213, 1_455, 3_068, 2_043],
        [202, 1_382, 3_322, 2_251],
    ]
)
"""Customers by tenure bucket (0-6m, 6-12m, 1-2y, 2-5y, 5y+) and renewal bucket (expired, 0-3m, 3-6m, 6-12m)."""
NEVER_CHANGED_SHARE = 6_095 / 20_099
"""Customers without a product change."""
CHANGE_MEDIAN, CHANGE_SPREAD = 9.05, 0.95
"""Months since the last product change: median and log-standard deviation before the cap by tenure. Fitted to
the published medians of 7.43 (stayers) and 4.93 (churners)."""
JOINED_PER_DAY = 0.00061
"""Newcomers per base customer and day after the base date: about as many as leave."""


def days(dates: pd.Series[Any], as_of: date) -> Floats:
    """Days from `as_of` to each of `dates`; NaN for none."""
    elapsed = (dates - pd.Timestamp(as_of)) / pd.Timedelta(days=1)
    return np.asarray(elapsed, dtype="float64")


def newcomers(customers: int, as_of: date) -> int:
    """How many customers joined a utility of `customers` between the base date and `as_of`."""
    return int(customers * JOINED_PER_DAY * max((as_of - BASE).days, 0))


def draw_people(seed: int, cohort: int, block: int, customers: int) -> pd.DataFrame:
    """One block of BLOCK customers as they are on the base date (cohort 0) or on the day they join (cohort 1).

    `customers` is the size of the base cohort; newcomers take the ids after it. Columns beyond the source's:
    `size`, the standard normal score of electricity use, and `gas_size`, that of gas use (NaN without gas).
    """
    g = rng(seed, Stream.PEOPLE, cohort, block)
    n = BLOCK
    row = np.arange(n) + block * BLOCK
    segment = _choose(g, SEGMENT_COUNTS, n)
    channel = np.array(
        [
            np.searchsorted(_cumulative(CHANNEL_COUNTS[s]), u, "right")
            for s, u in zip(segment, g.random(n), strict=True)
        ]
    )
    second = (g.random(n) < SECOND_RESIDENCE_SHARE) & (segment == 0)
    u = g.random(n)
    power = np.where(
        segment == 0,
        RESIDENTIAL_POWER[
            (u[:, None] >= np.cumsum(POWER_SHARES, axis=1)[second.astype(int), :-1]).sum(axis=1)
        ],
        np.where(segment == 1, 10.0, _choose_value(CORPORATE_POWER, u)),
    )
    province = _choose(g, PROVINCES["share"].to_numpy(), n)
    urban = g.random(n) < URBAN_SHARE
    gas = g.random(n) < GAS_SHARE[segment]
    electric = ~(gas & (g.random(n) < GAS_ONLY_SHARE))
    size = g.standard_normal(n)
    gas_size = np.where(gas, 0.8 * size + 0.6 * g.standard_normal(n), np.nan)
    tenure = np.interp(g.random(n), TENURE_CUMULATIVE, TENURE_MONTHS * 30)
    renewal = _renewal(g.random(n), g.random(n), tenure / 30)
    since_change = np.exp(np.log(CHANGE_MEDIAN) + CHANGE_SPREAD * g.standard_normal(n)) * 30
    since_change = np.where(since_change > tenure, tenure * g.random(n), since_change)
    never = g.random(n) < NEVER_CHANGED_SHARE
    first = np.array([BASE] * n, dtype="datetime64[D]") - np.floor(tenure).astype(int)
    next_renewal = np.datetime64(BASE) + renewal
    if cohort:
        joined = [BASE + timedelta(days=1 + int(r / (customers * JOINED_PER_DAY))) for r in row]
        first = np.array(joined, dtype="datetime64[D]")
        next_renewal = first + np.asarray(330 + renewal % 30, dtype="timedelta64[D]")
        never[:] = True
    changed = np.datetime64(BASE) - np.floor(since_change).astype(int)
    return pd.DataFrame(
        {
            "customer_id": [f"C{i:05d}" for i in row + 1 + (customers if cohort else 0)],
            "cohort": cohort,
            "segment": segment,
            "power": power,
            "second": second,
            "province": province,
            "channel": channel,
            "urban": urban,
            "gas": gas,
            "electric": electric,
            "size": size,
            "gas_size": gas_size,
            "first": first.astype("datetime64[s]"),
            "start": np.maximum(first, next_renewal - 365).astype("datetime64[s]"),
            "renewal": next_renewal.astype("datetime64[s]"),
            "changed": np.where(never, np.datetime64("NaT"), changed).astype("datetime64[s]"),
        }
    )


def aged(people: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """The same customers at `as_of`: a renewal more than 30 days past has become a contract for another year."""
    passed = days(people["renewal"], as_of) < -30
    if not passed.any():
        return people
    renewal = people["renewal"].where(~passed, people["renewal"] + pd.Timedelta(days=365))
    return aged(
        people.assign(renewal=renewal, start=people["start"].where(~passed, people["renewal"])), as_of
    )


def _renewal(u: Floats, v: Floats, tenure_months: Floats) -> NDArray[np.int64]:
    """Whole days to renewal: the bucket given the tenure bucket, then the day within it."""
    tenure_bucket = np.searchsorted([6, 12, 24, 60], tenure_months, "left")
    shares = np.cumsum(RENEWAL_GIVEN_TENURE / RENEWAL_GIVEN_TENURE.sum(axis=1, keepdims=True), axis=1)
    bucket = (u[:, None] >= shares[tenure_bucket, :-1]).sum(axis=1)
    edges = np.interp(RENEWAL_EDGES, RENEWAL_DAYS, RENEWAL_CUMULATIVE)
    at = np.interp(edges[bucket] + v * np.diff(edges)[bucket], RENEWAL_CUMULATIVE, RENEWAL_DAYS)
    low, high = RENEWAL_EDGES[bucket] + 0.5, RENEWAL_EDGES[bucket + 1] - 0.5
    return np.asarray(np.clip(np.rint(at), low, high), dtype=np.int64)


def _cumulative(weights: NDArray[Any]) -> Floats:
    out: Floats = np.cumsum(weights / weights.sum())
    return out


def _choose(g: np.random.Generator, weights: NDArray[Any], n: int) -> NDArray[np.int64]:
    return np.searchsorted(_cumulative(weights)[:-1], g.random(n), "right").astype(np.int64)


def _choose_value(counts: dict[int, int], u: Floats) -> Floats:
    values, weights = np.array(list(counts), dtype=float), np.array(list(counts.values()))
    out: Floats = values[np.searchsorted(_cumulative(weights)[:-1], u, "right")]
    return out
