"""XGBoost: gradient boosting (Chen & Guestrin 2016).

XGBoost's own early stopping evaluates every set after every tree, and its `aucpr` takes as long as growing the tree:
here the rows aside are scored every few trees, by those trees alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from xgboost import Booster, DMatrix, XGBClassifier
from xgboost.callback import TrainingCallback

FAMILY = {
    "parameters": {
        "count": ["n_estimators", "max_depth", "max_cat_to_onehot", "max_cat_threshold"],
        "pair": ["max_leaves", "max_bin"],
        "share": ["learning_rate", "subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode"],
        "amount": ["gamma", "reg_alpha", "reg_lambda", "min_child_weight", "max_delta_step"],
    },
    "choices": {
        "tree_method": ["hist", "approx"],
        "grow_policy": ["depthwise", "lossguide"],
        "class_weight": ["none", "balanced"],
        "categories": ["one_hot", "native"],
    },
    "early_stopping": True,
    "blends": True,
    "packages": ["xgboost"],
    "trusted": [
        "spanishgas.training.families.xgboost.BoostedTrees",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
    ],
}
Array = NDArray[np.float64]
EVERY = 10
"""Trees between two looks: the number that is kept is a multiple."""


def build(options: dict[str, Any], *, balance: float, types: list[str] | None) -> BoostedTrees:
    """The unfitted estimator."""
    if options.pop("class_weight"):
        options["scale_pos_weight"] = balance
    if options.get("grow_policy") == "lossguide":
        options.setdefault("max_depth", 0)
    if types is not None:
        options |= {"enable_categorical": True, "feature_types": types}
    return BoostedTrees(**options)


class BoostedTrees(XGBClassifier):
    """XGBoost's classifier, with its margin as the decision function."""

    def decision_function(self, X: Any) -> Array:
        """Log odds of churn, shape (rows,)."""
        margin: Array = self.predict(X, output_margin=True).astype("float64")
        return margin

    def contributions(self, X: Any) -> Array:
        """TreeSHAP values on the log-odds scale, shape (rows, encoded columns), without the bias."""
        rows = DMatrix(X, feature_types=self.feature_types, enable_categorical=True)
        attributions = self.get_booster().predict(rows, pred_contribs=True)
        return np.asarray(attributions, dtype="float64")[:, :-1]

    def fit_stopping(
        self,
        X: Array,
        y: NDArray[np.int64],
        aside: tuple[Array, NDArray[np.int64]],
        rounds: int,
        **weighed: Any,
    ) -> int:
        """Grow trees until `rounds` in a row brought nothing on the rows `aside`; the number that is kept."""
        stopping = AveragePrecisionStopping(*aside, rounds)
        self.set_params(callbacks=[stopping]).fit(X, y, **weighed)
        return stopping.trees


class AveragePrecisionStopping(TrainingCallback):
    """Stops once `rounds` trees in a row brought nothing; the booster then predicts with the best number of trees."""

    def __init__(self, X: Array, y: NDArray[np.int64], rounds: int) -> None:
        self.X, self.y, self.rounds = X, y, rounds

    def before_training(self, model: Booster) -> Booster:
        """Begin anew."""
        self.margin, self.best, self.trees, self.seen = np.zeros(len(self.y)), -np.inf, 0, 0
        return model

    def after_iteration(self, model: Booster, epoch: int, evals_log: object) -> bool:
        """Whether to stop."""
        if (epoch + 1) % EVERY:
            return False
        self._look(model, epoch + 1)
        return epoch + 1 - self.trees >= self.rounds

    def after_training(self, model: Booster) -> Booster:
        """Look at the last trees too; the attribute is what XGBoost's own early stopping leaves."""
        self._look(model, model.num_boosted_rounds())
        model.set_attr(best_iteration=str(self.trees - 1))
        return model

    def _look(self, model: Booster, trees: int) -> None:
        if trees == self.seen:
            return
        # the base score comes with every part: it shifts all rows alike and ranks none
        self.margin += model.inplace_predict(
            self.X, iteration_range=(self.seen, trees), predict_type="margin"
        )
        self.seen = trees
        score = float(average_precision_score(self.y, self.margin))
        if score > self.best:
            self.best, self.trees = score, trees
