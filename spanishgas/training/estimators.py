"""The three estimators behind one interface: logistic regression, random forest and XGBoost.

All give a margin (log odds) by `decision_function`, which is the scale that Platt's calibration is defined on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier

from spanishgas.settings import settings
from spanishgas.training.experiment import ModelKind, Value
from spanishgas.training.matrix import preprocessor


class BoostedTrees(XGBClassifier):
    """XGBoost's classifier, with its margin as the decision function."""

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log odds of churn, shape (rows,)."""
        margin: NDArray[np.float64] = self.predict(X, output_margin=True).astype("float64")
        return margin


class Forest(RandomForestClassifier):  # type: ignore[misc]
    """A random forest, with the log odds of its vote as the decision function (votes clipped to half a tree)."""

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Votes, shape (rows, 2); one thread, since several add them up in an order that changes the last digit."""
        jobs = self.get_params(deep=False)["n_jobs"]
        try:
            votes: NDArray[np.float64] = super(Forest, self.set_params(n_jobs=1)).predict_proba(X)
        finally:
            self.set_params(n_jobs=jobs)
        return votes

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log odds of churn, shape (rows,)."""
        edge = 0.5 / self.n_estimators
        vote = np.clip(self.predict_proba(X)[:, 1], edge, 1 - edge)
        odds: NDArray[np.float64] = np.log(vote / (1 - vote))
        return odds


class Linear(LogisticRegression):  # type: ignore[misc]
    """Logistic regression whose score of a row does not depend on the rows beside it."""

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log odds of churn, shape (rows,); a matrix product would round the last digit by the number of rows."""
        rows = np.ascontiguousarray(X, dtype="float64")
        odds: NDArray[np.float64] = (rows * self.coef_[0]).sum(axis=1) + self.intercept_[0]
        return odds


def estimator(model: ModelKind, params: Mapping[str, Value], seed: int) -> Any:
    """The unfitted estimator; a class_weight of "none" means none."""
    given = {k: None if k == "class_weight" and v == "none" else v for k, v in params.items()}
    jobs = settings().threads or -1
    match model:
        case ModelKind.XGBOOST:
            return BoostedTrees(**given, random_state=seed, n_jobs=jobs)
        case ModelKind.FOREST:
            return Forest(**given, random_state=seed, n_jobs=jobs)
        case ModelKind.LOGISTIC:
            return Linear(**given, random_state=seed)


def pipeline(
    model: ModelKind,
    params: Mapping[str, Value],
    features: Sequence[str],
    kinds: Mapping[str, str],
    seed: int,
) -> Pipeline:
    """Preprocessing and estimator as one unfitted object."""
    return Pipeline(
        [
            ("prepare", preprocessor(features, kinds, linear=model.linear)),
            ("model", estimator(model, params, seed)),
        ]
    )
