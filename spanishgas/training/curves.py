"""Curves from margins to probabilities that rise strictly, so that calibrating a model changes no ranking.

What cross-validation measures of the margins' order, such as average precision, therefore holds of the probabilities
that are delivered. Equal margins keep equal probabilities.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

SURE = 12.0
"""Log odds beyond which they grow with their logarithm: next to 1 double precision runs out of numbers."""
TIE_BREAK = 0.01
"""The logistic curve's part in an isotonic one: enough to rise within its steps, too little to bend it."""
FLATTEST = 1e-3
"""Least rise in log odds per standard deviation of the margins: of those that rank by chance the best line may fall."""


class Curve(StrEnum):
    """How margins become probabilities."""

    SIGMOID = "sigmoid"
    ISOTONIC = "isotonic"


class RisingCurve(BaseEstimator):  # type: ignore[misc]
    """Platt's logistic curve, or isotonic regression with a hundredth of that curve in it.

    - `sigmoid`: logistic over the margins, fitted to the targets of Platt (1999), which no separation drives to 0 or 1
    - `isotonic`: any rising shape (Zadrozny & Elkan 2002); its steps, which give many customers one and the same
      probability, rise as the logistic curve does, and never reach 0 or 1
    """

    def __init__(self, shape: Curve = Curve.SIGMOID) -> None:
        self.shape = str(shape)

    def fit(self, margins: Array, y: Labels) -> RisingCurve:
        """Fit the curve to margins that a model gives of rows that it did not train on."""
        self.slope_, self.intercept_ = _platt(margins, y)
        self.steps_: Array | None = None
        if self.shape == Curve.ISOTONIC:
            fitted = IsotonicRegression().fit(margins, y)
            self.steps_ = np.stack([fitted.X_thresholds_, fitted.y_thresholds_])
        return self

    def predict(self, margins: Array) -> Array:
        """Probabilities of class 1, strictly rising with the margins as far as double precision goes."""
        odds = self.slope_ * margins + self.intercept_
        beyond = np.maximum(np.abs(odds) - SURE, 0.0)
        smooth: Array = expit(np.where(beyond > 0, np.sign(odds) * (SURE + np.log1p(beyond)), odds))
        if self.steps_ is None:
            return smooth
        return (1 - TIE_BREAK) * np.interp(margins, *self.steps_) + TIE_BREAK * smooth


def _platt(margins: Array, y: Labels) -> tuple[float, float]:
    churners, rows = int(y.sum()), len(y)
    target = np.where(y == 1, (churners + 1) / (churners + 2), 1 / (rows - churners + 2))
    centre, spread = float(margins.mean()), float(margins.std()) or 1.0
    scaled = np.tile((margins - centre) / spread, 2)[:, None]
    both, weight = np.repeat([1, 0], rows), np.concatenate([target, 1 - target])
    line = LogisticRegression(C=np.inf, tol=1e-6, max_iter=1000).fit(scaled, both, weight)
    slope, intercept = float(line.coef_[0, 0]), float(line.intercept_[0])
    if slope < FLATTEST:
        slope, intercept = FLATTEST, float(logit(target.mean()))
    return slope / spread, intercept - slope * centre / spread


class CalibratedMargins(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted classifier whose margin a fitted curve makes a probability."""

    def __init__(self, estimator: Any, curve: RisingCurve) -> None:
        self.estimator = estimator
        self.curve = curve

    def __sklearn_is_fitted__(self) -> bool:
        """Both parts arrive fitted."""
        return True

    @property
    def classes_(self) -> Any:
        """The labels that the classifier tells apart."""
        return self.estimator.classes_

    def predict_proba(self, X: Any) -> Array:
        """Calibrated probabilities, shape (rows, 2)."""
        positive = self.curve.predict(self.estimator.decision_function(X))
        return np.column_stack([1 - positive, positive])
