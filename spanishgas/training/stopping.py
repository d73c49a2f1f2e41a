"""Early stopping of boosted trees by average precision on rows set aside.

XGBoost's own evaluates every set after every tree, and its `aucpr` takes as long as growing the tree. Here the rows are
scored every few trees, by those trees alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from xgboost import Booster
from xgboost.callback import TrainingCallback

EVERY = 10
"""Trees between two looks: the number that is kept is a multiple."""


class Aside(TrainingCallback):
    """Stops once `rounds` trees in a row brought nothing; the booster then predicts with the best number of trees."""

    def __init__(self, X: NDArray[np.float64], y: NDArray[np.int64], rounds: int) -> None:
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
