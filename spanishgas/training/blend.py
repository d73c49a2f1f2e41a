"""The tuned model blended with other kinds of trees, for `tune`, where that pays.

    fresh folds -> out-of-fold log odds of each member -> weights -> a sum of log odds -> calibrated like any margin

Kinds of trees err differently: splits at random places are smoother than boosting's (Geurts, Ernst & Wehenkel 2006),
symmetric trees with ordered target statistics overfit less, texts above all (CatBoost: Prokhorenkova et al. 2018), and
trees grown leaf by leaf see rare corners. What is added are their log odds, with the weights that minimise the log loss
out of fold and are not negative (stacking: Breiman 1996), drawn a little towards the tuned model alone.

Members of packages that are not installed (extra `boosting`) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline

from spanishgas.config.reading import Value
from spanishgas.config.search import FOREST
from spanishgas.settings import settings
from spanishgas.training.fitting import Training
from spanishgas.training.folds import Fold, fresh_folds

Array = NDArray[np.float64]

TUNED = "tuned"
TREES: Mapping[str, Value] = {
    "splits": "random",
    "n_estimators": 300,
    "max_features": 0.6,
    "min_samples_leaf": 2,
}
MOST_ROWS = 20_000
"""Rows that an extremely randomised tree grows on, drawn anew for each, so that large tables do not wait for it."""
LEAST_WEIGHT = 0.05
"""A member that counts for less is left out: it costs more than it brings."""
WORTH_TRYING = 0.1
"""Weight on the first fold from which a member is fitted on the others too."""


class SymmetricTrees(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """CatBoost on the table as it is; the same with any number of threads, for it takes one."""

    def __init__(self, trees: int = 400, learning_rate: float = 0.08, seed: int = 0) -> None:
        self.trees = trees
        self.learning_rate = learning_rate
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: NDArray[np.int64]) -> Self:
        """Grow the trees; texts become statistics of the labels of the rows before each, in random orders."""
        from catboost import CatBoostClassifier

        self.texts_ = list(X.select_dtypes(exclude="number").columns)
        self.classes_ = np.array([0, 1])
        self.varies_ = bool((X.nunique(dropna=False) > 1).any())
        if not self.varies_:  # CatBoost refuses such a table
            return self
        self.model_ = CatBoostClassifier(
            iterations=self.trees,
            learning_rate=self.learning_rate,
            cat_features=self.texts_,
            random_seed=self.seed % 2**31,
            thread_count=1,
            allow_writing_files=False,
            verbose=0,
        ).fit(self._spelt(X), y)
        return self

    def decision_function(self, X: pd.DataFrame) -> Array:
        """Log odds of the second class, shape (rows,)."""
        if not self.varies_:
            return np.zeros(len(X))
        odds: Array = np.asarray(self.model_.predict(self._spelt(X), prediction_type="RawFormulaVal"))
        return odds

    def _spelt(self, X: pd.DataFrame) -> pd.DataFrame:
        return X.assign(**{name: X[name].astype(object).fillna("(missing)").map(str) for name in self.texts_})


class LeafwiseTrees(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """LightGBM on a matrix of numbers; the same with any number of threads, for it takes one."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: Array, y: NDArray[np.int64]) -> Self:
        """Grow the trees, each on draws of rows and columns."""
        from lightgbm import Dataset, train

        terms = {"objective": "binary", "learning_rate": 0.04, "num_leaves": 15, "min_data_in_leaf": 20}
        terms |= {"bagging_fraction": 0.8, "bagging_freq": 1, "feature_fraction": 0.7, "lambda_l2": 3.0}
        terms |= {"num_threads": 1, "seed": self.seed % 2**31, "deterministic": True, "verbosity": -1}
        self.model_ = train(terms, Dataset(X, y), num_boost_round=300)
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, X: Array) -> Array:
        """Log odds of the second class, shape (rows,)."""
        odds: Array = np.asarray(self.model_.predict(X, raw_score=True, num_threads=1))
        return odds


class Histograms(HistGradientBoostingClassifier):  # type: ignore[misc]
    """Scikit-learn's boosting on a matrix of numbers, of which a column may hold none."""

    def fit(self, X: Array, y: NDArray[np.int64]) -> Self:
        """Grow the trees; scikit-learn finds no bins in a column without a value."""
        fitted: Self = super().fit(np.where(np.isnan(X).all(axis=0), 0.0, X), y)
        return fitted


