"""Boosted trees blended with extremely randomised ones, for `tune`, where that pays.

Their splits lie at random places (Geurts, Ernst & Wehenkel 2006), so a sum of them is smoother than boosted trees: on
tables whose numbers work together they see what boosting cuts in pieces, on others they add noise. What is added is
their log odds, times a weight that the fresh folds choose: zero, unless another is better by more than one paired
standard error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import average_precision_score

from spanishgas.config.reading import Value
from spanishgas.config.search import ModelKind
from spanishgas.training.fitting import Training, refit
from spanishgas.training.folds import fold_error, fresh_folds

Array = NDArray[np.float64]

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
TREES: Mapping[str, Value] = {
    "splits": "random",
    "n_estimators": 300,
    "max_features": 0.6,
    "min_samples_leaf": 2,
}
MOST_ROWS = 20_000
"""Rows that an extremely randomised tree grows on, drawn anew for each, so that large tables do not wait for it."""


class Blend(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Two classifiers whose log odds are added: the first's, and `weight` times the second's."""

    def __init__(self, first: Any, second: Any, weight: float) -> None:
        self.first = first
        self.second = second
        self.weight = weight

    def fit(self, X: Any, y: Any) -> Self:
        """Fit both on the same rows."""
        self.first_ = clone(self.first).fit(X, y)
        self.second_ = clone(self.second).fit(X, y)
        self.classes_ = self.first_.classes_
        return self

    def decision_function(self, X: Any) -> Array:
        """Log odds of the second class, shape (rows,)."""
        odds: Array = self.first_.decision_function(X) + self.weight * self.second_.decision_function(X)
        return odds

    def predict(self, X: Any) -> NDArray[Any]:
        """The likelier class of each row."""
        likelier: NDArray[Any] = self.classes_[(self.decision_function(X) > 0).astype("int64")]
        return likelier


@dataclass(frozen=True)
class BlendChoice:
    """The blend weight, and what both kinds of trees together reach on the fresh folds."""

    weight: float
    fold_scores: list[float]
    """Average precision per fresh fold, each with the weight that the other folds choose."""
    margins: Array = field(repr=False)
    """Out-of-fold log odds, one per training row."""


def choose_blend(training: Training, margins: Array) -> BlendChoice:
    """Try extremely randomised trees on the folds that gave `margins`, the first repeat's of `refit`."""
    _, other = refit(*_trees(training))
    blends = [margins + weight * other for weight in WEIGHTS]
    parts = fresh_folds(training.y, training.folds, training.seed)
    scores = np.array(
        [[average_precision_score(training.y[p.valid], b[p.valid]) for b in blends] for p in parts]
    )
    best = _chosen(scores)
    honest = [float(row[_chosen(np.delete(scores, fold, axis=0))]) for fold, row in enumerate(scores)]
    return BlendChoice(WEIGHTS[best], honest, blends[best])


def _chosen(scores: Array) -> int:
    """Which weight the folds, a row each, call best; the first, zero, where it is within one standard error of that.

    The rule by which rungs are chosen too, of paired scores and corrected for the rows that folds share. Two folds
    cannot say.
    """
    best = int(scores.mean(axis=0).argmax())
    gain = (scores[:, best] - scores[:, 0]).tolist()
    return best if len(gain) > 2 and np.mean(gain) > fold_error(gain) else 0


def blended(training: Training, params: Mapping[str, Value], weight: float) -> Any:
    """The unfitted estimator: the tuned one alone where the second counts for nothing."""
    first, (trees, settings) = training.unfitted(params), _trees(training)
    return Blend(first, trees.unfitted(settings), weight) if weight else first


def _trees(training: Training) -> tuple[Training, dict[str, Value]]:
    """The same rows for extremely randomised trees, and their parameters."""
    drawn = len(training.y) >= 2 * MOST_ROWS  # the training side of a fold is half of that or more
    size: dict[str, Value] = {"bootstrap": True, "max_samples": MOST_ROWS} if drawn else {}
    return replace(training, model=ModelKind.FOREST, repeats=1), {**TREES, **size}
