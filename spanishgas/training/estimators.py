"""The three estimators behind one interface: logistic regression, random forest and XGBoost.

All give a margin (log odds) by `decision_function`, which is the scale that Platt's calibration is defined on. Five
parameters are the project's own: class_weight (none or balanced), categories (one_hot or native), penalty (l2 or
elasticnet), limit, which says what ends a forest's trees (depth or leaves), and splits (best; random makes a forest
extremely randomised trees).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from xgboost import DMatrix, XGBClassifier

from spanishgas.config.reading import Value
from spanishgas.config.search import ModelKind
from spanishgas.settings import settings
from spanishgas.training.matrix import is_text

NATIVE = "native"
ELASTIC_TOLERANCE = 1e-2
"""SAGA's last digits cost ten times what they bring: average precision moves by 0.001."""


class BoostedTrees(XGBClassifier):
    """XGBoost's classifier, with its margin as the decision function."""

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log odds of churn, shape (rows,)."""
        margin: NDArray[np.float64] = self.predict(X, output_margin=True).astype("float64")
        return margin

    def contributions(self, X: Any) -> NDArray[np.float64]:
        """TreeSHAP values on the log-odds scale, shape (rows, encoded columns + 1); the last one is the bias."""
        rows = DMatrix(X, feature_types=self.feature_types, enable_categorical=True)
        attributions = self.get_booster().predict(rows, pred_contribs=True)
        return np.asarray(attributions, dtype="float64")


class _Votes:
    """Trees that vote, with the log odds of their vote as the decision function (votes clipped to half a tree)."""

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Votes, shape (rows, 2); one thread, since several add them up in an order that changes the last digit."""
        jobs = self.get_params(deep=False)["n_jobs"]  # type: ignore[attr-defined]
        try:
            votes: NDArray[np.float64] = super(_Votes, self.set_params(n_jobs=1)).predict_proba(X)  # type: ignore[attr-defined,misc]
        finally:
            self.set_params(n_jobs=jobs)  # type: ignore[attr-defined]
        return votes

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log odds of churn, shape (rows,); votes that differ by rounding alone are equal."""
        edge = 0.5 / self.n_estimators  # type: ignore[attr-defined]
        vote = np.clip(self.predict_proba(X)[:, 1].round(12), edge, 1 - edge)
        odds: NDArray[np.float64] = np.log(vote / (1 - vote))
        return odds


class Forest(_Votes, RandomForestClassifier):  # type: ignore[misc]
    """A random forest."""


class RandomisedTrees(_Votes, ExtraTreesClassifier):  # type: ignore[misc]
    """Extremely randomised trees (Geurts, Ernst & Wehenkel 2006)."""


class Linear(LogisticRegression):  # type: ignore[misc]
    """Logistic regression whose score of a row does not depend on the rows beside it."""

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log odds of churn, shape (rows,); a matrix product would round the last digit by the number of rows."""
        rows = np.ascontiguousarray(X, dtype="float64")
        odds: NDArray[np.float64] = (rows * self.coef_[0]).sum(axis=1) + self.intercept_[0]
        return odds


def is_native(params: Mapping[str, Value]) -> bool:
    """Whether the parameters leave categories to the estimator."""
    return params.get("categories") == NATIVE


def estimator(
    model: ModelKind,
    params: Mapping[str, Value],
    seed: int,
    *,
    balance: float = 1.0,
    types: Sequence[str] | None = None,
    threads: int | None = None,
) -> Any:
    """The unfitted estimator, which takes `threads` (those of the settings if None) and gives the same with any number.

    `balance` is rows of class 0 per row of class 1, which `class_weight: balanced` makes up for in XGBoost; `types` are
    XGBoost's types of the encoded columns, needed where categories are native.
    """
    options: dict[str, Any] = dict(params)
    weight = options.pop("class_weight", "none")
    weight = None if weight == "none" else weight
    native = options.pop("categories", "one_hot") == NATIVE
    jobs, state = threads or settings().threads or -1, seed % 2**32
    match model:
        case ModelKind.XGBOOST:
            if weight:
                options["scale_pos_weight"] = balance
            if options.get("grow_policy") == "lossguide":
                options.setdefault("max_depth", 0)
            if native:
                options |= {"enable_categorical": True, "feature_types": list(types or [])}
            return BoostedTrees(**options, random_state=state, n_jobs=jobs)
        case ModelKind.FOREST:
            options.pop("limit", None)  # it is told by which of max_depth and max_leaf_nodes is given
            trees = RandomisedTrees if options.pop("splits", "best") == "random" else Forest
            return trees(**options, class_weight=weight, random_state=state, n_jobs=jobs)
        case ModelKind.LOGISTIC:
            if options.pop("penalty", "l2") == "elasticnet":
                options |= {"solver": "saga", "tol": ELASTIC_TOLERANCE}
            return Linear(**options, class_weight=weight, random_state=state)


def column_types(features: Sequence[str], kinds: Mapping[str, str]) -> list[str]:
    """XGBoost's type of each column that the preprocessor gives with native categories: numbers first."""
    texts = sum(is_text(kinds[f]) for f in features)
    return ["float"] * (len(features) - texts) + ["c"] * texts
