"""From margins to probabilities, on predictions that the model did not train on.

Two curves are tried across folds: Platt's, a logistic curve over log odds (Platt 1999), and isotonic regression, which
follows any rising shape (Zadrozny & Elkan 2002). The lower Brier score wins; isotonic's steps give many customers
one and the same probability, so it must win by more than one paired standard error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from spanishgas.config.policy import Judgement
from spanishgas.config.reading import Value
from spanishgas.training.fitting import Training, refit
from spanishgas.training.folds import folds, fresh_folds
from spanishgas.training.model import ChurnModel
from spanishgas.training.threshold import choose_threshold

Array = NDArray[np.float64]


class Curve(StrEnum):
    """How margins become probabilities."""

    SIGMOID = "sigmoid"
    ISOTONIC = "isotonic"


def cross_calibrated(
    margins: Array, y: NDArray[np.int64], count: int, seed: int, curve: Curve = Curve.SIGMOID
) -> Array:
    """Probabilities from out-of-fold `margins`, each calibrated by a curve that did not see its row."""
    probabilities = np.empty(len(y))
    for fold in folds(y, count, seed):
        probabilities[fold.valid] = _calibrate(curve, margins[fold.train], y[fold.train], margins[fold.valid])
    return probabilities


def _calibrate(curve: Curve, margins: Array, y: NDArray[np.int64], fresh: Array) -> Array:
    if curve is Curve.ISOTONIC:
        steps: Array = IsotonicRegression(out_of_bounds="clip").fit(margins, y).predict(fresh)
        return steps
    logistic: Array = (
        LogisticRegression(C=np.inf).fit(margins[:, None], y).predict_proba(fresh[:, None])[:, 1]
    )
    return logistic


@dataclass(frozen=True)
class Calibrated:
    """Out-of-fold probabilities by the better curve."""

    curve: Curve
    brier: Mapping[str, float]
    """Brier score by curve, across folds."""
    probability: Array = field(repr=False)


def calibrated(margins: Array, y: NDArray[np.int64], count: int, seed: int) -> Calibrated:
    """Both curves across folds, and the one that is taken."""
    tried = {curve: cross_calibrated(margins, y, count, seed, curve) for curve in Curve}
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


def fit_chosen(training: Training, params: Mapping[str, Value], policy: Judgement) -> Fitted:
    """Choose curve and threshold out of fold, then fit on the whole training side."""
    _, margins = refit(replace(training, repeats=1), params)
    found = calibrated(margins, training.y, training.folds, training.seed)
    threshold = choose_threshold(found.probability, training.y, policy.threshold)
    return Fitted(fit_final(training, params, threshold, policy, found.curve), found)


def fit_final(
    training: Training,
    params: Mapping[str, Value],
    threshold: float,
    policy: Judgement,
    curve: Curve = Curve.SIGMOID,
) -> ChurnModel:
    """The object that is shipped: fitted on the whole training side, calibrated out of fold, with its threshold."""
    return ChurnModel(
        fit_calibrated(training, training.unfitted(params), curve),
        features=list(training.features),
        kinds=dict(training.kinds),
        threshold=threshold,
        risk_tiers=dict(policy.risk_tiers),
    )


def fit_calibrated(training: Training, unfitted: Any, curve: Curve) -> CalibratedClassifierCV:
    """The classifier fitted on every row, its curve on predictions across the first fresh folds."""
    parts = [(f.train, f.valid) for f in fresh_folds(training.y, training.folds, training.seed)]
    found = CalibratedClassifierCV(unfitted, method=str(curve), cv=parts, ensemble=False)
    found.fit(training.X, training.y)
    found.cv = None  # the folds are row numbers of the training data: they end here
    return found
