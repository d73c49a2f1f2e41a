"""What an experiment's run keeps, so that nobody has to run it again to know: numbers, curves, plots and words.

Everything is of folds that the search did not see. Rows of customers go to the lake (`out_of_fold`), never to MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spanishgas.config.experiment import Experiment
from spanishgas.config.policy import Holdout, Threshold
from spanishgas.contracts.checking import check_pandas
from spanishgas.evaluation import charts, metrics
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle.records import CHOSEN, ExperimentRecord
from spanishgas.lifecycle.runs import StageRun
from spanishgas.lifecycle.stage import Work
from spanishgas.training.calibration import Calibrated, calibrated, choose_threshold
from spanishgas.training.fitting import Training
from spanishgas.training.model import PROBABILITY
from spanishgas.training.search import SearchResult, StudyOptions

PICTURE_DPI = 60


@dataclass(frozen=True)
class Result:
    """A finished search: what it chose from, and what came of the choice on fresh folds."""

    experiment: Experiment
    training: Training
    customers: pd.Series
    """Ids of the training rows, in their order."""
    chosen: SearchResult
    gold: Snapshot
    holdout: Holdout
    rule: Threshold
    earlier: Sequence[Snapshot] = ()
    """What it was trained on where `gold` is a later day, to be judged on."""

    @cached_property
    def calibrated(self) -> Calibrated:
        """Out-of-fold probabilities by the better curve."""
        t = self.training.validated
        return calibrated(self.chosen.margins, t.y, t.folds, t.seed, t.groups)

    @cached_property
    def threshold(self) -> float:
        """The decision threshold, chosen out of fold."""
        return choose_threshold(self.calibrated.probability, self.training.validated.y, self.rule)

    @property
    def flag(self) -> metrics.Labels:
        """Whom it flags out of fold."""
        return (self.calibrated.probability >= self.threshold).astype("int64")

    @property
    def record(self) -> ExperimentRecord:
        """What the run keeps as JSON."""
        return ExperimentRecord(
            experiment=self.experiment.id,
            model=self.training.model,
            params=self.chosen.best.params,
            trial=self.chosen.best.number,
            kinds=dict(self.training.kinds),
            fold_scores=self.chosen.fold_scores,
            repeats=self.training.repeats,
            seed=self.training.seed,
            gold=self.gold.manifest.digest,
            holdout=self.holdout,
            as_of=self.gold.manifest.as_of,
            earlier=[day.manifest.digest for day in self.earlier],
        )

    def measured(
        self,
    ) -> tuple[dict[str, float], dict[str, tuple[float, float]], dict[str, list[float]]]:
        """Points over all out-of-fold predictions, their intervals, and every fold's values.

        Average precision is the mean over the folds of every repeat; other metrics need one prediction per customer,
        and take their intervals from the spread over the folds of the first repeat. What depends on order alone is
        that of the margins, which the delivered curve keeps; errors are of probabilities whose curve did not see them.
        """
        training, chosen, flag = self.training, self.chosen, self.flag
        y, probability, margins = training.validated.y, self.calibrated.probability, chosen.margins

        def of(rows: Any) -> dict[str, float]:
            errors, ranks = (metrics.ranking(y[rows], score[rows]) for score in (probability, margins))
            return errors | {n: ranks[n] for n in metrics.OF_ORDER} | metrics.decisions(y[rows], flag[rows])

        fold = training.fresh_fold()
        every = [of(fold == number) for number in range(training.folds)]
        by_fold = {name: [one[name] for one in every] for name in every[0]}
        points = of(slice(None))
        halves = {name: metrics.fold_half_width(values) for name, values in by_fold.items()}
        intervals = {n: (max(0.0, points[n] - half), points[n] + half) for n, half in halves.items()}
        points["average_precision"] = float(np.mean(chosen.fold_scores))
        intervals["average_precision"] = metrics.fold_interval(chosen.fold_scores, training.repeats)
        return points, intervals, by_fold | {"average_precision": list(chosen.fold_scores)}


def keep(run: Work, result: Result, lake: Lake, shared: StudyOptions) -> None:
    """Log everything about a finished search; `shared` says where its study lies."""
    chosen, gold = result.chosen, result.gold
    points, intervals, by_fold = result.measured()
    measured = metrics.with_intervals("cv", points, intervals)
    run.log(
        params={f"best.{k}": v for k, v in chosen.best.params.items()}
        | {
            "best.trial": chosen.best.number,
            "threshold": result.threshold,
            "calibration": result.calibrated.curve,
        },
        metrics={f"cv.brier.{curve}": score for curve, score in result.calibrated.brier.items()}
        | {
            "search.average_precision": chosen.best.score,
            "search.seconds": sum(t.seconds for t in chosen.trials),
        },
        series={f"cv.fold.{name}": values for name, values in by_fold.items()},
        tags={"data.uri": gold.uri, "data.digest": gold.manifest.digest},
    )
    run.document(result.record.model_dump(mode="json"), CHOSEN)
    counts = metrics.confusion(result.training.validated.y, result.flag)
    run.tables(
        {
            "confusion.json": pd.DataFrame([counts]),
            "folds.json": pd.DataFrame({k: pd.Series(v) for k, v in by_fold.items()}),
        }
    )
    _publish(run, result, lake)
    title = f"{result.experiment.id} {result.training.model}"
    curves = charts.curves_chart(
        result.training.validated.y, result.calibrated.probability, result.threshold, f"{title}, out of fold"
    )
    run.figure(curves, "out_of_fold.png")
    _plots(run, title, shared)
    run.describe(_words(result, points, intervals["average_precision"], counts))
    run.model(f"{result.experiment.id}-{result.training.model}", chosen.best.params, measured, gold)


def _publish(run: Work, result: Result, lake: Lake) -> None:
    training = result.training
    forward = training.forward
    customers = result.customers if forward is None else result.customers[forward.newest]
    rows = pd.DataFrame(
        {
            "customer_id": customers.to_numpy(),
            "churn": training.validated.y,
            "fold": training.fresh_fold(),
            "log_odds": result.chosen.margins,
            PROBABILITY: result.calibrated.probability,
        }
    ).drop_duplicates("customer_id", keep="last")  # of several days the newest

    def write(folder: Path) -> None:
        check_pandas("out_of_fold", rows).to_parquet(folder / "part-0.parquet", index=False)

    published = run.publish(lake, "out_of_fold", result.gold.manifest.as_of, write)
    run.log(tags={"out_of_fold": published.uri, "out_of_fold.digest": published.manifest.digest})


def _plots(run: StageRun, title: str, shared: StudyOptions) -> None:
    import optuna

    if shared.storage is None:
        return
    storage = optuna.storages.RDBStorage(shared.storage)
    try:
        study = optuna.load_study(study_name=shared.name, storage=storage)
        run.text(charts.search_page(study, f"{title}: the search"), "search/search.html")
        for name, figure in charts.search_pictures(study).items():
            run.figure(figure, f"search/{name}.png", PICTURE_DPI)
    finally:
        storage.engine.dispose()


def _words(
    result: Result, points: dict[str, float], interval: tuple[float, float], counts: dict[str, int]
) -> str:
    training, trials, y = result.training, result.chosen.trials, result.training.validated.y
    flagged = counts["churners flagged"] + counts["stayers flagged"]
    return (
        f"**{result.experiment.question}** {training.model} on {len(training.features)} features "
        f"({', '.join(result.experiment.tiers)}): average precision **{points['average_precision']:.3f}** "
        f"({interval[0]:.3f} to {interval[1]:.3f}) on {training.repeats} x {training.folds} fresh folds"
        f"{' forward in time' * (training.forward is not None)} that the search did not see, from the best of "
        f"{len(trials)} trials ({sum(t.pruned for t in trials)} pruned). "
        f"At its threshold it flags {flagged:,} of {len(y):,} customers: "
        f"{counts['churners flagged']:,} of {int(y.sum()):,} churners, at a precision of "
        f"{points['precision']:.2f}. The riskiest 10 % leave {points['lift_10']:.1f} times as often as all. "
        "The holdout was not opened."
    )
