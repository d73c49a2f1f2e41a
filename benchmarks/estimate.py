"""How far the label-free estimate is from what labels show, and what the test of concept drift says of the same rows.

Per seed a utility is drawn and E5 XGBoost fitted with published parameters. A quarter later the same utility is drawn
with nothing but time, with dearer prices (inputs move, reasons do not) and with other reasons to leave (concept drift).
Judged are the customers that the model did not learn from. Real average precision has the noise of one draw of labels;
the true probabilities say what it is on average.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from benchmarks.utility import drawn
from spanishgas.lifecycle.experiments import training_side
from spanishgas.monitoring.concept import Scored, concept_drift
from spanishgas.monitoring.estimate import expected
from spanishgas.training.calibration import fit_chosen
from spanishgas.training.experiment import ModelKind, load_experiment, load_policy, load_search
from spanishgas.training.matrix import in_holdout
from spanishgas.training.model import FLAG, PROBABILITY, TIER, ChurnModel

LATER, SHIFTS = date(2025, 3, 31), ("none", "prices", "concept")


def fitted(customers: int, seed: int, trees: int) -> ChurnModel:
    """The shipped object of one utility."""
    policy = load_policy()
    training = training_side(
        drawn(customers, seed).gold, load_experiment("E5"), ModelKind.XGBOOST, policy, seed
    )
    space = load_search().of(ModelKind.XGBOOST)
    return fit_chosen(training, space.fixed | space.start | {"n_estimators": trees}, policy).model


def judged(customers: int, seed: int, model: ChurnModel, shift: str) -> dict[str, object]:
    """The estimate of a later cohort beside its labels."""
    holdout = load_policy().holdout
    before, (gold, true) = drawn(customers, seed).gold, drawn(customers, seed, LATER, shift)
    known = gold["customer_id"].isin(set(before["customer_id"])).to_numpy()
    rows = gold[(~known | in_holdout(gold["customer_id"], holdout)) & gold["churn"].notna().to_numpy()]
    held = before[in_holdout(before["customer_id"], holdout) & before["churn"].notna().to_numpy()]
    (reference, cohort) = (_scored(model, part) for part in (held, rows))
    flag = model.predict(rows)[FLAG].to_numpy()
    points, ranges = expected(cohort.probability, flag)
    recall = float(flag[cohort.y == 1].mean())
    real = float(average_precision_score(cohort.y, cohort.probability))
    low, high = ranges["average_precision"]
    concept = concept_drift(reference, cohort, load_policy().drift.false_alarm_rate)
    return {
        "seed": seed,
        "shift": shift,
        "customers": len(rows),
        "churners": int(cohort.y.sum()),
        "estimated": points["average_precision"],
        "real": real,
        "on average": _on_average(true.loc[rows["customer_id"]].to_numpy(), cohort.probability),
        "within": low <= real <= high,
        "recall estimated": points["recall"],
        "recall real": recall,
        "concept drift": bool(concept.drifted),
    }


def _scored(model: ChurnModel, rows: pd.DataFrame) -> Scored:
    found = model.predict(rows)
    return Scored(found[PROBABILITY].to_numpy(), rows["churn"].to_numpy(dtype="int64"), found[TIER])


def _on_average(true: np.ndarray, probability: np.ndarray, draws: int = 200) -> float:
    """Average precision of the scores over many draws of labels from the true probabilities."""
    rng = np.random.default_rng(0)
    labels = ((rng.random(len(true)) < true).astype(int) for _ in range(draws))
    return float(np.mean([average_precision_score(y, probability) for y in labels]))


def run(quick: bool) -> None:
    """Print a row per seed and shift, then the errors by shift."""
    customers, seeds, trees = (1_500, 2, 60) if quick else (8_000, 8, 400)
    rows = []
    for seed in range(1, seeds + 1):
        model = fitted(customers, seed, trees)
        for shift in SHIFTS:
            rows.append(judged(customers, seed, model, shift))
            cells = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items())
            print("  ".join(cells), flush=True)
        drawn.cache_clear()
    table = pd.DataFrame(rows)
    for shift in SHIFTS:
        part = table[table["shift"] == shift]
        error, chance = part["estimated"] - part["real"], part["estimated"] - part["on average"]
        recall = part["recall estimated"] - part["recall real"]
        print(
            f"{shift}: average precision estimated {part['estimated'].mean():.3f}, real {part['real'].mean():.3f}; "
            f"error {error.mean():+.3f} on average, {np.sqrt((error**2).mean()):.3f} root mean square "
            f"({np.sqrt((chance**2).mean()):.3f} without the noise of labels); recall off by {recall.mean():+.3f}, "
            f"{np.sqrt((recall**2).mean()):.3f}; {part['within'].sum()} of {len(part)} within the range; concept drift "
            f"found in {part['concept drift'].sum()} of {len(part)}"
        )
