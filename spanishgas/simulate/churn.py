"""Who churns: log-odds from contract and market, before anything the customer says.

Contract effects reproduce the published churn rates by renewal, tenure, channel, competition, fuel and segment.
Market effects are steps and bumps without a linear trace, which trees find and linear models do not: with them the
average precision of the source's XGBoost rises from 0.305 to 0.476 while its logistic regression stays below 0.30.
The coefficients are fitted on drawn customers (benchmarks/fit_churn.py), so that the expected rates match the
published tables with all effects present; the strength of the market effects is the one that reproduces the ladder.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from spanishgas.simulate.market import Energy, Prices
from spanishgas.simulate.population import PROVINCES, Floats, days
from spanishgas.simulate.streams import window

RENEWAL_KNOTS = (0.0, 13.0, 39.0, 67.0, 86.0, 97.0, 118.0, 146.0, 172.0, 192.0, 250.0)
"""Days to renewal between which the log-odds run straight; constant before the first (expired) and after the last."""
TENURE_EDGES = (0.0, 6.0, 12.0, 24.0, 51.1, 73.1, 127.7)
"""Months from which a step holds. Quantiles, mean and maximum of the published tenures say that churners' are 0.7 times
stayers': hence the steps at 51, 73 and 128 months, beyond which nobody churned."""
SIZE_KNOTS = (-2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.5)
"""Logarithm of mean monthly kWh; the largest users hardly churn."""
HEAVY_GAS = 200.0
TREND_EDGES = (-9.0, -0.035, -0.01, 0.0, 0.03, 0.06, 0.10)
"""Price trends over the window from which a step holds: falling and fast rising prices are both noticed."""
CHANGE_KNOTS = (0.0, 3.0, 6.0, 10.0, 18.0, 40.0)
"""Months since the last product change."""


@dataclass(frozen=True)
class Coefficients:
    """Log-odds of churn, one number per level or knot named above."""

    intercept: float
    renewal: tuple[float, ...]
    tenure: tuple[float, ...]
    channel: tuple[float, ...]
    segment: tuple[float, ...]
    competition: tuple[float, ...]
    """Effect by segment: large customers show no effect of competition."""
    dual: float
    heavy_gas: float
    """Above HEAVY_GAS m3 a month."""
    pull: float
    """Per unit of the province table's `pull`."""
    size: tuple[float, ...]
    trend: tuple[float, ...]
    change: tuple[float, ...]


PUBLISHED = Coefficients(
    intercept=-3.733,
    renewal=(0.723, 1.852, 1.878, 2.329, 2.275, 1.292, 0.716, -0.07, -0.796, -1.511, -0.997),
    tenure=(0.0, 0.287, 0.411, 0.702, -1.202, 0.755, -7.0),
    channel=(0.0, -0.785, -1.008, -0.446, -0.582, 0.002),
    segment=(0.0, -0.299, 0.954),
    competition=(0.669, 0.609, 0.0),
    dual=0.037,
    heavy_gas=-2.345,
    pull=1.15,
    size=(-0.04, 0.118, -0.056, -0.149, 0.405, 0.457, -1.138, -1.148),
    trend=(1.378, -0.689, -1.378, 1.034, -0.345, 0.345, 1.378),
    change=(0.851, 0.46, 0.007, -0.433, -0.847, -0.843),
)
"""Fitted to the published tables by `python -m benchmarks.fit_churn`."""


def facts(people: pd.DataFrame, energy: Energy, prices: Prices, as_of: date) -> pd.DataFrame:
    """What the model of churn sees of each customer: nothing but what the raw files show as of `as_of`."""
    span = window(as_of)
    elec, gas = energy.elec[:, span].mean(axis=1), energy.gas[:, span].mean(axis=1)
    province = people["province"].to_numpy()
    return pd.DataFrame(
        {
            "renewal_days": days(people["renewal"], as_of),
            "tenure": -days(people["first"], as_of) / 30,
            "since_change": -days(people["changed"], as_of) / 30,
            "channel": people["channel"],
            "segment": people["segment"],
            "high_competition": PROVINCES["high_competition"].to_numpy()[province] == 1,
            "dual": (elec > 0) & (gas > 0),
            "pull": PROVINCES["pull"].to_numpy()[province],
            "elec": elec,
            "gas": gas,
            "trend": prices.trend(span),
        }
    )


def log_odds(seen: pd.DataFrame, c: Coefficients = PUBLISHED) -> Floats:
    """Log-odds of churn given contract and market."""
    trend, since = seen["trend"].to_numpy(), seen["since_change"].to_numpy()
    competitive, segment = seen["high_competition"].to_numpy(), seen["segment"].to_numpy()
    out: Floats = (
        c.intercept
        + np.interp(seen["renewal_days"], RENEWAL_KNOTS, c.renewal)
        + _step(seen["tenure"].to_numpy(), TENURE_EDGES, c.tenure)
        + np.array(c.channel)[seen["channel"]]
        + np.array(c.segment)[segment]
        + np.where(competitive, np.array(c.competition)[segment], 0.0)
        + np.where(seen["dual"], c.dual, 0.0)
        + np.where(seen["gas"] > HEAVY_GAS, c.heavy_gas, 0.0)
        + c.pull * seen["pull"].to_numpy()
        + np.interp(np.log(np.maximum(seen["elec"], 0.01)), SIZE_KNOTS, c.size)
        + np.where(np.isnan(trend), 0.0, _step(trend, TREND_EDGES, c.trend))
        + np.where(np.isnan(since), 0.0, np.interp(np.nan_to_num(since), CHANGE_KNOTS, c.change))
    )
    return out


def probability(seen: pd.DataFrame, c: Coefficients = PUBLISHED) -> Floats:
    """Probability of churn given contract and market alone."""
    out: Floats = 1 / (1 + np.exp(-log_odds(seen, c)))
    return out


def _step(value: Floats, edges: tuple[float, ...], levels: tuple[float, ...]) -> Floats:
    out: Floats = np.array(levels)[np.clip(np.searchsorted(edges, value, "right") - 1, 0, None)]
    return out
