"""What the customers use and pay, month by month, and what energy costs in their province.

All arrays are customers x HORIZON months; electricity in kWh, gas in m3, money in EUR.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from spanishgas.simulate.population import (
    CHANNEL_COUNTS,
    GAS_SHARE,
    NEW_PROVINCE,
    PROVINCES,
    Floats,
)
from spanishgas.simulate.streams import BLOCK, EARLY, HORIZON, Stream, drawn_months, months, rng

ELEC_QUANTILES = {
    1e-5: 0.0004, 0.01: 0.0121, 0.05: 7.0, 0.25: 34.18, 0.50: 89.80, 0.75: 293.9, 0.90: 2_000.0, 0.95: 6_600.0,
    0.99: 23_042.0, 0.99997: 92_559.0,
}  # fmt: skip
"""Mean monthly kWh of a customer: published quantiles; the 5, 90 and 95 % are fitted to the mean 1,142 and
deviation 3,954."""
GAS_QUANTILES = {
    1e-4: 0.3, 0.25: 5.5, 0.50: 22.0, 0.75: 150.0, 0.90: 900.0, 0.9447: 1_548.0, 0.9999: 7_131.0,
}  # fmt: skip
"""Mean monthly m3 of a gas customer, fitted to 3,499 m3 a year and the published 99 % and maximum."""
SIZE_SHIFT = np.array(
    [
        [0.0, -0.02, 1.1, -0.3, -0.15, -0.1],
        [-0.25, -0.25, 0.1, -0.25, -0.25, -0.25],
        [1.4, 1.4, 1.4, 1.4, 1.4, 1.4],
    ]
)
"""Mean score of electricity use by segment and channel: comparison sites bring the large users (published
margin medians)."""
SIZE_SPREAD = np.array([1.0, 0.85, 0.6])
"""Standard deviation of the score around that mean, by segment."""
GAS_SHIFT = 0.6
"""Customers with gas use more electricity too: fitted to the spread of monthly bills and the margin of dual fuel."""
WINTER = np.array([1.35, 1.25, 1.10, 0.90, 0.75, 0.75, 0.80, 0.80, 0.75, 0.90, 1.15, 1.45])
SUMMER = np.array([0.85, 0.85, 0.80, 0.80, 0.90, 1.15, 1.50, 1.45, 1.15, 0.85, 0.80, 0.90])
SUMMER_SHARE = 0.15
"""Electricity by month of winter- and summer-peaking customers: the last quarter is typically 40-55 % above
the third."""
HEATING = np.array([0.28, 0.22, 0.12, 0.03, 0.007, 0.0, 0.0, 0.0, 0.003, 0.02, 0.08, 0.24]) * 12
"""Gas by month: nine active months of twelve."""
IDLE_GAS_RATE = 1 - 32_671 / (9 * 3_632)
"""Share of those nine months without gas all the same."""
EMPTY_SHARE, EMPTY_MONTHS, EMPTY_SIZE = 0.0437, 0.8, 0.3
"""Customers below the size score whose supply is mostly idle, and the share of their months without
electricity (2.2 % of months are zero)."""

TIER1_QUANTILES = {
    1e-4: 0.06,
    0.01: 0.0990,
    0.05: 0.1020,
    0.25: 0.1232,
    0.50: 0.1482,
    0.75: 0.1635,
    0.95: 0.188,
    0.99: 0.232,
    0.9999: 0.33,
}
"""Peak price (EUR/kWh) around the end of 2024: fitted to the quartiles, 1 %, 99 % and mean of the price over province
cost."""
LARGE_SCORE, LARGE_SPREAD = 1.3, 0.4
"""Users above the score pay closer to the median price: fitted to the spread of monthly margins."""
PRICE_BY_SCORE = ((0.0, 0.5, 0.8, 1.15, 1.5), (0.985, 1.02, 1.085, 1.085, 0.972))
"""Peak price by size score, as a factor: middling users pay most, fitted to the quartiles of monthly margins."""
SLOPE_QUANTILES = {
    1e-4: -0.16,
    0.01: -0.088,
    0.25: -0.0224,
    0.50: 0.0232,
    0.75: 0.0655,
    0.975: 0.16,
    0.9999: 0.26,
}
"""Log change of the peak price over a year: 63.8 % of customers pay more."""
PRICE_NOISE = 0.013
JUMP_SHARE, JUMP_LOG = 0.035, (0.25, 0.55)
"""Customers whose price jumps once within the first EARLY months, and by how much; later ones jump as often."""
TIER_RATIO = (1.0, 0.85, 0.68)
CALM_PRICE, TIER_DAMPING = 0.149, 0.5
"""Standard and off-peak prices follow the peak price around CALM_PRICE with this elasticity: fitted to the margins."""
ZERO_PRICE_RATE = 35 / 20_099
"""Customer-months with a price of 0, which means missing: the published rate of first prices."""
GAP_SHARE = 0.0101
"""Customers with a gap of one to five price rows within the first EARLY months (203 of 241,188 rows are missing)."""
NO_PRICE_RATE = 2 / 20_099
TINY_PRICE_RATE = 1 / 20_099
PEAJE = 0.0535
"""Access toll, EUR/kWh; makes the mean margin of a kWh about -0.014 EUR."""


@dataclass(frozen=True)
class Energy:
    """Monthly totals over the horizon: what the hours of a month add up to."""

    elec: Floats
    gas: Floats


def draw_energy(people: pd.DataFrame, seed: int, cohort: int, block: int) -> Energy:
    """Monthly electricity (kWh, 3 decimals) and gas (m3, 4 decimals) of one block."""
    g, later = rng(seed, Stream.ENERGY, cohort, block), rng(seed, Stream.ENERGY, cohort, block, EARLY)
    annual = 12 * _quantile(ELEC_QUANTILES, _size_cdf(_score(people)))
    summer = g.random(BLOCK) < SUMMER_SHARE
    season = np.tile(np.where(summer[:, None], SUMMER, WINTER), (1, HORIZON // 12))
    small = people["size"].to_numpy() < EMPTY_SIZE
    empty = (small & (g.random(BLOCK) < EMPTY_SHARE))[:, None]
    idle = empty & (drawn_months(g.random, later.random) < EMPTY_MONTHS)
    weight = season * np.exp(0.06 * drawn_months(g.standard_normal, later.standard_normal)) * ~idle
    in_2024 = weight[:, :12].sum(axis=1, keepdims=True)
    weight = np.divide(weight, in_2024, out=np.zeros_like(weight), where=in_2024 > 0)
    elec = annual[:, None] * weight * people["electric"].to_numpy()[:, None]
    rank = norm.cdf(people["gas_size"].fillna(0.0).to_numpy())
    heating = np.tile(HEATING, HORIZON // 12) * np.exp(
        0.12 * drawn_months(g.standard_normal, later.standard_normal)
    )
    heating *= drawn_months(g.random, later.random) >= IDLE_GAS_RATE
    gas = _quantile(GAS_QUANTILES, rank)[:, None] * heating * people["gas"].to_numpy()[:, None]
    return Energy(np.round(elec, 3), np.round(gas, 4))


@dataclass(frozen=True)
class Prices:
    """The price file's columns over the horizon; `row` says which customer-months it has at all."""

    tier1: Floats
    tier2: Floats
    tier3: Floats
    fee: Floats
    fee_cost: Floats
    gas: Floats
    gas_fixed: Floats
    gas_fixed_cost: Floats
    row: NDArray[np.bool_]

    def trend(self, span: slice) -> Floats:
        """(last - first) / first peak price in `span`, zeros and gaps left out; NaN without two prices."""
        price = np.where(self.row & (self.tier1 > 0), self.tier1, np.nan)[:, span]
        known = ~np.isnan(price)
        rows = np.arange(len(price))
        first = price[rows, known.argmax(axis=1)]
        last = price[rows, price.shape[1] - 1 - known[:, ::-1].argmax(axis=1)]
        out: Floats = np.where(known.sum(axis=1) > 1, last / first - 1, np.nan)
        return out


