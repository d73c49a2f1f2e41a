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

from spanishgas.simulate.figures import figures
from spanishgas.simulate.streams import BASE, BLOCK, Draws, Stream

Floats = NDArray[np.float64]

PROVINCES = pd.read_csv(Path(__file__).with_name("provinces.csv"))
"""Provinces with their share of customers, mean cost in 2024 (EUR/kWh, EUR/m3), its rise from January to
December, and `pull`: the log-odds of churn that the local market adds."""
NEW_PROVINCE = len(PROVINCES) - 1
"""Row of the province that has customers only under the shift of that name; its costs lie outside the others' range."""

CHANNELS = ("presencial_comercial", "desconocido", "comparador", "oficina", "telemarketing", "web_propia")
PEOPLE = figures("people")


def days(dates: pd.Series[Any], as_of: date) -> Floats:
    """Days from `as_of` to each of `dates`; NaN for none."""
    elapsed = (dates - pd.Timestamp(as_of)) / pd.Timedelta(days=1)
    return np.asarray(elapsed, dtype="float64")


def newcomers(customers: int, as_of: date) -> int:
    """How many customers joined a utility of `customers` between the base date and `as_of`."""
    return int(customers * PEOPLE.joined_per_day * max((as_of - BASE).days, 0))


def draw_people(draws: Draws, customers: int) -> pd.DataFrame:
    """One block of BLOCK customers as they are on the base date (cohort 0) or on the day they join (cohort 1).

    `customers` is the size of the base cohort; newcomers take the ids after it. Columns beyond the source's:
    `size`, the standard normal score of electricity use, and `gas_size`, that of gas use (NaN without gas).
    """
    g, cohort = draws.rng(Stream.PEOPLE), draws.cohort
    n = BLOCK
    row = np.arange(n) + draws.block * BLOCK
    segment = _choose(g, PEOPLE.segment_counts, n)
    channel = np.array(
        [
            np.searchsorted(_cumulative(PEOPLE.channel_counts[s]), u, "right")
            for s, u in zip(segment, g.random(n), strict=True)
        ]
    )
    second = (g.random(n) < PEOPLE.second_residence_share) & (segment == 0)
    u = g.random(n)
    power = np.where(
        segment == 0,
        PEOPLE.residential_power[
            (u[:, None] >= np.cumsum(PEOPLE.power_shares, axis=1)[second.astype(int), :-1]).sum(axis=1)
        ],
        np.where(segment == 1, 10.0, _choose_value(PEOPLE.corporate_power, u)),
    )
    province = _choose(g, PROVINCES["share"].to_numpy(), n)
    urban = g.random(n) < PEOPLE.urban_share
    gas = g.random(n) < PEOPLE.gas_share[segment]
    electric = ~(gas & (g.random(n) < PEOPLE.gas_only_share))
    size = g.standard_normal(n)
    gas_size = np.where(gas, 0.8 * size + 0.6 * g.standard_normal(n), np.nan)
    tenure = np.interp(
        g.random(n), PEOPLE.tenure_cumulative / PEOPLE.tenure_cumulative[-1], PEOPLE.tenure_months * 30
    )
    renewal = _renewal(g.random(n), g.random(n), tenure / 30)
    since_change = np.exp(np.log(PEOPLE.change_median) + PEOPLE.change_spread * g.standard_normal(n)) * 30
    since_change = np.where(since_change > tenure, tenure * g.random(n), since_change)
    never = g.random(n) < PEOPLE.never_changed_share
    first = np.array([BASE] * n, dtype="datetime64[D]") - np.floor(tenure).astype(int)
    next_renewal = np.datetime64(BASE) + renewal
    if cohort:
        joined = [BASE + timedelta(days=1 + int(r / (customers * PEOPLE.joined_per_day))) for r in row]
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
    counts, edges, days_to = PEOPLE.renewal_given_tenure, PEOPLE.renewal_edges, PEOPLE.renewal_days
    tenure_bucket = np.searchsorted([6, 12, 24, 60], tenure_months, "left")
    shares = np.cumsum(counts / counts.sum(axis=1, keepdims=True), axis=1)
    bucket = (u[:, None] >= shares[tenure_bucket, :-1]).sum(axis=1)
    up_to = np.interp(edges, days_to, PEOPLE.renewal_cumulative)
    at = np.interp(up_to[bucket] + v * np.diff(up_to)[bucket], PEOPLE.renewal_cumulative, days_to)
    low, high = edges[bucket] + 0.5, edges[bucket + 1] - 0.5
    return np.asarray(np.clip(np.rint(at), low, high), dtype=np.int64)


def _cumulative(weights: NDArray[Any]) -> Floats:
    out: Floats = np.cumsum(weights / weights.sum())
    return out


def _choose(g: np.random.Generator, weights: NDArray[Any], n: int) -> NDArray[np.int64]:
    return np.searchsorted(_cumulative(weights)[:-1], g.random(n), "right").astype(np.int64)


def _choose_value(counts: NDArray[Any], u: Floats) -> Floats:
    values, weights = counts.T
    out: Floats = values[np.searchsorted(_cumulative(weights)[:-1], u, "right")]
    return out
