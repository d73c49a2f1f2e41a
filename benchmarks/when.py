"""When customers leave: the curves beside the true hazards, on fresh customers of the same and of a later day.

Per seed a dated utility is drawn and E5 XGBoost fitted with published parameters and as many trees as early stopping
keeps, as an experiment's first trial does, then its hazard model; judged are 20,099 customers of another utility, of
the training's day and three months later. `shape` has the true hazards' shape with the classifier's probability, so
the rest of its gap is the classifier's; `flat` spreads that probability evenly, and `hazards` is the hazard model
without it. `ranked` is ours with the costs of provinces as ranks among those of the same day, fitted and judged so.

The ratio to the true hazards' integrated Brier score is given by drawn months, and as expected of them: with true
curves t and stated ones c, 1 + mean (c - t)^2 / mean t (1 - t).

The coverage draws holdouts of 4,000 customers of the training's day, months from their true hazards, and asks whether
the 95 % interval of average precision holds what the same model reaches among the customers of a day.

Two worlds that the simulator did not draw (tests/hazard_worlds.py) lose two fifths of the customers by chance.
"""

from __future__ import annotations

import time
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.utility import AS_OF, PUBLISHED_SIZE, DatedUtility, dated
from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST, load_search
from spanishgas.evaluation.inference import figures
from spanishgas.evaluation.metrics import average_precisions, rankings
from spanishgas.evaluation.survival import weights
from spanishgas.lifecycle.experiments import kinds_of, training_side
from spanishgas.lifecycle.leaving import hazard_of
from spanishgas.training.calibration import fit_chosen
from spanishgas.training.fitting import Folds, fold_by_fold
from spanishgas.training.folds import folds
from spanishgas.training.hazard import HORIZONS
from spanishgas.training.model import ChurnModel
from spanishgas.training.times import Times, timed
from tests.hazard_worlds import HORIZON, KINDS, WORLDS, curve_of, world

Array = NDArray[np.float64]
LATER = date(2025, 3, 31)
SEEDS, TREES, REPEATS, HOLDOUT = 2, 600, 100, 4_000
BRIER, ERROR, SLOWER, LOW, HIGH = 1.05, 0.015, 3.0, 0.93, 0.97
"""The bars: times the true hazards' Brier score, calibration error, times the classifier's CPU seconds, coverage."""


def fitted(gold: pd.DataFrame, seed: int) -> tuple[ChurnModel, float]:
    """The model with its hazards, and the CPU seconds of those over the classifier's."""
    policy, model = load_policy(), XGBOOST
    kinds, space = kinds_of(load_experiment("E5"), model), load_search().of(model)
    params = space.fixed | space.start
    training = training_side(gold, kinds, model, policy, seed)
    parts = Folds(training, folds(training.y, training.folds, seed), kept=False)
    trees = [fold.trees or TREES for fold in fold_by_fold(parts, params, space.early_stopping)]
    params |= {"n_estimators": int(np.median(trees))}
    began = time.process_time()
    chosen = fit_chosen(training, params, policy)
    between = time.process_time()
    made = chosen.model
    made.hazard = hazard_of(training, chosen, gold, params, policy.holdout)
    return made, (time.process_time() - between) / (between - began)


def with_ranks(gold: pd.DataFrame) -> pd.DataFrame:
    """Gold whose costs of a province are shares of the provinces that cost no more on the same day."""
    costs = [name for name in map(str, gold) if name.startswith("province_")]
    return gold.assign(**{name: gold[name].rank(method="dense") / gold[name].nunique() for name in costs})


def ours(model: ChurnModel, rows: pd.DataFrame) -> Array:
    """The curves of a model with its hazards."""
    assert model.hazard is not None
    return model.hazard.curves(model.prepared(rows), model.predict_proba(rows)[:, 1])


