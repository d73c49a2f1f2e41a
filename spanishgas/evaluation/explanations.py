"""Why a customer is at risk: the model's own additive attributions on the log-odds scale, per source feature.

XGBoost gives TreeSHAP contributions, a linear model its terms against the training mean, a forest the change of the
vote along each tree's path (Saabas 2014). Encoded columns of one feature are summed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from spanishgas.training.estimators import BoostedTrees, Forest
from spanishgas.training.matrix import encoded_sources
from spanishgas.training.model import ChurnModel

Array = NDArray[np.float64]


def contributions(model: ChurnModel, frame: pd.DataFrame) -> pd.DataFrame:
    """What each feature adds to each customer's risk: rows like `frame`, a column per feature, positive = riskier."""
    if len(frame) == 0:
        return pd.DataFrame(columns=list(model.features), index=frame.index, dtype="float64")
    prepare, fitted = model.pipeline[0], model.pipeline[-1]
    X = np.asarray(prepare.transform(model.prepared(frame)), dtype="float64")
    encoded = pd.DataFrame(_attribute(fitted, X).T, index=encoded_sources(prepare))
    summed: pd.DataFrame = encoded.groupby(level=0).sum().T
    return summed.reindex(columns=list(model.features)).set_index(frame.index)


def _attribute(fitted: Any, X: Array) -> Array:
    if isinstance(fitted, BoostedTrees):
        return fitted.contributions(X)[:, :-1]
    if isinstance(fitted, LogisticRegression):
        return np.asarray(
            X * fitted.coef_[0]
        )  # numbers are standardised; a one-hot term counts against its absence
    if isinstance(fitted, Forest):
        return np.asarray(np.mean([_along_paths(tree.tree_, X) for tree in fitted.estimators_], axis=0))
    raise TypeError(f"no attributions for {type(fitted).__name__}")


def _along_paths(tree: Any, X: Array) -> Array:
    vote = tree.value[:, 0, 1] / tree.value[:, 0, :].sum(axis=1)
    nodes = np.zeros(len(X), dtype=np.intp)
    rows = np.arange(len(X))
    added = np.zeros(X.shape)
    while len(rows):
        at = nodes[rows]
        split = tree.feature[at]
        rows, at, split = rows[split >= 0], at[split >= 0], split[split >= 0]
        value = X[rows, split].astype("float32")
        left = np.where(np.isnan(value), tree.missing_go_to_left[at], value <= tree.threshold[at])
        below = np.where(left, tree.children_left[at], tree.children_right[at])
        added[rows, split] += vote[below] - vote[at]
        nodes[rows] = below
    return added
