"""From margins to probabilities, on predictions that the model did not train on.

Two rising curves are tried across folds: Platt's and an isotonic one, which follows any rising shape. The lower Brier
score wins; the isotonic one has many more degrees of freedom, so it must win by more than one paired standard error.

The decision threshold is chosen on out-of-fold probabilities of the calibrated scale, the one that it is applied to:

- recall_floor: the highest precision among the thresholds whose recall, by its lower confidence bound, meets the floor
- expected_value: contact where the expected value is not negative, p * acceptance * uplift * margin kept >= cost
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import precision_recall_curve

from spanishgas.config.policy import Judgement, Retention, Threshold, ThresholdRule
from spanishgas.config.reading import Value
from spanishgas.training.curves import CalibratedMargins, Curve, RisingCurve
from spanishgas.training.fitting import Encoded, Training, fit_predict, refit
from spanishgas.training.folds import folds, fresh_folds
from spanishgas.training.model import ChurnModel
from spanishgas.training.sides import Groups

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
FACTORS = (0.5, 1.0, 2.0)


def cross_calibrated(
    margins: Array,
    y: Labels,
    count: int,
    seed: int,
    curve: Curve = Curve.SIGMOID,
    groups: Groups = None,
) -> Array:
    """Probabilities from out-of-fold `margins`, each calibrated by a curve that did not see its row."""
    probability = np.empty(len(y))
    for fold in folds(y, count, seed, groups):
        fitted = RisingCurve(curve).fit(margins[fold.train], y[fold.train])
        probability[fold.valid] = fitted.predict(margins[fold.valid])
    return probability


@dataclass(frozen=True)
class Calibrated:
    """Out-of-fold probabilities by the better curve."""

    curve: Curve
    brier: Mapping[str, float]
    """Brier score by curve, across folds."""
    probability: Array = field(repr=False)


def calibrated(margins: Array, y: Labels, count: int, seed: int, groups: Groups = None) -> Calibrated:
    """Both curves across folds, and the one that is taken."""
    tried = {curve: cross_calibrated(margins, y, count, seed, curve, groups) for curve in Curve}
    gain = (tried[Curve.SIGMOID] - y) ** 2 - (tried[Curve.ISOTONIC] - y) ** 2
    error = float(np.std(gain, ddof=1) / np.sqrt(len(gain)))
    curve = Curve.ISOTONIC if gain.mean() > error else Curve.SIGMOID
    brier = {str(c): float(np.mean((p - y) ** 2)) for c, p in tried.items()}
    return Calibrated(curve, brier, tried[curve])


@dataclass(frozen=True)
class Fitted:
    """The object that is shipped, and the out-of-fold probabilities that its curve and threshold were chosen on."""

    model: ChurnModel
    chosen_on: Calibrated
    y: Labels
    """Labels of the rows that they were chosen on."""


@dataclass(frozen=True)
class LaterRows:
    """Rows of a later day, whose labels the curve and the threshold are fitted to."""

    rows: Training
    customers: pd.Series
    """Ids of the rows."""
    learned: pd.Series
    """Ids of the rows that the model learns from."""

    def margins(self, training: Training, params: Mapping[str, Value]) -> Array:
        """Log odds of every later row, by a fold's fit that did not see its customer."""
        parts = fresh_folds(training.y, training.folds, training.seed, 1, training.groups)
        fold_of = {
            customer: number for number, part in enumerate(parts) for customer in self.learned[part.valid]
        }
        new = pd.Series(np.arange(len(self.customers)) % len(parts), self.customers.index)
        judged_by, margins = self.customers.map(fold_of).fillna(new).to_numpy(), np.empty(len(new))
        for number, part in enumerate(parts):
            prepare, rows = training.preprocessor(params), np.flatnonzero(judged_by == number)
            X = prepare.fit_transform(training.X.iloc[part.train])
            X_later = prepare.transform(self.rows.X.iloc[rows])
            fold = Encoded(X, training.y[part.train], X_later, self.rows.y[rows], part.train)
            margins[rows] = fit_predict(training, params, fold)[0]
        return margins


def fit_chosen(
    training: Training, params: Mapping[str, Value], policy: Judgement, later: LaterRows | None = None
) -> Fitted:
    """Choose curve and threshold out of fold, on `later` rows if any; then fit on the whole training side."""
    margins = later.margins(training, params) if later else out_of_fold(training, params)
    of = later.rows if later else training.validated
    curves = calibrated(margins, of.y, of.folds, of.seed, of.groups)
    threshold = choose_threshold(curves.probability, of.y, policy.threshold)
    model = fit_final(training, params, threshold, policy, curves.curve, margins, of.y)
    return Fitted(model, curves, of.y)


