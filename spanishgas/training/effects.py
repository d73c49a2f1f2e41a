"""Candidates for the effect of a treatment on the probability of an outcome, and how they are mixed.

Two kinds: models of the outcome that are asked under both arms, and regressions of doubly robust pseudo-outcomes. They
differ in what they assume of an effect (it follows the risk, few columns tell it, it jumps); which of that holds in a
table, the table says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso, LogisticRegression
from xgboost import XGBClassifier, XGBRegressor

Array = NDArray[np.float64]
MOST_ROWS = 20_000
"""Rows that each tree of a forest grows on, so that large tables do not wait for it."""


@dataclass(frozen=True)
class EffectCandidate:
    """One way to learn the effect, not yet fitted."""

    name: str
    estimator: Any
    linear: bool
    """Whether it reads the matrix for linear models; else that for trees."""

    @property
    def of_outcome(self) -> bool:
        """Whether it models the outcome rather than the effect."""
        return isinstance(self.estimator, ArmsModel)


class ArmsModel(BaseEstimator):  # type: ignore[misc]
    """P(y = 1) under either arm by one classifier of features and treatment, which shrinks effects by what it is.

    Linear ones get each feature's product with the treatment, at half its size: a product pays four times the penalty.
    """

    def __init__(self, classifier: Any, crossed: bool = False) -> None:
        self.classifier = classifier
        self.crossed = crossed

    def fit(self, X: Array, treated: Array, y: NDArray[np.int64]) -> Self:
        """Learn from rows under the arm that they were in."""
        self.share_ = float(treated.mean())
        self.fitted_ = clone(self.classifier).fit(self._design(X, treated), y)
        return self

    def arms(self, X: Array) -> Array:
        """P(y = 1) without and with the treatment, shape (rows, 2)."""
        both = [np.full(len(X), arm) for arm in (0.0, 1.0)]
        return np.column_stack([self.fitted_.predict_proba(self._design(X, t))[:, 1] for t in both]).astype(
            "float64"
        )

    def _design(self, X: Array, treated: Array) -> Array:
        off = (treated - self.share_)[:, None]
        return np.hstack([X, off, X * off / 2] if self.crossed else [X, treated[:, None]])


def candidates(trials: int, rows: int, seed: int) -> list[EffectCandidate]:
    """The first `trials` of a dozen; outcomes and effects, linear and of trees, take turns.

    There are no more: trees with drawn hyperparameters say alike what these say, and drown the sparse ones.
    """
    listed = [
        _logistic(0.03),
        _joint(3, 0.04, 300, 20.0, 5.0, seed),
        _boosted(1, 100, 0.005, rows, seed),
        _sparse(2.0, rows),
        _forest(0.02, rows, seed),
        _joint(2, 0.06, 150, 40.0, 10.0, seed),
        _sparse(1.0, rows),
        _sparse(3.0, rows),
        _boosted(2, 100, 0.02, rows, seed),
        _forest(0.05, rows, seed),
        _sparse(0.5, rows),
        _logistic(0.3),
    ]
    return listed[:trials]


def _logistic(C: float) -> EffectCandidate:
    model = LogisticRegression(C=C, max_iter=500, tol=1e-3)
    return EffectCandidate(f"logistic, C={C}", ArmsModel(model, crossed=True), True)


def _joint(depth: int, rate: float, trees: int, least: float, penalty: float, seed: int) -> EffectCandidate:
    model = XGBClassifier(
        max_depth=depth, learning_rate=rate, n_estimators=trees, min_child_weight=least, reg_lambda=penalty,
        subsample=0.6, colsample_bytree=0.7, max_bin=64, random_state=seed % 2**32, n_jobs=1,
    )  # fmt: skip
    return EffectCandidate(f"boosted outcome, {trees} trees of depth {depth}", ArmsModel(model), False)


def _sparse(strength: float, rows: int) -> EffectCandidate:
    # of targets with unit variance
    return EffectCandidate(f"lasso, {strength}", Lasso(alpha=strength / np.sqrt(rows), tol=1e-3), True)


def _forest(leaf: float, rows: int, seed: int) -> EffectCandidate:
    model = RandomForestRegressor(
        100, min_samples_leaf=leaf, max_features=0.5, bootstrap=True, max_samples=min(rows // 2, MOST_ROWS),
        random_state=seed % 2**32, n_jobs=1,
    )  # fmt: skip
    return EffectCandidate(f"forest, leaves of {leaf}", model, False)


def _boosted(depth: int, trees: int, least: float, rows: int, seed: int) -> EffectCandidate:
    model = XGBRegressor(
        max_depth=depth, learning_rate=0.04, n_estimators=trees, min_child_weight=least * rows,
        reg_lambda=least * rows, subsample=0.6, colsample_bytree=0.7, max_bin=64, base_score=0.0,
        random_state=seed % 2**32, n_jobs=1,
    )  # fmt: skip
    return EffectCandidate(f"boosted effect, {trees} trees of depth {depth}", model, False)


def mixed(predictions: Array, target: Array) -> Array:
    """Convex weights of the columns of `predictions` by least squares, with equal ones as the prior of variance 1.

    As convex weights shrink what several say alike and drop what only fits noise, no effect varies without proof:
    a column may be constant. Of columns without predictive value the prior keeps the mean, which varies least.
    """
    columns, noise = predictions.shape[1], float(target.var())
    gram = predictions.T @ predictions + noise * np.eye(columns)
    moment = predictions.T @ target + noise / columns
    heavy = 1e3 * np.trace(gram) / columns  # the weights sum to one
    root = np.linalg.cholesky(gram + heavy + 1e-9 * np.trace(gram) * np.eye(columns))
    weights, _ = nnls(root.T, np.linalg.solve(root, moment + heavy))
    convex: Array = weights / weights.sum()
    return convex
