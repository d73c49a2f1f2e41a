"""Who churns: log-odds from contract and market, before anything the customer says.

Contract effects reproduce the published churn rates by renewal, tenure, channel, competition, fuel and segment.
Market effects are steps and bumps without a linear trace, which trees find and linear models do not: with them the
average precision of the source's XGBoost rises from 0.305 to 0.476 while its logistic regression stays below 0.30.
The coefficients are fitted on drawn customers (benchmarks/fit_churn.py), so that the expected rates match the
published tables with all effects present; the strength of the market effects is the one that reproduces the ladder.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from spanishgas.simulate.figures import figures
from spanishgas.simulate.market import Energy, Prices
from spanishgas.simulate.population import PROVINCES, Floats, days
from spanishgas.simulate.streams import window

CHURN = figures("churn")


Coefficients = Mapping[str, Any]
"""Log odds of churn by name: a number, or one per level or knot of `CHURN`."""
PUBLISHED: Coefficients = vars(figures("published_coefficients"))


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
        c["intercept"]
        + np.interp(seen["renewal_days"], CHURN.renewal_knots, c["renewal"])
        + _step(seen["tenure"].to_numpy(), CHURN.tenure_edges, c["tenure"])
        + np.array(c["channel"])[seen["channel"]]
        + np.array(c["segment"])[segment]
        + np.where(competitive, np.array(c["competition"])[segment], 0.0)
        + np.where(seen["dual"], c["dual"], 0.0)
        + np.where(seen["gas"] > CHURN.heavy_gas, c["heavy_gas"], 0.0)
        + c["pull"] * seen["pull"].to_numpy()
        + np.interp(np.log(np.maximum(seen["elec"], 0.01)), CHURN.size_knots, c["size"])
        + np.where(np.isnan(trend), 0.0, _step(trend, CHURN.trend_edges, c["trend"]))
        + np.where(np.isnan(since), 0.0, np.interp(np.nan_to_num(since), CHURN.change_knots, c["change"]))
    )
    return out


def probability(seen: pd.DataFrame, c: Coefficients = PUBLISHED) -> Floats:
    """Probability of churn given contract and market alone."""
    out: Floats = 1 / (1 + np.exp(-log_odds(seen, c)))
    return out


def _step(value: Floats, edges: Floats, levels: Floats) -> Floats:
    out: Floats = np.array(levels)[np.clip(np.searchsorted(edges, value, "right") - 1, 0, None)]
    return out
