"""The gate's operating curve: how often it passes an equally good challenger, and one that is worse by 0.05.

Each repeat sets another fifth of one utility's 20,099 customers aside, fits a champion on the others and a challenger
on a resample of them (published parameters, E5 XGBoost). The worse one is that challenger with noise added to its log
odds, as much as costs 0.05 of average precision on these customers on average. Probabilities are the trees' own, and
who is flagged is set at the policy's recall.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score

from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST, load_search
from spanishgas.etl.build import build
from spanishgas.evaluation.inference import Predictions, differences, wilson
from spanishgas.evaluation.value import realised_value
from spanishgas.features import load_tiers
from spanishgas.lake import Lake
from spanishgas.simulate import write_extract
from spanishgas.training.calibration import choose_threshold
from spanishgas.training.fitting import Training
from spanishgas.training.matrix import matrix
from spanishgas.training.sides import labelled

AS_OF, WORSE_BY, CLIP = date(2024, 12, 31), 0.05, 1e-6
MARGINS = (0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05)


def table(customers: int) -> pd.DataFrame:
    """Labelled gold of one drawn utility."""
    with tempfile.TemporaryDirectory() as folder:
        raw, truth = Path(folder) / "raw", Path(folder) / "truth"
        write_extract(raw, customers=customers, seed=1, as_of=AS_OF, labelled=True, truth=truth)
        return labelled(build(raw, Lake(Path(folder) / "lake"), AS_OF).snapshots["gold_master"].pandas())


def fitter(gold: pd.DataFrame) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """Fit on some rows of `gold`, and give the probabilities of others."""
    tiers, space = load_tiers(), load_search().of(XGBOOST)
    features = load_experiment("E5").features(tiers, linear=False)
    kinds = {name: str(tiers.kind(name)) for name in features}
    X, y = matrix(gold, features, kinds), gold["churn"].to_numpy(dtype="int64")

    def fit(train: np.ndarray, held: np.ndarray, seed: int) -> np.ndarray:
        rows, labels = X.iloc[train], y[train]
        training = Training(rows, labels, features, kinds, XGBOOST, folds=5, seed=seed)
        fitted = training.unfitted({**space.fixed, **space.start, "class_weight": "none"}).fit(rows, labels)
        return np.asarray(np.clip(fitted.predict_proba(X.iloc[held])[:, 1], CLIP, 1 - CLIP))

    return fit


def blurred(probability: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The probabilities with noise on their log odds that costs WORSE_BY of average precision on average."""
    noise, odds = rng.normal(size=(20, len(y))), logit(probability)
    aim, low, high = average_precision_score(y, probability) - WORSE_BY, 0.0, 10.0
    for _ in range(25):
        middle = (low + high) / 2
        mean = np.mean([average_precision_score(y, odds + middle * z) for z in noise])
        low, high = (middle, high) if mean > aim else (low, middle)
    return np.asarray(expit(odds + low * rng.normal(size=len(y))))


def repeat(gold: pd.DataFrame, fit: Callable[..., np.ndarray], seed: int) -> list[dict[str, float | str]]:
    """Differences of an equal and of a worse challenger to one champion."""
    rng, policy = np.random.default_rng(seed), load_policy()
    order = rng.permutation(len(gold))
    held, train = np.split(order, [int(policy.holdout.share * len(gold))])
    y = gold["churn"].to_numpy(dtype="int64")[held]
    margin = gold["avg_monthly_margin"].to_numpy()[held]
    champion, equal = fit(train, held, seed), fit(rng.choice(train, len(train)), held, seed + 1)
    threshold = choose_threshold(champion, y, policy.threshold)

    def judged(probability: np.ndarray) -> Predictions:
        flag = (probability >= threshold).astype("int64")
        return Predictions(probability, realised_value(probability, flag, y, margin, policy.offers))

    rows: list[dict[str, float | str]] = []
    theirs = judged(champion)
    for name, probability in (("equal", equal), ("worse", blurred(equal, y, rng))):
        found = differences(y, judged(probability), theirs, seed)
        ranked, valued = found["average_precision"], found["value_eur"]
        lowest = valued.low / abs(theirs.value.sum())
        rows.append(
            {"challenger": name, "ap": ranked.value, "ap.low": ranked.low, "value.low": float(lowest)}
        )
    return rows


def run(quick: bool) -> None:
    """Print the operating curve over margins, with the policy's value margin."""
    customers, repeats = (2_000, 3) if quick else (20_099, 60)
    gold = table(customers)
    fit = fitter(gold)
    found = pd.DataFrame([row for seed in range(1, repeats + 1) for row in repeat(gold, fit, seed)])
    limits = load_policy().gate.champion
    for name, rows in found.groupby("challenger"):
        half = (rows["ap"] - rows["ap.low"]).mean()
        print(
            f"{name}: difference {rows['ap'].mean():+.4f} (sd {rows['ap'].std():.4f}), half interval {half:.4f}, "
            f"n = {len(rows)}"
        )
    print(
        "\n| margin | equal passes | worse is refused | with the value check: equal passes | worse is refused |"
    )
    print("|---|---|---|---|---|")
    for margin in MARGINS:
        ranks, pays = found["ap.low"] >= -margin, found["value.low"] >= -limits.value_margin
        cells = []
        for passes in (ranks, ranks & pays):
            equal, worse = (passes[found["challenger"] == name] for name in ("equal", "worse"))
            cells += [share(int(equal.sum()), repeats), share(int((~worse).sum()), repeats)]
        chosen = " (policy)" if margin == limits.average_precision_margin else ""
        print(f"| {margin:.3f}{chosen} | {' | '.join(cells)} |")


def share(count: int, of: int) -> str:
    """A share with Wilson's 95 % interval."""
    low, high = wilson(count, of, 1.96)
    return f"{count / of:.0%} ({low:.0%} to {high:.0%})"
