"""What an experiment's run keeps, so that nobody has to run it again to know: numbers, curves, plots and words.

Everything is of folds that the search did not see. Rows of customers go to the lake (`out_of_fold`), never to MLflow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from spanishgas import code
from spanishgas.config.experiment import Experiment
from spanishgas.config.policy import Policy
from spanishgas.contracts.checking import check_pandas
from spanishgas.evaluation import charts, search_charts
from spanishgas.evaluation.metrics import (
    Labels,
    confusion,
    decisions,
    fold_half_width,
    fold_interval,
    ranking,
    with_intervals,
)
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle.runs import StageRun
from spanishgas.training.calibration import Calibrated, calibrated
from spanishgas.training.fitting import Training
from spanishgas.training.folds import fresh_folds
from spanishgas.training.model import PROBABILITY
from spanishgas.training.search import Chosen, Shared
from spanishgas.training.threshold import choose_threshold

CHOSEN = "chosen.json"
PICTURE_DPI = 60


def keep(
    run: StageRun,
    experiment: Experiment,
    training: Training,
    chosen: Chosen,
    gold: Snapshot,
    ids: pd.Series,
    policy: Policy,
    lake: Lake,
    shared: Shared,
) -> None:
    """Log everything about a finished search; `ids` are the customers of the training rows, in their order."""
    found = calibrated(chosen.margins, training.y, training.folds, training.seed)
    threshold = choose_threshold(found.probability, training.y, policy.threshold)
    flag = (found.probability >= threshold).astype("int64")
    points, intervals, by_fold = _measured(training, chosen, found, flag)
    run.log(
        params={f"best.{k}": v for k, v in chosen.best.params.items()}
        | {"best.trial": chosen.best.number, "threshold": threshold, "calibration": found.curve},
        metrics=with_intervals("cv", points, intervals)
        | {f"cv.brier.{curve}": score for curve, score in found.brier.items()}
        | {
            "search.average_precision": chosen.best.score,
            "search.seconds": sum(t.seconds for t in chosen.trials),
        },
        series={f"cv.fold.{name}": values for name, values in by_fold.items()},
        tags={"data.uri": gold.uri, "data.digest": gold.manifest.digest},
    )
    run.document(
        {
            "experiment": experiment.id,
            "model": training.model,
            "params": chosen.best.params,
            "trial": chosen.best.number,
            "features": list(training.features),
            "fold_scores": chosen.fold_scores,
            "repeats": training.repeats,
            "seed": training.seed,
            "gold": gold.manifest.digest,
            "holdout": str(policy.holdout),
            "as_of": gold.manifest.as_of.isoformat(),
        },
        CHOSEN,
    )
    counts = confusion(training.y, flag)
    run.tables(
        {
            "confusion.json": pd.DataFrame([counts]),
            "folds.json": pd.DataFrame({k: pd.Series(v) for k, v in by_fold.items()}),
        }
    )
    _publish(run, training, found, chosen, gold, ids, lake)
    title = f"{experiment.id} {training.model}"
    curves = charts.curves_chart(training.y, found.probability, threshold, f"{title}, out of fold")
    run.figure(curves, "out_of_fold.png")
    _plots(run, title, shared)
    run.describe(_words(experiment, training, chosen, points, intervals, counts))


def _measured(
    training: Training, chosen: Chosen, found: Calibrated, flag: Labels
) -> tuple[dict[str, float], dict[str, tuple[float, float]], dict[str, list[float]]]:
    """Points over all out-of-fold predictions, their intervals, and every fold's values.

    Average precision is the mean over the folds of every repeat; other metrics need one prediction per customer, and
    take their intervals from the spread over the folds of the first repeat.
    """
    y, probability = training.y, found.probability
    parts = [p.valid for p in fresh_folds(y, training.folds, training.seed)]
    every = [ranking(y[v], probability[v]) | decisions(y[v], flag[v]) for v in parts]
    by_fold = {name: [one[name] for one in every] for name in every[0]}
    points = ranking(y, probability) | decisions(y, flag)
    halves = {name: fold_half_width(values) for name, values in by_fold.items()}
    intervals = {n: (max(0.0, points[n] - half), points[n] + half) for n, half in halves.items()}
    points["average_precision"] = float(np.mean(chosen.fold_scores))
    intervals["average_precision"] = fold_interval(chosen.fold_scores, training.repeats)
    return points, intervals, by_fold | {"average_precision": list(chosen.fold_scores)}


def _publish(
    run: StageRun,
    training: Training,
    found: Calibrated,
    chosen: Chosen,
    gold: Snapshot,
    ids: pd.Series,
    lake: Lake,
) -> None:
    fold = np.empty(len(ids), dtype="int64")
    for number, part in enumerate(fresh_folds(training.y, training.folds, training.seed)):
        fold[part.valid] = number
    rows = pd.DataFrame(
        {
            "customer_id": ids.to_numpy(),
            "churn": training.y,
            "fold": fold,
            "log_odds": chosen.margins,
            PROBABILITY: found.probability,
        }
    )

    def write(folder: Path) -> None:
        check_pandas("out_of_fold", rows).to_parquet(folder / "part-0.parquet", index=False)

    published = lake.publish(
        "out_of_fold",
        gold.manifest.as_of,
        write,
        built_from={"gold_master": gold.manifest.digest},
        fingerprint=code.fingerprint("out_of_fold", run.run_id),
        code=code.identity("training"),
        run_id=run.run_id,
    )
    run.log(tags={"out_of_fold": published.uri, "out_of_fold.digest": published.manifest.digest})


def _plots(run: StageRun, title: str, shared: Shared) -> None:
    import optuna

    if shared.storage is None:
        return
    storage = optuna.storages.RDBStorage(shared.storage)
    try:
        study = optuna.load_study(study_name=shared.name, storage=storage)
        run.text(search_charts.page(study, f"{title}: the search"), "search/search.html")
        for name, figure in search_charts.pictures(study).items():
            run.figure(figure, f"search/{name}.png", PICTURE_DPI)
    finally:
        storage.engine.dispose()


def _words(
    experiment: Experiment,
    training: Training,
    chosen: Chosen,
    points: dict[str, float],
    intervals: dict[str, tuple[float, float]],
    counts: dict[str, int],
) -> str:
    low, high = intervals["average_precision"]
    flagged = counts["churners flagged"] + counts["stayers flagged"]
    return (
        f"**{experiment.question}** {training.model} on {len(training.features)} features "
        f"({', '.join(experiment.tiers)}): average precision **{points['average_precision']:.3f}** "
        f"({low:.3f} to {high:.3f}) on {training.repeats} x {training.folds} fresh folds that the search did not "
        f"see, from the best of {len(chosen.trials)} trials ({sum(t.pruned for t in chosen.trials)} pruned). "
        f"At its threshold it flags {flagged:,} of {len(training.y):,} customers: "
        f"{counts['churners flagged']:,} of {int(training.y.sum()):,} churners, at a precision of "
        f"{points['precision']:.2f}. The riskiest 10 % leave {points['lift_10']:.1f} times as often as all. "
        "The holdout was not opened."
    )
