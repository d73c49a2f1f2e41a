"""`tune`: a table and labels in, a fitted and calibrated classifier out, with nothing prepared beforehand.

    table -> roles of its columns -> search on folds -> best parameters on fresh folds -> a blend, where it pays
    -> calibrated out of fold

Numbers, truth values, dates, categories and texts may be missing anywhere. It is a scikit-learn classifier: it can be
cloned, cross-validated and put into a pipeline.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from spanishgas.config.policy import load_policy
from spanishgas.config.search import family, load_search
from spanishgas.errors import DataError, UsageError
from spanishgas.training.blend import TUNED, BlendChoice, blended, choose_blend
from spanishgas.training.calibration import calibrated, fit_calibrated, recall_floor
from spanishgas.training.columns import LearnsColumns, table_of
from spanishgas.training.fitting import Training
from spanishgas.training.search import search


class TunedClassifier(LearnsColumns, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that chooses its own hyperparameters by cross-validated average precision, then calibrates itself.

    After `fit`:
    - `classes_`: the two labels, sorted; the second is the positive one unless `positive` names the other
    - `best_params_`, `trials_` (a row per trial), `cv_scores_` (average precision per fold that no search saw)
    - `blend_weights_`: the weight of each kind of trees whose log odds are added, `tuned` first; it alone where no
      other was kept. `blend_weight_` is the others' share of all weights
    - `threshold_`: where `predict` cuts the calibrated probability: the highest precision at which recall's lower bound
      meets the policy's floor
    """

    def __init__(
        self,
        model: str = "xgboost",
        *,
        trials: int = 25,
        folds: int = 5,
        seed: int = 0,
        positive: Any = None,
        blend: bool = True,
    ) -> None:
        self.model = model
        self.trials = trials
        self.folds = folds
        self.seed = seed
        self.positive = positive
        self.blend = blend

    def fit(self, X: Any, y: Any) -> Self:
        """Search, calibrate, choose the threshold; DataError or UsageError says what is wrong with X, y or options."""
        family(self.model)  # refuses an unknown one
        table = table_of(X)
        if self.folds < 2:
            raise UsageError(f"folds must be at least 2, but got {self.folds}: give folds=5 or so")
        self.classes_ = _classes(y, len(table), self.folds)
        target = self.classes_[1] if self.positive is None else self.positive
        if target not in self.classes_:
            raise UsageError(
                f"positive is {target!r}, but the labels are {list(self.classes_)}: name one of them"
            )
        self.positive_ = int(np.flatnonzero(self.classes_ == target)[0])
        labels = (np.asarray(y).ravel() == target).astype("int64")
        self._learn_columns(table)
        columns = list(self.roles_)
        training = Training(
            self._prepared(table), labels, columns, self.roles_, self.model, self.folds, self.seed
        )
        result = search(training, load_search().of(self.model), self.trials)
        self.best_params_ = dict(result.best.params)
        blend = BlendChoice({TUNED: 1.0}, result.fold_scores, result.margins)
        if self.blend and family(self.model).blends:
            blend = choose_blend(training, result.margins)
        self.blend_weights_ = dict(blend.weights)
        self.blend_weight_ = 1 - blend.weights[TUNED] / sum(blend.weights.values())
        self.cv_scores_ = np.array(blend.fold_scores)
        self.trials_ = pd.DataFrame(
            [{"score": t.score, "pruned": t.pruned, "seconds": t.seconds, **t.params} for t in result.trials]
        )
        chosen = calibrated(blend.margins, labels, self.folds, self.seed)
        floor = load_policy().threshold
        self.threshold_ = recall_floor(chosen.probability, labels, floor.min_recall, floor.confidence)
        unfitted = blended(training, self.best_params_, blend.weights)
        self.calibrated_ = fit_calibrated(training, unfitted, blend.margins, chosen.curve)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Calibrated probabilities, a column per label in the order of `classes_`."""
        if not hasattr(self, "calibrated_"):
            raise NotFittedError("this TunedClassifier is not fitted yet: call fit(X, y) first")
        table = self._checked(X)
        if len(table) == 0:
            return np.empty((0, 2))
        positive = self.calibrated_.predict_proba(self._prepared(table))[:, 1]
        both: NDArray[np.float64] = np.column_stack([1 - positive, positive])
        return both if self.positive_ == 1 else both[:, ::-1]

    def predict(self, X: Any) -> NDArray[Any]:
        """The positive label where its probability reaches `threshold_`, the other one elsewhere."""
        flagged = self.predict_proba(X)[:, self.positive_] >= self.threshold_
        chosen: NDArray[Any] = self.classes_[np.where(flagged, self.positive_, 1 - self.positive_)]
        return chosen


def tune(
    X: Any,
    y: Any,
    model: str = "xgboost",
    trials: int = 25,
    folds: int = 5,
    seed: int = 0,
    *,
    positive: Any = None,
    blend: bool = True,
) -> TunedClassifier:
    """A classifier tuned by `trials` trials on `folds` folds, fitted on all of `X` and calibrated out of fold.

    Args:
        X: a table with a row per case: numbers, truth values, dates, categories, texts; missing where it likes.
        y: a label per row, of two kinds.
        model: xgboost, forest or logistic.
        trials: sets of hyperparameters to try.
        folds: folds of the cross-validation; every label is needed that often.
        seed: the same seed gives the same classifier.
        positive: the label whose probability is tuned for; by default the one that sorts last.
        blend: beside xgboost, whether other kinds of trees may be added where fresh folds say that they pay.

    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"age": rng.integers(18, 90, 200), "plan": rng.choice(["basic", "full"], 200)})
    >>> y = np.where(X["age"] + rng.normal(0, 10, 200) > 60, "left", "stayed")
    >>> tuned = tune(X, y, model="logistic", trials=2, positive="left")
    >>> list(tuned.classes_), tuned.predict_proba(X).shape, len(tuned.cv_scores_)
    ([np.str_('left'), np.str_('stayed')], (200, 2), 5)
    """
    unfitted = TunedClassifier(model, trials=trials, folds=folds, seed=seed, positive=positive, blend=blend)
    return unfitted.fit(X, y)


def _classes(y: Any, rows: int, count: int) -> NDArray[Any]:
    labels = pd.Series(np.asarray(y).ravel())
    if len(labels) != rows:
        raise DataError(f"X has {rows} rows, but y has {len(labels)} labels: give one label per row")
    if rows == 0:
        raise DataError("the table has no rows: give some to learn from")
    if missing := int(labels.isna().sum()):
        raise DataError(f"y has {missing} missing labels: drop those rows")
    counts = labels.value_counts()
    if len(counts) != 2:
        shown = counts.index.tolist()[:5]
        raise DataError(f"y must have two kinds of label, but has {len(counts)}: {shown}")
    if counts.min() < count:
        raise DataError(
            f"y has only {counts.min()} rows of {counts.index[-1]}, fewer than the {count} folds: "
            "give more of them, or fewer folds"
        )
    try:
        classes: NDArray[Any] = np.unique(np.asarray(y).ravel())
    except TypeError as fault:
        raise DataError(
            f"the labels {counts.index.tolist()} are of two types, so neither sorts first: give both as texts"
        ) from fault
    return classes
