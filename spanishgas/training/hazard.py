"""When customers leave: a discrete-time hazard model beside the classifier, and the curve that comes of both.

    gold with months -> a row per customer and month at risk -> the classifier's estimator -> hazard by month
    hazards -> when those leave who do, times the classifier's probability of it -> curve -> columns beside the score

A hazard is the probability of leaving in a month of who has not left before; a classifier of rows per customer and
month estimates it, and censored customers count for the months that they were observed (Singer & Willett 1993), with
the classifier's hyperparameters. Of the rows in which nobody leaves a share is drawn, which raises all odds by one over
it (Prentice & Pyke 1979) and is undone.

The classifier is calibrated and judged for the horizon, so the curve ends at its probability p: the hazards say alone
which share of those who leave within the horizon has left by the end of each month.

    F(m) = p * F_hazard(m) / F_hazard(horizon)

How likely a customer is to leave at all, the hazard model is told: the classifier's log odds are one of its columns,
out of fold where the classifier learned from the customer (stacking, Wolpert 1992). Its trees are left for the when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.base import BaseEstimator

from spanishgas.config.reading import Value
from spanishgas.training.calibration import fit_calibrated, out_of_fold
from spanishgas.training.curves import CalibratedMargins, Curve
from spanishgas.training.fitting import Training
from spanishgas.training.times import Times

Array = NDArray[np.float64]
HORIZONS = (1, 3, 6, 12)
WITHIN = {months: f"churn_within_{months}m" for months in HORIZONS}
MEDIAN, EARLY, EXPECTED = "median_months", "early_month", "expected_month"
CURVE = (*WITHIN.values(), MEDIAN, EARLY, EXPECTED)
"""Columns that `summary` gives."""
RENEWAL = "months_to_renewal"
"""A feature that runs down: month by month the model sees how far the renewal still is."""
LEAST = 1e-9
"""Probability of leaving below which it counts as this."""
PER_CUSTOMER = 1.5
"""Rows drawn per customer in which nobody leaves: more cost time and hardly tell more."""


class HazardModel(BaseEstimator):  # type: ignore[misc]
    """A fitted hazard model: the classifier of customer-months, and the share of quiet ones that it was fitted on."""

    columns = CURVE

    def __init__(self, model: CalibratedMargins, drawn: float, months: int) -> None:
        self.model = model
        self.drawn = drawn
        self.months = months

    def hazards(self, X: pd.DataFrame, probability: Array) -> Array:
        """Probability of leaving in each month of who has not left before, shape (rows, months).

        `probability` is the classifier's, of leaving within the horizon.
        """
        out = np.empty((len(X), self.months))
        for month in range(1, self.months + 1) if len(X) else ():
            share = self.model.predict_proba(clocked(X, probability, np.full(len(X), month), self.months))[
                :, 1
            ]
            out[:, month - 1] = share * self.drawn / (1 - share + share * self.drawn)
        return out

    def curves(self, X: pd.DataFrame, probability: Array) -> Array:
        """Probability of having left by the end of each month, which ends at `probability`; shape (rows, months)."""
        left = 1 - np.cumprod(1 - self.hazards(X, probability), axis=1)
        curve: Array = left / left[:, -1:] * probability[:, None]
        return curve

    def told(self, X: pd.DataFrame, probability: Array) -> pd.DataFrame:
        """The `summary` of these curves, indexed like `X`."""
        return summary(self.curves(X, probability), X.index)


def fit_hazard(
    training: Training, times: Times, params: Mapping[str, Value], probability: Array
) -> HazardModel:
    """Fit the hazard model on the rows of `training`, whatever their labels, with the classifier's hyperparameters.

    `probability` is the classifier's of each row, from a fit that did not see it.
    """
    params = {**params, "class_weight": "none"}
    customer, month, leaves, drawn = person_months(times, training.seed)
    rows = training.X.iloc[customer].reset_index(drop=True)
    X = clocked(rows, probability[customer], month, times.horizon)
    kinds = {**training.kinds, **dict.fromkeys(X.columns[len(training.features) :], "numeric")}
    # a customer's months lie on one side of every fold, those of other days included
    groups = customer if training.groups is None else training.groups[customer]
    weights = None if training.weights is None else training.weights[customer]
    forward = None if training.forward is None else training.forward.of(customer)
    months = replace(
        training,
        X=X,
        y=leaves,
        features=list(X.columns),
        kinds=kinds,
        groups=groups,
        weights=weights,
        forward=forward,
    )
    model = fit_calibrated(months, months.unfitted(params), out_of_fold(months, params), Curve.SIGMOID)
    return HazardModel(model, drawn, times.horizon)


def person_months(
    times: Times, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64], float]:
    """Customer, month and whether it left in it: all months of leaving, and of the others the share that is last."""
    customer = np.repeat(np.arange(len(times.month)), times.month)
    month = np.arange(len(customer)) - np.repeat(times.month.cumsum() - times.month, times.month) + 1
    leaves = times.left[customer] & (month == times.month[customer])
    drawn = min(1.0, PER_CUSTOMER * len(times.month) / max(1, int((~leaves).sum())))
    taken = leaves | (np.random.default_rng(seed).random(len(leaves)) < drawn)
    return customer[taken], month[taken], leaves[taken].astype("int64"), drawn


def clocked(X: pd.DataFrame, probability: Array, month: NDArray[np.int64], months: int) -> pd.DataFrame:
    """`X` with the classifier's log odds and the time: month, a flag per month, and how far the renewal is by then."""
    columns = {"log_odds": logit(np.clip(probability, LEAST, 1 - LEAST)), "month": month.astype("float64")}
    columns |= {f"month_{m}": (month == m).astype("float64") for m in range(2, months + 1)}
    if RENEWAL in X:
        away = X[RENEWAL].to_numpy(dtype="float64") - (month - 0.5)
        columns |= {"renewal_away": away, "renewal_distance": np.abs(away)}
    return pd.concat([X, pd.DataFrame(columns, index=X.index)], axis="columns")


def summary(curve: Array, index: pd.Index) -> pd.DataFrame:
    """What a curve says, by name: probability within 1, 3, 6 and 12 months (null beyond the horizon), and months.

    `median_months` is when half of such customers have left (null if fewer do within the horizon); of those who leave,
    `early_month` is when a quarter has, and `expected_month` the mean. Within a month they leave evenly.
    """
    n, months = curve.shape
    total = curve[:, -1]
    columns = {WITHIN[h]: curve[:, h - 1] if h <= months else np.full(n, np.nan) for h in HORIZONS}
    ends = np.hstack([np.zeros((n, 1)), curve])
    mean = months - (ends[:, 1:] + ends[:, :-1]).sum(axis=1) / 2 / np.maximum(total, LEAST)
    times = {MEDIAN: _reached(ends, np.full(n, 0.5)), EARLY: _reached(ends, total / 4), EXPECTED: mean}
    return pd.DataFrame({**columns, **times}, index=index)


def _reached(ends: Array, level: Array) -> Array:
    """Months until a curve reaches a level, straight within a month; NaN where it does not."""
    month = np.clip((ends < level[:, None]).sum(axis=1), 1, ends.shape[1] - 1)
    rows = np.arange(len(ends))
    low, high = ends[rows, month - 1], ends[rows, month]
    with np.errstate(divide="ignore", invalid="ignore"):
        time: Array = month - 1 + np.where(high > low, (level - low) / (high - low), 0.0)
    return np.where(ends[:, -1] >= level, time, np.nan)
