"""How far the label-free estimate is from what labels show, and what the test of concept drift says of the same rows.

Per seed a utility is drawn and E5 XGBoost fitted with published parameters. Judged are its holdout of that day, then
the same utility a quarter later, with nothing but time, with dearer prices (inputs move, reasons do not) and with other
reasons to leave (concept drift), on customers that the model did not learn from. Real average precision has the noise
of one draw of labels; the true probabilities say what it is on average.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from benchmarks.utility import AS_OF, drawn
from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST, load_search
from spanishgas.lifecycle.experiments import kinds_of, training_side
from spanishgas.monitoring.cohort import expected
from spanishgas.monitoring.concept import concept_drift
from spanishgas.training.calibration import fit_chosen
from spanishgas.training.model import FLAG, PROBABILITY, ChurnModel
from spanishgas.training.sides import in_holdout

LATER = date(2025, 3, 31)
WHEN = {
    "same day": (AS_OF, "none"),
    "a quarter later": (LATER, "none"),
    "dearer": (LATER, "prices"),
    "other reasons": (LATER, "concept"),
}


def fitted(customers: int, seed: int, trees: int) -> ChurnModel:
    """The shipped object of one utility."""
    policy = load_policy()
    training = training_side(
        drawn(customers, seed, *WHEN["same day"]).gold,
        kinds_of(load_experiment("E5"), XGBOOST),
        XGBOOST,
        policy,
        seed,
    )
    space = load_search().of(XGBOOST)
    return fit_chosen(training, space.fixed | space.start | {"n_estimators": trees}, policy).model


def judged(customers: int, seed: int, model: ChurnModel, when: str) -> dict[str, object]:
    """The estimate of a cohort beside its labels: the model's own holdout, or that of a later extract."""
    before, (gold, true) = drawn(customers, seed, *WHEN["same day"]), drawn(customers, seed, *WHEN[when])
    known = gold["customer_id"].isin(set(before.gold["customer_id"]))
    held, rows = _unseen(before.gold), _unseen(gold, ~known)
    reference, cohort = _scored(model, held), _scored(model, rows)
    probability, flag, y = (cohort[name].to_numpy() for name in (PROBABILITY, FLAG, "churn"))
    points, ranges = expected(probability, flag)
    real = float(average_precision_score(y, probability))
    low, high = ranges["average_precision"]
    concept = concept_drift(reference, cohort, load_policy().drift.false_alarm_rate)
    return {
        "seed": seed,
        "when": when,
        "customers": len(rows),
        "churners": int(y.sum()),
        "estimated": points["average_precision"],
        "real": real,
        "on average": _on_average(true.loc[rows["customer_id"]].to_numpy(), probability),
        "within": low <= real <= high,
        "recall estimated": points["recall"],
        "recall real": float(flag[y == 1].mean()),
        "concept drift": bool(concept.drifted),
    }


def _unseen(gold: pd.DataFrame, new: pd.Series | bool = False) -> pd.DataFrame:
    held = in_holdout(gold["customer_id"], load_policy().holdout)
    return gold[(held | new) & gold["churn"].notna()]


def _scored(model: ChurnModel, rows: pd.DataFrame) -> pd.DataFrame:
    return model.predict(rows).assign(churn=rows["churn"].astype("int64"))


def _on_average(true: np.ndarray, probability: np.ndarray, draws: int = 200) -> float:
    """Average precision of the scores over many draws of labels from the true probabilities."""
    rng = np.random.default_rng(0)
    labels = ((rng.random(len(true)) < true).astype(int) for _ in range(draws))
    return float(np.mean([average_precision_score(y, probability) for y in labels]))


def run(quick: bool) -> None:
    """Print a row per seed and cohort, then the errors by cohort."""
    customers, seeds, trees = (1_500, 2, 60) if quick else (6_000, 5, 300)
    rows = []
    for seed in range(1, seeds + 1):
        model = fitted(customers, seed, trees)
        for when in WHEN:
            rows.append(judged(customers, seed, model, when))
            cells = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items())
            print("  ".join(cells), flush=True)
        drawn.cache_clear()
    table = pd.DataFrame(rows)
    for when in WHEN:
        part = table[table["when"] == when]
        error, chance = part["estimated"] - part["real"], part["estimated"] - part["on average"]
        recall = part["recall estimated"] - part["recall real"]
        print(
            f"{when}: average precision estimated {part['estimated'].mean():.3f}, real {part['real'].mean():.3f}; "
            f"error {error.mean():+.3f} on average, {np.sqrt((error**2).mean()):.3f} root mean square "
            f"({np.sqrt((chance**2).mean()):.3f} without the noise of labels); recall off by {recall.mean():+.3f}, "
            f"{np.sqrt((recall**2).mean()):.3f}; {part['within'].sum()} of {len(part)} within the range; concept drift "
            f"found in {part['concept drift'].sum()} of {len(part)}"
        )