def draw_prices(
    people: pd.DataFrame, seed: int, cohort: int, block: int, raised: tuple[slice, float] | None = None
) -> Prices:
    """Prices of one block as the file shows them, flaws included; `raised` is months and a factor on their prices."""
    g, later = rng(seed, Stream.PRICES, cohort, block), rng(seed, Stream.PRICES, cohort, block, EARLY)
    n, shape = BLOCK, (BLOCK, HORIZON)
    score = _score(people)
    large = score > LARGE_SCORE
    level = _quantile(TIER1_QUANTILES, norm.cdf(norm.ppf(g.random(n)) * np.where(large, LARGE_SPREAD, 1.0)))
    level *= np.interp(score, *PRICE_BY_SCORE)
    slope = _quantile(SLOPE_QUANTILES, g.random(n), log=False)
    month = np.arange(HORIZON)
    path = slope[:, None] * (month - 11) / 11 + PRICE_NOISE * drawn_months(
        g.standard_normal, later.standard_normal
    )
    for stream, start, stop in ((g, 1, EARLY), (later, EARLY, HORIZON)):
        share = JUMP_SHARE * (stop - start) / (EARLY - 1)
        jump = np.where(stream.random(n) < share, stream.uniform(*JUMP_LOG, n), 0.0)
        path += jump[:, None] * (month >= stream.integers(start, stop, n)[:, None])
    tier1 = level[:, None] * np.exp(path)
    if raised is not None:
        tier1[:, raised[0]] *= raised[1]
    zero = drawn_months(g.random, later.random) < ZERO_PRICE_RATE
    row = np.ones(shape, dtype=bool)
    for stream, start, stop in ((g, 0, EARLY), (later, EARLY, HORIZON)):
        gap = (stream.random(n) < GAP_SHARE * (stop - start) / EARLY)[:, None]
        first, length = (
            stream.integers(start, stop, n)[:, None],
            np.minimum(stream.geometric(0.45, n), 5)[:, None],
        )
        row &= ~(gap & (month >= first) & (month < first + length))
    tiny = g.random(n) < TINY_PRICE_RATE
    tier1[tiny, 0] = 0.0005
    tier1[g.random(n) < NO_PRICE_RATE] = np.nan
    segment, power = people["segment"].to_numpy(), people["power"].to_numpy()
    margin = np.exp(np.log(np.array([2.67, 6.9, 9.0]))[segment] + 0.28 * g.standard_normal(n))
    fee = 3.4 * power * np.exp(0.05 * g.standard_normal(n)) + margin
    gas, electric = people["gas"].to_numpy(), people["electric"].to_numpy()
    gas_price = np.where(gas, 0.84 + 0.045 * g.standard_normal(n), np.nan)
    gas_fixed = np.where(gas, 63.74 * np.exp(0.08 * g.standard_normal(n)), 0.0)
    gas_fixed_cost = np.where(gas, gas_fixed - 36 * np.exp(0.1 * g.standard_normal(n)), 0.0)
    calm = np.where(zero, 0.0, CALM_PRICE * (tier1 / CALM_PRICE) ** TIER_DAMPING)

    def flat(value: Floats, decimals: int) -> Floats:
        return np.broadcast_to(np.round(value, decimals)[:, None], shape)

    return Prices(
        tier1=np.asarray(np.round(np.where(zero, 0.0, tier1), 6), dtype="float64"),
        tier2=np.asarray(np.round(calm * TIER_RATIO[1], 6), dtype="float64"),
        tier3=np.asarray(np.round(calm * TIER_RATIO[2], 6), dtype="float64"),
        fee=flat(fee * electric, 4),
        fee_cost=flat((fee - margin) * electric, 4),
        gas=flat(gas_price, 6),
        gas_fixed=flat(gas_fixed, 4),
        gas_fixed_cost=flat(gas_fixed_cost, 4),
        row=row,
    )


