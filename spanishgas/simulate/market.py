"""What the customers use and pay, month by month, and what energy costs in their province.

All arrays are customers x HORIZON months; electricity in kWh, gas in m3, money in EUR.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from spanishgas.config.tariff import tariff
from spanishgas.simulate.figures import figures
from spanishgas.simulate.population import NEW_PROVINCE, PEOPLE, PROVINCES, Floats
from spanishgas.simulate.streams import BLOCK, EARLY, HORIZON, Draws, Stream, drawn_months, months

ENERGY, PRICES = figures("energy"), figures("prices")


@dataclass(frozen=True)
class Energy:
    """Monthly totals over the horizon: what the hours of a month add up to."""

    elec: Floats
    gas: Floats


def draw_energy(people: pd.DataFrame, draws: Draws) -> Energy:
    """Monthly electricity (kWh, 3 decimals) and gas (m3, 4 decimals) of one block."""
    g, later = draws.rng(Stream.ENERGY), draws.rng(Stream.ENERGY, EARLY)
    annual = 12 * _quantile(ENERGY.elec_quantiles, _size_cdf(_score(people)))
    summer = g.random(BLOCK) < ENERGY.summer_share
    season = np.tile(np.where(summer[:, None], ENERGY.summer, ENERGY.winter), (1, HORIZON // 12))
    small = people["size"].to_numpy() < ENERGY.empty_size
    empty = (small & (g.random(BLOCK) < ENERGY.empty_share))[:, None]
    idle = empty & (drawn_months(g.random, later.random) < ENERGY.empty_months)
    weight = season * np.exp(0.06 * drawn_months(g.standard_normal, later.standard_normal)) * ~idle
    in_2024 = weight[:, :12].sum(axis=1, keepdims=True)
    weight = np.divide(weight, in_2024, out=np.zeros_like(weight), where=in_2024 > 0)
    elec = annual[:, None] * weight * people["electric"].to_numpy()[:, None]
    rank = norm.cdf(people["gas_size"].fillna(0.0).to_numpy())
    heating = np.tile(12 * ENERGY.heating, HORIZON // 12) * np.exp(
        0.12 * drawn_months(g.standard_normal, later.standard_normal)
    )
    heating *= drawn_months(g.random, later.random) >= 1 - ENERGY.gas_months_share
    gas = _quantile(ENERGY.gas_quantiles, rank)[:, None] * heating * people["gas"].to_numpy()[:, None]
    return Energy(np.round(elec, 3), np.round(gas, 4))


@dataclass(frozen=True)
class Prices:
    """Prices over the horizon by the price file's columns; `row` says which customer-months it has at all."""

    columns: Mapping[str, Floats]
    row: NDArray[np.bool_]

    @property
    def tier1(self) -> Floats:
        """Peak price of electricity, EUR/kWh."""
        return self.columns["variable_price_tier1_eur_kwh"]

    def trend(self, span: slice) -> Floats:
        """(last - first) / first peak price in `span`, zeros and gaps left out; NaN without two prices."""
        price = np.where(self.row & (self.tier1 > 0), self.tier1, np.nan)[:, span]
        priced = ~np.isnan(price)
        rows = np.arange(len(price))
        first = price[rows, priced.argmax(axis=1)]
        last = price[rows, price.shape[1] - 1 - priced[:, ::-1].argmax(axis=1)]
        out: Floats = np.where(priced.sum(axis=1) > 1, last / first - 1, np.nan)
        return out


