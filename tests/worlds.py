"""Tables of customers from worlds that the simulator of the project did not draw: used to judge, never to tune.

    heavy    consumption and contacts with heavy tails; churn by products of features that no column names
    shocks   a common shock and one for each of sixty postcodes, the same for all customers of a postcode
    hidden   what drives churn is not observed, but for weak traces; a rare code of customers who mostly leave

All have columns of every kind: skewed numbers with gaps, counts, flags, small and large categories, and dates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[np.float64]
AS_OF = date(2024, 12, 31)


@dataclass(frozen=True)
class World:
    """Customers with their labels, and the probability that each label was drawn from."""

    frame: pd.DataFrame
    truth: Array

    @property
    def kinds(self) -> Mapping[str, str]:
        """Kind by feature; ids, labels and dates are none."""
        beside = ("customer_id", "churn", "last_invoice", "signed_on")
        return {
            str(c): "numeric" if pd.api.types.is_numeric_dtype(self.frame[c]) else "category"
            for c in self.frame
            if c not in beside
        }


def world(name: str, rows: int, seed: int) -> World:
    """One draw of a world."""
    rng = np.random.default_rng([seed, *name.encode()])
    frame = _columns(rng, rows)
    odds = WORLDS[name](rng, frame)
    level = _level(odds, rng.uniform(0.06, 0.16))
    truth = expit(odds + level)
    frame.insert(1, "churn", (rng.random(rows) < truth).astype("int64"))
    return World(frame, truth)


def _columns(rng: np.random.Generator, rows: int) -> pd.DataFrame:
    kwh, months = np.exp(rng.normal(5.5, 1.1, rows)), rng.integers(0, 120, rows)
    days = np.where(rng.random(rows) < 0.5, np.nan, rng.exponential(90, rows).round())
    signed = pd.Timestamp(AS_OF) - pd.to_timedelta(months * 30, unit="D")
    return pd.DataFrame(
        {
            "customer_id": rng.permutation([f"K{i:06d}" for i in range(rows)]),
            "kwh": kwh,
            "bill": np.round(kwh * rng.normal(0.17, 0.02, rows) + 12, 2),
            "gas": np.where(rng.random(rows) < 0.6, 0.0, np.exp(rng.normal(3, 0.8, rows))),
            "contacts": rng.negative_binomial(1, 0.4, rows),
            "tenure_months": months,
            "days_since_contact": days,
            "postcode": rng.integers(0, 60, rows).astype(str).astype(object),
            "street": rng.integers(0, 400, rows).astype(str).astype(object),
            "tariff": rng.choice(np.array(["flat", "night", "indexed", None], dtype=object), rows),
            "channel": rng.choice(np.array(list("abcdefgh"), dtype=object), rows, p=_zipf(8)),
            "last_invoice": pd.Timestamp(AS_OF) - pd.to_timedelta(rng.integers(0, 60, rows), unit="D"),
            "signed_on": pd.Series(signed).dt.strftime("%Y-%m-%d"),
            **{f"flag_{i}": rng.random(rows) < 0.1 + 0.2 * i for i in range(4)},
            **{f"score_{i}": rng.normal(size=rows) for i in range(4)},
        }
    ).astype({f"flag_{i}": "int64" for i in range(4)})


def _heavy(rng: np.random.Generator, frame: pd.DataFrame) -> Array:
    z, flag = frame[["score_0", "score_1", "score_2"]].to_numpy().T, frame["flag_1"].to_numpy()
    size = np.log(frame["kwh"].to_numpy()) - 5.5
    odds: Array = 1.2 * z[0] * z[1] + 0.8 * size * z[2] + 1.0 * flag * (frame["tariff"] == "indexed")
    return odds


def _shocks(rng: np.random.Generator, frame: pd.DataFrame) -> Array:
    by_postcode = rng.normal(0, 0.6, 60)[frame["postcode"].astype(int)]
    odds: Array = by_postcode + 0.3 * frame["contacts"] - 0.02 * frame["tenure_months"] + rng.normal(0, 0.5)
    return odds


def _hidden(rng: np.random.Generator, frame: pd.DataFrame) -> Array:
    unseen = rng.standard_t(4, len(frame))
    frame["score_3"] += 0.4 * unseen
    leaving = (unseen > np.quantile(unseen, 0.97)) & (rng.random(len(frame)) < 0.7)
    frame.loc[leaving, "channel"] = "moved"
    odds: Array = 1.3 * unseen + 0.3 * frame["flag_0"]
    return odds


WORLDS: Mapping[str, Callable[[np.random.Generator, pd.DataFrame], Array]] = {
    "heavy": _heavy,
    "shocks": _shocks,
    "hidden": _hidden,
}


def _level(odds: Array, rate: float) -> float:
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(odds + middle).mean() < rate else (low, middle)
    return low


def _zipf(count: int) -> Array:
    share = 1 / np.arange(1, count + 1)
    return np.asarray(share / share.sum())