def curves(model: ChurnModel, by_rank: ChurnModel, utility: DatedUtility) -> dict[str, Array]:
    """Curves of the utility's customers by what they come from."""
    assert model.hazard is not None
    rows = timed(utility.gold)
    true = curve_of(utility.hazards.loc[rows["customer_id"]].to_numpy()[:, :HORIZON])
    p = model.predict_proba(rows)[:, 1]
    return {
        "ours": ours(model, rows),
        "ranked": ours(by_rank, with_ranks(rows)),
        "hazards": curve_of(model.hazard.hazards(model.prepared(rows), p)),
        "true": true,
        "shape": p[:, None] * true / np.maximum(true[:, -1:], 1e-12),
        "flat": p[:, None] * np.arange(1, HORIZON + 1) / HORIZON,
    }


def expected_ratio(curve: Array, true: Array) -> float:
    """Expected integrated Brier score over that of the true curves, of months drawn from these."""
    return 1 + float(np.mean((curve - true) ** 2) / np.mean(true * (1 - true)))


def judged(times: Times, curve: Array) -> dict[str, float]:
    """Integrated Brier score, and calibration error, AUC and average precision by horizon."""
    by_month = [weights(times, month) for month in range(1, times.horizon + 1)]
    error = [hits * (1 - 2 * p) + rows * p**2 for (hits, rows), p in zip(by_month, curve.T, strict=True)]
    out = {"brier": float(np.mean(error))}
    for months in HORIZONS:
        hits, rows = by_month[months - 1]
        ranked = rankings(hits[None], rows[None], curve[:, months - 1])
        out |= {f"{n} {months}m": float(ranked[n][0]) for n in ("ece", "roc_auc", "average_precision")}
    return out


