"""The holdout once it is open, and what is asked of a model beyond its metrics.

What a model says of customers whom nothing so far has seen and what that is worth; then leakage, slices of customers,
and what drives its predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import pandas as pd

from spanishgas.config.policy import Holdout, Offers, Waiver
from spanishgas.config.reading import Value
from spanishgas.config.tiers import Tiers
from spanishgas.evaluation import leakage, slices
from spanishgas.evaluation.importance import Importance, importance
from spanishgas.evaluation.inference import Judged, performance
from spanishgas.evaluation.leakage import LeakageFinding
from spanishgas.evaluation.metrics import Array, Labels, with_intervals
from spanishgas.evaluation.slices import Slice
from spanishgas.evaluation.value import realised_value
from spanishgas.training.fitting import Training, refit
from spanishgas.training.model import FLAG, PROBABILITY, ChurnModel
from spanishgas.training.sides import in_holdout, labelled

SHUFFLED_FOLDS = 2
"""Enough to see whether the procedure learns from shuffled labels."""


@dataclass(frozen=True)
class Candidate:
    """A fitted model, the rows that it was fitted on, and its hyperparameters."""

    model: ChurnModel
    training: Training
    params: Mapping[str, Value]


@dataclass(frozen=True)
class Study:
    """What was found."""

    findings: Sequence[LeakageFinding]
    slices: Sequence[Slice]
    importance: Importance


def study(
    candidate: Candidate, holdout: HoldoutResult, as_of: date, waivers: Sequence[Waiver], tiers: Tiers
) -> Study:
    """Leakage checks on both sides, slices of the holdout, and the importance of features and tiers."""
    training, seed = candidate.training, candidate.training.seed

    def out_of_fold(y: Labels) -> Array:
        shuffled = replace(training, y=y, folds=SHUFFLED_FOLDS, repeats=1, forward=None)
        return refit(shuffled, candidate.params)[1]

    sides = leakage.Sides(holdout.trained, holdout.rows, list(training.features), training.kinds, seed)
    findings = leakage.check(sides, as_of, waivers, out_of_fold, training.y)
    by_group = slices.groups(holdout.rows, training.kinds)
    return Study(
        findings,
        slices.measure(holdout.y, holdout.probability, holdout.flag, by_group, seed),
        importance(candidate.model, holdout.rows, training, candidate.params, tiers),
    )


@dataclass(frozen=True)
class HoldoutResult:
    """The held-out rows with what the model says of each, beside the rows that it was trained on."""

    trained: pd.DataFrame
    rows: pd.DataFrame
    probability: Array
    flag: Labels
    value: Array
    """EUR per customer."""

    @property
    def y(self) -> Labels:
        """The labels of the held-out rows."""
        return self.rows["churn"].to_numpy(dtype="int64")

    def metrics(self, seed: int) -> dict[str, float]:
        """`holdout.*` with 95 % intervals."""
        figures = performance(Judged(self.y, self.probability, self.flag, self.value), seed=seed)
        return with_intervals("holdout", *figures) | {"holdout.rows": float(len(self.y))}


def open_holdout(model: ChurnModel, gold: pd.DataFrame, holdout: Holdout, offers: Offers) -> HoldoutResult:
    """Score the labelled customers of `gold` that are held out."""
    rows = labelled(gold)
    aside = in_holdout(rows["customer_id"], holdout)
    trained, rows = (rows[side].reset_index(drop=True) for side in (~aside, aside))
    scored = model.predict(rows)
    probability, flag = scored[PROBABILITY].to_numpy(), scored[FLAG].to_numpy()
    y, margin = rows["churn"].to_numpy(dtype="int64"), rows["avg_monthly_margin"].to_numpy()
    return HoldoutResult(
        trained, rows, probability, flag, realised_value(probability, flag, y, margin, offers)
    )
