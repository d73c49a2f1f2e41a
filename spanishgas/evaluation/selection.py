"""The one rule that chooses: the simplest experiment within one paired standard error of the best."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spanishgas.evaluation.metrics import fold_error, fold_interval


@dataclass(frozen=True)
class Rung:
    """An experiment with one model: where its run is, how many features it reads, and its score in each fresh fold."""

    experiment: str
    model: str
    run_id: str
    features: int
    fold_scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.fold_scores))


@dataclass(frozen=True)
class Compared:
    """A rung against the best one: mean paired difference over the folds and its corrected standard error."""

    rung: Rung
    behind: float
    standard_error: float
    chosen: bool

    @property
    def within(self) -> bool:
        """Whether the rung is within one paired standard error of the best."""
        return self.behind <= self.standard_error


def choose(rungs: Sequence[Rung]) -> list[Compared]:
    """Every rung compared with the best, in the order given; exactly one is chosen.

    All rungs must have been scored on the same folds: only then do the differences cancel what the folds share. Among
    those within one standard error the fewest features win, then the higher score, then the name.

    >>> a = Rung("E4", "xgboost", "a", 50, (0.71, 0.74, 0.72))
    >>> b = Rung("E5", "xgboost", "b", 56, (0.72, 0.74, 0.72))
    >>> [c.rung.experiment for c in choose([a, b]) if c.chosen]
    ['E4']
    """
    best = max(rungs, key=lambda r: (r.score, -r.features, r.experiment, r.model))
    gaps = [np.subtract(best.fold_scores, r.fold_scores) for r in rungs]
    errors = [fold_error(gap.tolist()) for gap in gaps]
    within = [r for r, g, e in zip(rungs, gaps, errors, strict=True) if g.mean() <= e]
    winner = min(within, key=lambda r: (r.features, -r.score, r.experiment, r.model))
    return [Compared(r, float(g.mean()), e, r is winner) for r, g, e in zip(rungs, gaps, errors, strict=True)]


@dataclass(frozen=True)
class Step:
    """A rung against the one below it with the same model: paired difference over the folds, 95 % interval."""

    rung: Rung
    below: Rung
    gain: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """Whether the step pays, as a sentence."""
        found = f"{self.gain:+.4f} ({self.low:+.4f} to {self.high:+.4f})"
        verdict = "cannot be told from noise on these folds"
        if self.low > 0:
            verdict = "pays"
        elif self.high < 0:
            verdict = "costs"
        return f"{self.below.experiment} to {self.rung.experiment} with {self.rung.model} {verdict}: {found}."


def steps(rungs: Sequence[Rung]) -> list[Step]:
    """Every rung against the one before it in the order given, model by model; all scored on the same folds."""
    found = []
    for model in dict.fromkeys(r.model for r in rungs):
        ladder = [r for r in rungs if r.model == model]
        for below, rung in itertools.pairwise(ladder):
            gains = np.subtract(rung.fold_scores, below.fold_scores).tolist()
            found.append(Step(rung, below, float(np.mean(gains)), *fold_interval(gains)))
    return found
