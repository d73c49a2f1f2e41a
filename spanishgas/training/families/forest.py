"""Random forests (Breiman 2001), and extremely randomised trees (Geurts, Ernst & Wehenkel 2006).

Two parameters are the project's own: limit says what ends the trees (depth or leaves), and splits at random make a
forest extremely randomised trees.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

FAMILY = {
    "parameters": {
        "count": ["n_estimators", "max_depth", "min_samples_leaf"],
        "pair": ["max_leaf_nodes", "min_samples_split"],
        "amount": ["min_impurity_decrease", "ccp_alpha"],
        "share": ["max_features"],
    },
    "choices": {
        "max_features": ["sqrt", "log2"],
        "criterion": ["gini", "entropy", "log_loss"],
        "class_weight": ["none", "balanced", "balanced_subsample"],
        "limit": ["depth", "leaves"],
        "splits": ["best", "random"],
    },
    "trusted": [
        "sklearn.tree._tree.Tree",
        "spanishgas.training.families.forest.Forest",
        "spanishgas.training.families.forest.RandomisedTrees",
    ],
}
Array = NDArray[np.float64]


def build(options: dict[str, Any], **_: object) -> Forest | RandomisedTrees:
    """The unfitted estimator."""
    options.pop("limit", None)  # it is told by which of max_depth and max_leaf_nodes is given
    trees = RandomisedTrees if options.pop("splits", "best") == "random" else Forest
    return trees(**options)


class _Votes:
    """Trees that vote, with the log odds of their vote as the decision function (votes clipped to half a tree)."""

    def predict_proba(self, X: Any) -> Array:
        """Votes, shape (rows, 2); one thread, since several add them up in an order that changes the last digit."""
        jobs = self.get_params(deep=False)["n_jobs"]  # type: ignore[attr-defined]
        try:
            votes: Array = super(_Votes, self.set_params(n_jobs=1)).predict_proba(X)  # type: ignore[attr-defined,misc]
        finally:
            self.set_params(n_jobs=jobs)  # type: ignore[attr-defined]
        return votes

    def decision_function(self, X: Any) -> Array:
        """Log odds of churn, shape (rows,); votes that differ by rounding alone are equal."""
        edge = 0.5 / self.n_estimators  # type: ignore[attr-defined]
        vote = np.clip(self.predict_proba(X)[:, 1].round(12), edge, 1 - edge)
        odds: Array = np.log(vote / (1 - vote))
        return odds

    def contributions(self, X: Any) -> Array:
        """Changes of the vote along the paths, by the column that splits, shape (rows, columns) (Saabas 2014)."""
        trees = self.estimators_  # type: ignore[attr-defined]
        return np.asarray(np.mean([_along_paths(tree.tree_, X) for tree in trees], axis=0))


class Forest(_Votes, RandomForestClassifier):  # type: ignore[misc]
    """A random forest."""


class RandomisedTrees(_Votes, ExtraTreesClassifier):  # type: ignore[misc]
    """Extremely randomised trees (Geurts, Ernst & Wehenkel 2006)."""


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