def province_costs(span: slice, *, opened: bool = False) -> pd.DataFrame:
    """The cost file of the months in `span`: one row per province and month, without chance; `opened`: the new one too.

    Mean over 2024 and change from January to December are those of the province table.
    """
    provinces = PROVINCES if opened else PROVINCES.drop(index=NEW_PROVINCE)
    month = np.arange(span.start, span.stop)
    swing = 0.01 * np.cos(2 * np.pi * np.arange(12) / 11)
    wave = (swing - swing.mean())[month % 12]
    shape = np.outer(provinces["elec_trend"], (month - 5.5) / 11) / (
        1 - provinces["elec_trend"].to_numpy()[:, None] / 2
    )
    elec = provinces["elec_cost"].to_numpy()[:, None] * (1 + shape + wave)
    gas = provinces["gas_cost"].to_numpy()[:, None] * (1 + 3 * wave)
    toll = PEAJE * (1 + np.where(np.isin(month % 12, (0, 1, 6, 11)), 0.04, -0.02)) + 0 * elec
    return pd.DataFrame(
        {
            "province": np.repeat(provinces["province_code"].to_numpy(), len(month)),
            "month": np.tile(months(span), len(provinces)),
            "elec_var_cost_eur_kwh": np.round(elec.ravel(), 6),
            "gas_var_cost_eur_m3": np.round(gas.ravel(), 6),
            "peaje_elec_eur_kwh": np.round(toll.ravel(), 6),
        }
    )


def _score(people: pd.DataFrame) -> Floats:
    """Score of electricity use: the customer's own, around the mean of its segment and channel."""
    segment = people["segment"].to_numpy()
    own: Floats = people["size"].to_numpy(float)
    out: Floats = SIZE_SHIFT[segment, people["channel"].to_numpy()] + SIZE_SPREAD[segment] * own
    return out + GAS_SHIFT * people["gas"].to_numpy()


def _size_cdf(score: Floats) -> Floats:
    """Distribution of the size score over the whole utility, a mixture over segments, channels and gas."""
    shares = CHANNEL_COUNTS / CHANNEL_COUNTS.sum()
    fuels = np.stack([1 - GAS_SHARE, GAS_SHARE], axis=1)
    parts = [
        shares[s, c] * fuels[s, gas] * norm.cdf((score - SIZE_SHIFT[s, c] - GAS_SHIFT * gas) / SIZE_SPREAD[s])
        for s, c, gas in np.ndindex(*shares.shape, 2)
    ]
    out: Floats = np.sum(parts, axis=0)
    return out


def _quantile(table: dict[float, float], u: Floats, *, log: bool = True) -> Floats:
    """Quantile function through the points of `table`, straight between normal scores (of the logarithm)."""
    at, value = norm.ppf(list(table)), np.array(list(table.values()))
    score = norm.ppf(np.clip(u, 1e-7, 1 - 1e-7))
    out: Floats = np.exp(np.interp(score, at, np.log(value))) if log else np.interp(score, at, value)
    return out