def out_of_fold(training: Training, params: Mapping[str, Value]) -> Array:
    """Log odds of every row that is validated across the first fresh folds."""
    return refit(replace(training, repeats=1), params)[1]


def fit_final(
    training: Training,
    params: Mapping[str, Value],
    threshold: float,
    policy: Judgement,
    curve: Curve = Curve.SIGMOID,
    margins: Array | None = None,
    y: Labels | None = None,
) -> ChurnModel:
    """The object that is shipped: fitted on the whole training side, calibrated on its `out_of_fold` margins.

    The curve is fitted to other `margins` and their labels `y` where these are given.
    """
    margins = out_of_fold(training, params) if margins is None else margins
    return ChurnModel(
        fit_calibrated(training, training.unfitted(params), margins, curve, y),
        features=list(training.features),
        kinds=dict(training.kinds),
        threshold=threshold,
        risk_tiers=dict(policy.risk_tiers),
    )


def fit_calibrated(
    training: Training, unfitted: Any, margins: Array, curve: Curve, y: Labels | None = None
) -> CalibratedMargins:
    """The classifier fitted on every row, with a curve fitted to out-of-fold `margins` and `y`, its own if None.

    Its own are the labels of the rows that folds are scored on.
    """
    return CalibratedMargins(
        unfitted.fit(training.X, training.y, **training.weighed(step="model__")),
        RisingCurve(curve).fit(margins, training.validated.y if y is None else y),
    )


def choose_threshold(probability: Array, y: Labels, policy: Threshold) -> float:
    """The threshold that the policy's rule asks for."""
    if policy.rule is ThresholdRule.EXPECTED_VALUE:
        return break_even(policy.retention)
    return recall_floor(probability, y, policy.min_recall, policy.confidence)


def recall_floor(probability: Array, y: Labels, min_recall: float, confidence: float) -> float:
    """The threshold of highest precision among those whose recall surely reaches `min_recall`; the higher on a tie.

    Surely: its lower bound after Clopper & Pearson (1934), one-sided. Where too few positives could ever show it, the
    lowest threshold, which flags them all.
    """
    precision, recall, thresholds = precision_recall_curve(y, probability)
    positives = int(y.sum())
    hits = np.rint(recall[:-1] * positives)
    fits = np.flatnonzero(recall_bound(hits, positives, confidence) >= min_recall)
    if len(fits) == 0:
        return float(thresholds[0])
    best = fits[np.flatnonzero(precision[fits] == precision[fits].max())[-1]]
    return float(thresholds[best])


def recall_bound(hits: Array, positives: int, confidence: float) -> Array:
    """One-sided lower bound of the recall behind `hits` of `positives`."""
    bound: Array = np.nan_to_num(stats.beta.ppf(1 - confidence, hits, positives - hits + 1))
    return bound


def break_even(retention: Retention) -> float:
    """The probability of churn from which a contact pays for itself; 1 where none does.

    On calibrated probabilities no other threshold has a greater expected value.
    """
    worth = retention.acceptance * retention.uplift * retention.kept_customer_eur
    return min(1.0, retention.contact_cost_eur / worth)


def sensitivity(probability: Array, y: Labels, retention: Retention) -> pd.DataFrame:
    """What the threshold of greatest value becomes as each assumption is halved and doubled, one at a time.

    A row per assumption and factor: value assumed, threshold, flagged, precision, recall, and EUR by the labels per
    1,000 customers. Shares stop at 1.
    """
    rows = []
    for name, factor in product(Retention.model_fields, FACTORS):
        value = float(getattr(retention, name)) * factor
        if name in ("acceptance", "uplift"):
            value = min(1.0, value)
        assumed = retention.model_copy(update={name: value})
        threshold = break_even(assumed)
        flag = probability >= threshold
        kept = y[flag].sum() * assumed.acceptance * assumed.uplift * assumed.kept_customer_eur
        rows.append(
            {
                "assumption": name,
                "value": value,
                "threshold": threshold,
                "flagged": int(flag.sum()),
                "precision": float(y[flag].mean()) if flag.any() else 0.0,
                "recall": float(y[flag].sum() / y.sum()),
                "EUR per 1,000": float(1000 * (kept - flag.sum() * assumed.contact_cost_eur) / len(y)),
            }
        )
    return pd.DataFrame(rows)