def draw_prices(people: pd.DataFrame, draws: Draws, raised: tuple[slice, float] | None = None) -> Prices:
    """Prices of one block as the file shows them, flaws included; `raised` is months and a factor on their prices."""
    g, later = draws.rng(Stream.PRICES), draws.rng(Stream.PRICES, EARLY)
    n, shape = BLOCK, (BLOCK, HORIZON)
    score = _score(people)
    large = score > PRICES.large_score
    level = _quantile(
        PRICES.tier1_quantiles, norm.cdf(norm.ppf(g.random(n)) * np.where(large, PRICES.large_spread, 1.0))
    )
    level *= np.interp(score, PRICES.scores, PRICES.by_score)
    slope = _quantile(PRICES.slope_quantiles, g.random(n), log=False)
    month, (least, most) = np.arange(HORIZON), PRICES.jump_log
    path = slope[:, None] * (month - 11) / 11 + PRICES.noise * drawn_months(
        g.standard_normal, later.standard_normal
    )
    for stream, start, stop in ((g, 1, EARLY), (later, EARLY, HORIZON)):
        share = PRICES.jump_share * (stop - start) / (EARLY - 1)
        jump = np.where(stream.random(n) < share, stream.uniform(least, most, n), 0.0)
        path += jump[:, None] * (month >= stream.integers(start, stop, n)[:, None])
    tier1 = level[:, None] * np.exp(path)
    if raised is not None:
        tier1[:, raised[0]] *= raised[1]
    zero = drawn_months(g.random, later.random) < PRICES.zero_rate
    row = np.ones(shape, dtype=bool)
    for stream, start, stop in ((g, 0, EARLY), (later, EARLY, HORIZON)):
        gap = (stream.random(n) < PRICES.gap_share * (stop - start) / EARLY)[:, None]
        first = stream.integers(start, stop, n)[:, None]
        length = np.minimum(stream.geometric(0.45, n), 5)[:, None]
        row &= ~(gap & (month >= first) & (month < first + length))
    tiny = g.random(n) < PRICES.tiny_rate
    tier1[tiny, 0] = 0.0005
    tier1[g.random(n) < PRICES.none_rate] = np.nan
    segment, power = people["segment"].to_numpy(), people["power"].to_numpy()
    margin = np.exp(np.log(np.array([2.67, 6.9, 9.0]))[segment] + 0.28 * g.standard_normal(n))
    fee = 3.4 * power * np.exp(0.05 * g.standard_normal(n)) + margin
    gas, electric = people["gas"].to_numpy(), people["electric"].to_numpy()
    gas_price = np.where(gas, 0.84 + 0.045 * g.standard_normal(n), np.nan)
    gas_fixed = np.where(gas, 63.74 * np.exp(0.08 * g.standard_normal(n)), 0.0)
    gas_fixed_cost = np.where(gas, gas_fixed - 36 * np.exp(0.1 * g.standard_normal(n)), 0.0)
    calm = np.where(zero, 0.0, PRICES.calm * (tier1 / PRICES.calm) ** PRICES.damping)
    # The first period is the dearest, the last the cheapest.
    dearest, *cheaper = tariff().prices
    ratios = np.linspace(PRICES.standard_ratio, PRICES.offpeak_ratio, len(cheaper))
    columns = {
        dearest: (np.where(zero, 0.0, tier1), 6),
        **{name: (calm * ratio, 6) for name, ratio in zip(cheaper, ratios, strict=True)},
        "elec_fixed_fee_eur_month": (fee * electric, 4),
        "elec_fixed_cost_eur_month": ((fee - margin) * electric, 4),
        "gas_variable_price_eur_m3": (gas_price, 6),
        "gas_fixed_revenue_eur_year": (gas_fixed, 4),
        "gas_fixed_cost_eur_year": (gas_fixed_cost, 4),
    }
    # A price without a month of its own holds over the horizon.
    rounded = {name: np.round(value, decimals).reshape(n, -1) for name, (value, decimals) in columns.items()}
    return Prices({name: np.broadcast_to(value, shape) for name, value in rounded.items()}, row)


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
    toll = PRICES.peaje * (1 + np.where(np.isin(month % 12, (0, 1, 6, 11)), 0.04, -0.02)) + 0 * elec
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
    out: Floats = ENERGY.size_shift[segment, people["channel"].to_numpy()] + ENERGY.size_spread[segment] * own
    out += ENERGY.gas_shift * people["gas"].to_numpy()
    return out


def _size_cdf(score: Floats) -> Floats:
    """Distribution of the size score over the whole utility, a mixture over segments, channels and gas."""
    shares = PEOPLE.channel_counts / PEOPLE.channel_counts.sum()
    fuels = np.stack([1 - PEOPLE.gas_share, PEOPLE.gas_share], axis=1)
    shift, spread = ENERGY.size_shift, ENERGY.size_spread
    parts = [
        shares[s, c] * fuels[s, gas] * norm.cdf((score - shift[s, c] - ENERGY.gas_shift * gas) / spread[s])
        for s, c, gas in np.ndindex(*shares.shape, 2)
    ]
    out: Floats = np.sum(parts, axis=0)
    return out


def _quantile(table: Floats, u: Floats, *, log: bool = True) -> Floats:
    """Quantile function through the points of `table`, straight between normal scores (of the logarithm)."""
    at, value = norm.ppf(table[:, 0]), table[:, 1]
    score = norm.ppf(np.clip(u, 1e-7, 1 - 1e-7))
    out: Floats = np.exp(np.interp(score, at, np.log(value))) if log else np.interp(score, at, value)
    return out