def leaving(true: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """A month for each customer from its true curve, 13 for those who stay."""
    month: NDArray[np.int64] = (rng.random(len(true))[:, None] >= true).sum(axis=1) + 1
    return month


def coverage(days: dict[str, dict[str, Array]], repeats: int, holdout: int, seed: int) -> pd.DataFrame:
    """Share of intervals from the first day's holdouts that hold what the model reaches on each day, by horizon."""
    rng, lines = np.random.default_rng(seed), []
    first = next(iter(days.values()))
    for months in (3, 12):
        reached = {}
        for day, of in days.items():
            left = np.stack([leaving(of["true"], rng) <= months for _ in range(40)])
            score = of["ours"][:, months - 1]
            reached[day] = float(average_precisions(left, np.ones_like(left, dtype=float), score).mean())
        for _ in range(repeats):
            rows = rng.integers(0, len(first["true"]), holdout)
            y = (leaving(first["true"][rows], rng) <= months).astype("int64")
            score = first["ours"][rows, months - 1]
            low, high = figures(
                lambda w, y=y, score=score: {"v": average_precisions(w * y, w, score)},  # type: ignore[misc]
                y,
                rng,
                draws=200,
            )[1]["v"]
            lines += [(f"{months}m", day, ap, low <= ap <= high) for day, ap in reached.items()]
    table = pd.DataFrame(lines, columns=["horizon", "day", "reached", "holds"])
    return table.groupby(["horizon", "day"], as_index=False, sort=False).mean()


def worlds(rows: int) -> None:
    """Print the same of worlds that the simulator did not draw, which lose customers by chance."""
    space = load_search().of(XGBOOST)
    params = space.fixed | space.start | {"n_estimators": 200}
    for name in WORLDS:
        X, _, times = world(name, rows, seed=1, lost=0.4)
        months = np.where(times.left, HORIZON, times.month)
        label = pd.Series(times.left.astype(float)).mask(~times.left & (times.month < HORIZON))
        gold = X.assign(
            customer_id=[f"C{i}" for i in range(rows)],
            churn=label,
            churn_month=np.where(times.left, times.month, np.nan),
            observed_months=months,
            horizon_months=HORIZON,
        )
        policy = load_policy()
        side = training_side(gold, KINDS, XGBOOST, policy, seed=1)
        chosen = fit_chosen(side, params, policy)
        model, hazards = chosen.model, hazard_of(side, chosen, gold, params, policy.holdout)
        assert hazards is not None
        fresh, true, then = world(name, rows, seed=2)
        told = judged(then, hazards.curves(fresh, model.predict_proba(fresh)[:, 1]))
        ratio = told["brier"] / judged(then, curve_of(true))["brier"]
        error = max(told[f"ece {m}m"] for m in HORIZONS)
        print(
            f"{name} hazards, {rows:,} customers of whom two fifths are lost: integrated Brier {ratio:.3f} times the "
            f"true hazards', {_kept(ratio <= BRIER)}, at most {BRIER}; largest calibration error {error:.4f}, "
            f"{_kept(error <= ERROR)}, at most {ERROR}; churn rate {side.y.mean():.3f} of labels, "
            f"{true_rate(true):.3f} true"
        )


def true_rate(hazard: Array) -> float:
    """Share that leaves within the horizon."""
    return float(curve_of(hazard)[:, -1].mean())


def _kept(yes: bool) -> str:
    return "kept" if yes else "MISSED"


def run(quick: bool) -> None:
    """Print every figure beside its bar."""
    size, seeds = (2_000, 1) if quick else (PUBLISHED_SIZE, SEEDS)
    lines, ratios, held = [], [], []
    for seed in range(1, seeds + 1):
        model, slower = fitted(dated(size, seed).gold, seed)
        by_rank, _ = fitted(with_ranks(dated(size, seed).gold), seed)
        ratios.append(slower)
        fresh = {str(day): dated(size, seed + 1, day) for day in (AS_OF, LATER)}
        by_day = {day: curves(model, by_rank, utility) for day, utility in fresh.items()}
        for day, utility in fresh.items():
            times = Times.of(timed(utility.gold))
            true = by_day[day]["true"]
            lines += [
                {"day": day, "curve": n, "seed": seed, "ratio": expected_ratio(c, true), **judged(times, c)}
                for n, c in by_day[day].items()
            ]
        held.append(coverage(by_day, 10 if quick else REPEATS, HOLDOUT // (10 if quick else 1), seed))
    table = pd.DataFrame(lines)
    means = table.groupby(["day", "curve"], sort=False).mean().drop(columns="seed")
    print(f"{seeds} utilities of {size:,} customers, judged on as many of another one; mean\n")
    print(means.round(4).to_string())
    for day in dict.fromkeys(table["day"]):
        of = {n: rows.reset_index() for n, rows in table[table["day"] == day].groupby("curve")}
        for name in ("ours", "ranked"):
            gap, ratio = of[name]["brier"] / of["true"]["brier"], of[name]["ratio"]
            error = of[name][[f"ece {m}m" for m in HORIZONS]].mean().max()
            print(
                f"as of {day}, {name}: integrated Brier {gap.mean():.3f} times the true hazards' ({gap.min():.3f} to "
                f"{gap.max():.3f} over seeds), expected {ratio.mean():.3f} ({ratio.min():.3f} to {ratio.max():.3f}; "
                f"{of['shape']['ratio'].mean():.3f} for ours with the true shape), {_kept(ratio.mean() <= BRIER)}, at "
                f"most {BRIER}; largest calibration error of a horizon {error:.4f}, {_kept(error <= ERROR)}, "
                f"at most {ERROR}"
            )
    most = max(ratios)
    print(
        f"hazard model {most:.2f} times the classifier's CPU seconds, {_kept(most <= SLOWER)}, at most {SLOWER:g}"
    )
    repeats = len(held) * (10 if quick else REPEATS)
    together = pd.concat(held).groupby(["horizon", "day"], as_index=False, sort=False).mean()
    for row in together.to_dict("records"):
        share = float(row["holds"])
        noise = np.sqrt(share * (1 - share) / repeats)
        print(
            f"average precision within {row['horizon']}: intervals of {AS_OF} hold that of {row['day']} "
            f"({row['reached']:.3f}) in {share:.3f} of {repeats} holdouts, +- {noise:.3f}; "
            f"{_kept(LOW <= share <= HIGH)}, {LOW} to {HIGH}"
        )
    worlds(3_000 if quick else 10_000)
