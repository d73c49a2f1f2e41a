"""How honest the intervals and probabilities are, on draws from a known truth.

A repeat draws 1,500 rows to learn from and 2,000 to hold out, with a churn rate near 0.1 and five features, and fits a
logistic regression, which is cheap. Its average precision on 200,000 fresh rows is what the intervals ought to hold:
the bootstrap of the holdout, and Student's interval over 2 x 5 fresh folds of the training rows. The probabilities
are those of the shipped object with boosted trees, against the true ones on 200,000 fresh rows, for ten seeds.

Noise: of 1,000 repeats a share near 0.95 moves by 0.007, so that a build whose intervals hold the truth in 95 % stays
within 0.93 to 0.97 in 99 runs of 100. The calibration error is that of the sample that the curve was learnt on: each
seed has its own, and a correct build's mean keeps the limit.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from spanishgas.config.policy import load_policy
from spanishgas.config.search import ModelKind, load_search
from spanishgas.evaluation.inference import figures
from spanishgas.evaluation.metrics import average_precisions, fold_interval
from spanishgas.training.calibration import fit_chosen
from spanishgas.training.fitting import Training
from spanishgas.training.folds import fresh_folds

LEARN, HOLD, FRESH_ROWS, FEATURES, REPEATS = 1_500, 2_000, 200_000, 5, 1_000
LOW, HIGH, WITHIN = 0.93, 0.97, 0.01
Array = NDArray[np.float64]


def true_probability(X: Array) -> Array:
    """A curved truth: two main effects, a square and a product."""
    odds = -3.4 + 1.2 * X[:, 0] - 0.9 * X[:, 1] + 0.5 * X[:, 2] ** 2 + 0.6 * X[:, 0] * X[:, 3]
    chance: Array = 1 / (1 + np.exp(-odds))
    return chance


def draw(rng: np.random.Generator, rows: int) -> tuple[Array, NDArray[np.int64]]:
    """Features and labels."""
    X = rng.normal(size=(rows, FEATURES))
    return X, (rng.random(rows) < true_probability(X)).astype("int64")


def repeat(seed: int, X_fresh: Array, y_fresh: NDArray[np.int64]) -> dict[str, bool]:
    """Whether each interval holds the fitted model's average precision on the fresh rows."""
    rng = np.random.default_rng(seed)
    (X, y), (X_held, y_held) = draw(rng, LEARN), draw(rng, HOLD)
    fitted = LogisticRegression().fit(X, y)
    truth = average_precision_score(y_fresh, fitted.decision_function(X_fresh))
    score = fitted.decision_function(X_held)
    held = figures(lambda w: {"held": average_precisions(w * y_held, w, score)}, y_held, seed)[1]["held"]
    folds = fresh_folds(y, 5, seed, 2)
    scores = [
        float(
            average_precision_score(
                y[f.valid], LogisticRegression().fit(X[f.train], y[f.train]).decision_function(X[f.valid])
            )
        )
        for f in folds
    ]
    folded = fold_interval(scores, 2)
    return {
        "holdout bootstrap": held[0] <= truth <= held[1],
        "2 x 5 fresh folds": folded[0] <= truth <= folded[1],
    }


def calibration_error(rows: int, fresh: int, seed: int) -> float:
    """Mean gap of predicted and true probability over ten groups of equal size, for the shipped object."""
    rng = np.random.default_rng(seed)
    X, y = draw(rng, rows)
    names = [f"x{i}" for i in range(FEATURES)]
    kinds, space = dict.fromkeys(names, "numeric"), load_search().of(ModelKind.XGBOOST)
    training = Training(pd.DataFrame(X, columns=names), y, names, kinds, ModelKind.XGBOOST, 5, seed)
    params = space.fixed | space.start | {"n_estimators": 300}
    model = fit_chosen(training, params, load_policy()).model
    X_fresh, _ = draw(rng, fresh)
    found, true = model.predict_proba(pd.DataFrame(X_fresh, columns=names))[:, 1], true_probability(X_fresh)
    groups = np.array_split(np.argsort(found, kind="stable"), 10)
    return float(np.mean([abs(found[g].mean() - true[g].mean()) for g in groups]))


def run(quick: bool) -> None:
    """Print the coverage with its noise, and the calibration error."""
    repeats, fresh = (20, 20_000) if quick else (REPEATS, FRESH_ROWS)
    X_fresh, y_fresh = draw(np.random.default_rng(0), fresh)
    found = pd.DataFrame([repeat(seed, X_fresh, y_fresh) for seed in range(1, repeats + 1)])
    noise = np.sqrt(0.95 * 0.05 / repeats)
    for name, share in found.mean().items():
        verdict = "kept" if LOW <= share <= HIGH else "MISSED"
        print(
            f"{name}: 95 % intervals hold the truth in {share:.3f} of {repeats} repeats, +- {noise:.3f}; {verdict}"
        )
    errors = [calibration_error(2_000 if quick else 16_000, fresh, s) for s in range(1, 3 if quick else 11)]
    mean = float(np.mean(errors))
    print(
        f"calibration error against the true probabilities on {fresh} fresh rows: mean {mean:.4f}, "
        f"{min(errors):.4f} to {max(errors):.4f} over {len(errors)} seeds; "
        f"{'kept' if mean <= WITHIN else 'MISSED'}, at most {WITHIN}"
    )