class Blend(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifiers whose log odds are added, each times its weight."""

    def __init__(self, members: Sequence[Any], weights: Sequence[float]) -> None:
        self.members = members
        self.weights = weights

    def fit(self, X: Any, y: Any) -> Self:
        """Fit all on the same rows."""
        self.members_ = [clone(member).fit(X, y) for member in self.members]
        self.classes_ = self.members_[0].classes_
        return self

    def decision_function(self, X: Any) -> Array:
        """Log odds of the second class, shape (rows,)."""
        odds = [m.decision_function(X) * w for m, w in zip(self.members_, self.weights, strict=True)]
        total: Array = np.sum(odds, axis=0)
        return total

    def predict(self, X: Any) -> NDArray[Any]:
        """The likelier class of each row."""
        likelier: NDArray[Any] = self.classes_[(self.decision_function(X) > 0).astype("int64")]
        return likelier


@dataclass(frozen=True)
class BlendChoice:
    """The weight of each member that is kept, and what they reach together on the fresh folds."""

    weights: Mapping[str, float]
    fold_scores: list[float]
    """Average precision per fresh fold, each with the weights that the other folds choose."""
    margins: Array = field(repr=False)
    """Out-of-fold log odds, one per training row."""


def choose_blend(training: Training, margins: Array) -> BlendChoice:
    """Try the members on the folds that gave `margins`, the tuned model's of the first repeat of `refit`.

    The tuned model stays alone where the blend does not score better on folds that did not choose its weights.
    """
    y, parts = training.y, fresh_folds(training.y, training.folds, training.seed)
    odds = {TUNED: margins} | _members_margins(training, parts, margins)
    blend = _weighted(odds, y)
    alone = [float(average_precision_score(y[part.valid], margins[part.valid])) for part in parts]
    if len(blend) > 1:
        kept = {name: odds[name] for name in blend}
        nested = [_fold_score(kept, y, part) for part in parts]
        if np.mean(nested) > np.mean(alone):
            return BlendChoice(blend, nested, np.sum([w * odds[name] for name, w in blend.items()], axis=0))
    return BlendChoice({TUNED: 1.0}, alone, margins)


def blended(training: Training, params: Mapping[str, Value], weights: Mapping[str, float]) -> Any:
    """The unfitted estimator: the tuned one alone where no other is kept."""
    tuned = training.unfitted(params)
    others = {name: MEMBERS[name](training) for name in weights if name != TUNED}
    return Blend([tuned, *others.values()], list(weights.values())) if others else tuned


def stack(odds: Array, y: NDArray[np.int64]) -> Array:
    """Weights of log odds of shape (rows, members), the first the tuned model's, that minimise the log loss.

    None is negative. An intercept goes with them, and a normal prior around the tuned model alone, worth one row.
    """
    alone = np.eye(odds.shape[1])[0]

    def loss(terms: Array) -> tuple[float, Array]:
        weights, margin = terms[1:], odds @ terms[1:] + terms[0]
        error, off = expit(margin) - y, weights - alone
        value = np.logaddexp(0, margin).sum() - y @ margin + off @ off
        return float(value) / len(y), np.append(error.sum(), error @ odds + 2 * off) / len(y)

    bounds = [(None, None), *[(0, None)] * odds.shape[1]]
    weights: Array = minimize(loss, np.append(0, alone), jac=True, method="L-BFGS-B", bounds=bounds).x[1:]
    return weights


def _weighted(odds: Mapping[str, Array], y: NDArray[np.int64]) -> dict[str, float]:
    """The weights of the tuned model and of the members that count for something."""
    weights = dict(zip(odds, stack(np.stack([*odds.values()], axis=1), y).tolist(), strict=True))
    kept = [name for name in odds if name == TUNED or weights[name] >= LEAST_WEIGHT]
    if len(kept) == len(odds):
        return weights
    return _weighted({name: odds[name] for name in kept}, y) if len(kept) > 1 else {TUNED: 1.0}


def _fold_score(odds: Mapping[str, Array], y: NDArray[np.int64], part: Fold) -> float:
    table = np.stack([*odds.values()], axis=1)
    weights = stack(table[part.train], y[part.train])
    return float(average_precision_score(y[part.valid], table[part.valid] @ weights))


def _members_margins(training: Training, parts: Sequence[Fold], margins: Array) -> dict[str, Array]:
    """Out-of-fold log odds of the members that count for something beside `margins` on the first fold."""
    odds = dict[str, Array]()
    with ThreadPoolExecutor(min(settings().cores, len(parts))) as pool:
        for name, member in MEMBERS.items():
            if (unfitted := member(training)) is None:
                continue
            first = _fold_margins(training, unfitted, parts[0])
            valid = parts[0].valid
            if stack(np.column_stack([margins[valid], first]), training.y[valid])[1] < WORTH_TRYING:
                continue
            rest = pool.map(lambda part, m=unfitted: _fold_margins(training, m, part), parts[1:])
            odds[name] = np.empty(len(training.y))
            for part, values in zip(parts, [first, *rest], strict=True):
                odds[name][part.valid] = values
    return odds


def _fold_margins(training: Training, unfitted: Any, part: Fold) -> Array:
    fitted = clone(unfitted).fit(training.X.iloc[part.train], training.y[part.train])
    margins: Array = fitted.decision_function(training.X.iloc[part.valid])
    return margins


def _random_splits(training: Training) -> Any:
    drawn = len(training.y) >= 2 * MOST_ROWS  # the training side of a fold is half of that or more
    size: dict[str, Value] = {"bootstrap": True, "max_samples": MOST_ROWS} if drawn else {}
    return replace(training, model=FOREST).unfitted({**TREES, **size})


def _histograms(training: Training) -> Any:
    trees = Histograms(
        learning_rate=0.05,
        max_iter=250,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=training.seed % 2**32,
    )
    return make_pipeline(training.preprocessor({}), trees)


def _symmetric(training: Training) -> Any:
    return SymmetricTrees(seed=training.seed) if find_spec("catboost") else None


def _leafwise(training: Training) -> Any:
    trees = LeafwiseTrees(seed=training.seed)
    return make_pipeline(training.preprocessor({}), trees) if find_spec("lightgbm") else None


MEMBERS: Mapping[str, Callable[[Training], Any]] = {
    "random_splits": _random_splits,
    "histograms": _histograms,
    "symmetric": _symmetric,
    "leafwise": _leafwise,
}
"""What makes each member's unfitted classifier; None where its package is not installed."""
