"""What a holdout promises beside what its model then reaches: drawn at random among customers, or later in time.

    by customer   trained on T, judged on other customers of T
    by time       trained on A, half a year before T, judged on other customers of T
    in use        either model half a year after T, on the same other customers

The other customers are the same fifth by the policy's hash on every day. Optimism is what the holdout says less what
the model reaches in use; its interval is of the mean over utilities drawn with seeds of their own.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks import utility
from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST, load_search
from spanishgas.lifecycle.experiments import kinds_of, training_side
from spanishgas.rendering import as_markdown
from spanishgas.training.calibration import fit_chosen
from spanishgas.training.model import ChurnModel
from spanishgas.training.sides import in_holdout

DAYS = {"A": date(2024, 12, 31), "T": date(2025, 6, 30), "U": date(2025, 12, 31)}
UTILITIES = {
    "nothing but time": {"A": "none", "T": "none", "U": "none"},
    "prices rise, then nobody minds": {"A": "none", "T": "prices", "U": "prices+concept:0.5"},
}
CUSTOMERS, SEEDS, TREES = 6_000, 6, 300
PROTOCOLS = {"by customer": "T", "by time": "A"}
FIGURES = ("average precision", "ROC-AUC", "churners expected less observed, % of customers")


def model_of(gold: pd.DataFrame, seed: int) -> ChurnModel:
    """E5's model with the published parameters, fitted and calibrated on those who are not held out."""
    kind, policy = XGBOOST, load_policy()
    space = load_search().of(kind)
    training = training_side(gold, kinds_of(load_experiment("E5"), kind), kind, policy, seed)
    params = {**space.fixed, **space.start, "n_estimators": TREES}
    return fit_chosen(training, params, policy).model


def judged(model: ChurnModel, gold: pd.DataFrame) -> np.ndarray:
    """The figures on held-out customers."""
    rows = gold[in_holdout(gold["customer_id"], load_policy().holdout) & gold["churn"].notna().to_numpy()]
    y, p = rows["churn"].to_numpy(dtype="int64"), model.predict_proba(rows)[:, 1]
    return np.array([average_precision_score(y, p), roc_auc_score(y, p), 100 * (p.mean() - y.mean())])


def of_seed(name: str, customers: int, seed: int) -> pd.DataFrame:
    """A row per protocol: what its holdout says, and what its model reaches in use."""
    shifts = UTILITIES[name]
    gold = {day: utility.drawn(customers, seed, DAYS[day], shifts[day]).gold for day in DAYS}
    rows = []
    for protocol, trained in PROTOCOLS.items():
        model = model_of(gold[trained], seed)
        says, reaches = judged(model, gold["T"]), judged(model, gold["U"])
        rows += [(protocol, *row) for row in zip(FIGURES, says, reaches, strict=True)]
    return pd.DataFrame(rows, columns=["holdout", "figure", "says", "reaches"]).assign(seed=seed)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, and the optimism with its 95 % interval (Student's t over seeds)."""
    told = []
    for (figure, holdout), of in rows.groupby(["figure", "holdout"], sort=False):
        gap = of["says"] - of["reaches"]
        half = stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap))
        mean = gap.mean()
        told.append(
            {
                "figure": figure,
                "holdout": holdout,
                "it says": f"{of['says'].mean():.3f}",
                "in use": f"{of['reaches'].mean():.3f}",
                "optimism": f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})",
            }
        )
    return pd.DataFrame(told)


def run(quick: bool) -> None:
    """Print a table per utility."""
    customers, seeds = (1_500, 2) if quick else (CUSTOMERS, SEEDS)
    for name in UTILITIES:
        rows = pd.concat([of_seed(name, customers, seed) for seed in range(1, seeds + 1)])
        print(f"\n{name}: {customers:,} customers, {seeds} seeds\n")
        print(as_markdown(summary(rows)), flush=True)
