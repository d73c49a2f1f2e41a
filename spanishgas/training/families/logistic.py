"""Logistic regression, with an L2 penalty or an elastic net."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

FAMILY = {
    "parameters": {"count": ["max_iter"], "positive": ["C"], "fraction": ["l1_ratio"]},
    "choices": {"penalty": ["l2", "elasticnet"], "class_weight": ["none", "balanced"]},
    "only_with": {"l1_ratio": {"penalty": "elasticnet"}},
    "linear": True,
    "trusted": ["spanishgas.training.families.logistic.Linear"],
}
ELASTIC_TOLERANCE = 1e-2
"""SAGA's last digits cost ten times what they bring: average precision moves by 0.001."""


def build(options: dict[str, Any], **_: object) -> Linear:
    """The unfitted estimator; `penalty` is the project's own word for the solver's."""
    options.pop("n_jobs")
    if options.pop("penalty", "l2") == "elasticnet":
        options |= {"solver": "saga", "tol": ELASTIC_TOLERANCE}
    return Linear(**options)


class Linear(LogisticRegression):  # type: ignore[misc]
    """Logistic regression whose score of a row does not depend on the rows beside it."""

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Log odds of churn, shape (rows,); a matrix product would round the last digit by the number of rows."""
        rows = np.ascontiguousarray(X, dtype="float64")
        odds: NDArray[np.float64] = (rows * self.coef_[0]).sum(axis=1) + self.intercept_[0]
        return odds

    def contributions(self, X: Any) -> NDArray[np.float64]:
        """Each column's term, shape (rows, columns); numbers are standardised, a flag counts against its absence."""
        return np.asarray(X * self.coef_[0])
