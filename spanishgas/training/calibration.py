"""From margins to probabilities, and the threshold on them: both on predictions the model did not train on.

The calibrator is Platt's: a logistic curve over log odds, fitted on out-of-fold margins (Platt 1999). The threshold is
chosen on probabilities that were calibrated across folds too, so it stands on the scale it is applied to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from sklearn.pipeline import Pipeline

from spanishgas.training.estimators import pipeline
from spanishgas.training.experiment import Policy, Value
from spanishgas.training.folds import FRESH, folds
from spanishgas.training.model import ChurnModel
from spanishgas.training.search import Training

Array = NDArray[np.float64]


def cross_calibrated(margins: Array, y: NDArray[np.int64], count: int, seed: int) -> Array:
    """Probabilities from out-of-fold `margins`, each calibrated by a curve that did not see its row."""
    probabilities = np.empty(len(y))
    for fold in folds(y, count, seed):
        curve = LogisticRegression(C=np.inf).fit(margins[fold.train, None], y[fold.train])
        probabilities[fold.valid] = curve.predict_proba(margins[fold.valid, None])[:, 1]
    return probabilities


def choose_threshold(probabilities: Array, y: NDArray[np.int64], min_recall: float) -> float:
    """The threshold of highest precision among those with recall >= `min_recall`; the higher one on a tie."""
    precision, recall, thresholds = precision_recall_curve(y, probabilities)
    fits = np.flatnonzero(recall[:-1] >= min_recall)
    best = fits[np.flatnonzero(precision[fits] == precision[fits].max())[-1]]
    return float(thresholds[best])


def fit_final(training: Training, params: dict[str, Value], threshold: float, policy: Policy) -> ChurnModel:
    """The object that is shipped: fitted on the whole training side, calibrated out of fold, with its threshold."""
    calibrated = CalibratedClassifierCV(
        _pipeline(training, params),
        method="sigmoid",
        cv=[(f.train, f.valid) for f in folds(training.y, training.folds, training.seed + FRESH)],
        ensemble=False,
    ).fit(training.X, training.y)
    calibrated.cv = None  # the folds are row numbers of the training data: they end here
    return ChurnModel(
        calibrated,
        features=list(training.features),
        kinds=dict(training.kinds),
        threshold=threshold,
        risk_tiers=dict(policy.risk_tiers),
    )


def _pipeline(training: Training, params: dict[str, Value]) -> Pipeline:
    return pipeline(training.model, params, training.features, training.kinds, training.seed)
