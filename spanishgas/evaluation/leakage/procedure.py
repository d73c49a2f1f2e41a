"""Checks of the procedure: labels that cannot be learned, and sides that cannot be told apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import cross_val_predict

from spanishgas.config.reading import Value
from spanishgas.config.search import XGBOOST
from spanishgas.evaluation.leakage.finding import FOLDS, LeakageFinding, Sides
from spanishgas.evaluation.metrics import Array, Labels, average_precisions
from spanishgas.training.fitting import Training
from spanishgas.training.folds import folds
from spanishgas.training.matrix import matrix

TAIL = 5.0
"""Standard deviations: far more than chance, since predictions out of fold share training rows and average precision is
skewed. With shuffled labels six of 300 clean tables of 640 customers went beyond 3.09, none beyond 4.4; telling sides
apart, 25 splits of one clean table of 6,000 spread 1.15 times as far as the formula says, the furthest 3.9."""
SHUFFLES = 200
SMALL_TREES: Mapping[str, Value] = {"n_estimators": 60, "max_depth": 3, "learning_rate": 0.2}
OutOfFold = Callable[[Labels], Array]


def permuted_labels(y: Labels, out_of_fold: OutOfFold, seed: int) -> LeakageFinding:
    """Average precision where there is nothing to learn; the limit is what shuffling the labels once more allows.

    It shuffles the labels and leaves the columns as they are. So it sees a step that reads the labels it is fitted
    with, such as an encoding made before the folds, and cannot see what stands in gold already: a column that was made
    from the true labels is unrelated to shuffled ones. Those are what the checks of columns are for.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(y)
    score = out_of_fold(shuffled)
    again = np.array([rng.permutation(shuffled) for _ in range(SHUFFLES)])
    chance = average_precisions(again, np.ones_like(again), score)
    return LeakageFinding(
        name="permuted_labels",
        value=float(average_precision_score(shuffled, score)),
        limit=float(chance.mean() + TAIL * chance.std(ddof=1)),
        words=f"average precision on shuffled labels; the churn rate is {y.mean():.3f}",
        way_out="something before the folds has seen the labels: fit every step inside the fold",
    )


def adversarial(sides: Sides) -> LeakageFinding:
    """ROC-AUC of small boosted trees that tell held-out customers from training ones, out of fold; chance gives 0.5."""
    seed, sizes = sides.seed, (len(sides.trained), len(sides.held_out))
    X, side = matrix(sides.both, sides.features, sides.kinds), np.repeat([0, 1], sizes)
    model = Training(X, side, sides.features, sides.kinds, XGBOOST, FOLDS, seed).unfitted(SMALL_TREES)
    score = cross_val_predict(model, X, side, cv=folds(side, FOLDS, seed), method="predict_proba")[:, 1]
    error = sqrt((len(side) + 1) / (12 * sizes[0] * sizes[1]))  # Mann & Whitney 1947, no difference
    return LeakageFinding(
        name="adversarial",
        value=float(roc_auc_score(side, score)),
        limit=0.5 + TAIL * error,
        words="ROC-AUC of telling held-out from training customers",
        way_out="the two sides differ by more than chance: look for ids that say something about the customer",
    )
