"""How often the gate passes: whole utilities drawn under several seeds, the full set of features, published parameters.

A gate on a point of average precision refuses some draws of a good model: with 2,000 held-out customers its standard
error is about 0.025. The true probabilities say what any model could reach on the same holdout.
"""

from __future__ import annotations

import pandas as pd
from sklearn.metrics import average_precision_score

from benchmarks.utility import drawn
from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST, load_search
from spanishgas.lifecycle.experiments import kinds_of, training_side
from spanishgas.training.calibration import fit_final
from spanishgas.training.sides import in_holdout


def holdout_average_precision(customers: int, seed: int) -> dict[str, float]:
    """Average precision on the holdout of E5 XGBoost, and of the true probabilities."""
    policy = load_policy()
    gold, true = drawn(customers, seed)
    training = training_side(gold, kinds_of(load_experiment("E5"), XGBOOST), XGBOOST, policy, seed)
    space = load_search().of(XGBOOST)
    model = fit_final(training, space.fixed | space.start | {"n_estimators": 600}, 0.5, policy)
    held = gold[in_holdout(gold["customer_id"], policy.holdout) & gold["churn"].notna().to_numpy()]
    y = held["churn"].astype(int)
    return {
        "seed": seed,
        "customers held out": len(held),
        "model": float(average_precision_score(y, model.predict_proba(held)[:, 1])),
        "true probabilities": float(average_precision_score(y, true.loc[held["customer_id"]])),
    }


def run(quick: bool) -> None:
    """Print a row per seed as it is measured, then how many pass the gate."""
    customers, seeds = (2_000, 2) if quick else (10_000, 10)
    floor = load_policy().gate.min_average_precision
    rows = []
    for seed in range(1, seeds + 1):
        rows.append(holdout_average_precision(customers, seed))
        print("  ".join(f"{k} {v:.4g}" for k, v in rows[-1].items()), flush=True)
    table = pd.DataFrame(rows)
    print(
        f"{(table['model'] >= floor).sum()} of {seeds} seeds reach {floor:.2f}; mean {table['model'].mean():.3f}, "
        f"standard deviation {table['model'].std():.3f}; true probabilities {table['true probabilities'].mean():.3f}"
    )
