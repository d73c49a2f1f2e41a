"""What is asked of a model beyond its metrics: leakage, slices of customers, and what it lives on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from spanishgas.config.policy import Waiver
from spanishgas.config.reading import Value
from spanishgas.config.tiers import Tiers
from spanishgas.evaluation import leakage, slices
from spanishgas.evaluation.holdout import HoldoutResult
from spanishgas.evaluation.importance import Importance, importance
from spanishgas.evaluation.leakage import Finding
from spanishgas.evaluation.metrics import Array, Labels
from spanishgas.evaluation.slices import Slice
from spanishgas.training.fitting import Training, refit
from spanishgas.training.model import ChurnModel

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

    findings: Sequence[Finding]
    slices: Sequence[Slice]
    importance: Importance


def study(
    candidate: Candidate, holdout: HoldoutResult, as_of: date, waivers: Sequence[Waiver], tiers: Tiers
) -> Study:
    """Leakage checks on both sides, slices of the holdout, and the importance of features and tiers."""
    training, seed = candidate.training, candidate.training.seed

    def out_of_fold(y: Labels) -> Array:
        return refit(replace(training, y=y, folds=SHUFFLED_FOLDS, repeats=1), candidate.params)[1]

    findings = leakage.check(
        holdout.trained,
        holdout.rows,
        list(training.features),
        training.kinds,
        as_of=as_of,
        waivers=waivers,
        out_of_fold=out_of_fold,
        seed=seed,
    )
    by_group = slices.groups(holdout.rows)
    return Study(
        findings,
        slices.measure(holdout.y, holdout.probability, holdout.flag, by_group, seed),
        importance(candidate.model, holdout.rows, training, candidate.params, tiers),
    )
