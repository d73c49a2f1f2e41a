"""Concept drift: whether customers with the same score leave as often as they did on the champion's holdout.

Inputs may move without it (the scores move along) and it may come without any input moving: only labels show it. A
model that is carried to customers unlike those it learned from is wrong about them, and that is found as well. The
reference is the holdout that the verdict was made on, however well the model was calibrated there.

    common     logit P(churn) = g(score)                     g: straight between quantiles of the reference's scores
    drifted    logit P(churn) = g(score) + cohort * (a + b * score)
    tier       logit P(churn) = g(score) + cohort * [the score's tier]

`score` is the log odds that the model states. Rao's score tests (1948) of `drifted` and of each tier against `common`:
Cox's recalibration (1958) with two samples, so that the noise of both counts. Holm's procedure (1979) over all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spanishgas.evaluation.inference import holm
from spanishgas.evaluation.metrics import Array, Labels
from spanishgas.training.model import PROBABILITY, TIER

FEWEST = 10
"""Churners, and stayers, to be expected in both samples from which a test has the level that it says."""
KNOTS = (0.25, 0.5, 0.75, 0.9)
WEAK = 1e6
"""Inverse strength of the penalty: the likelihood is all but free of it."""
OVERALL = "overall"


@dataclass(frozen=True)
class Concept:
    """What the tests found; p-values after Holm's procedure."""

    p: Mapping[str, float]
    """p-values of `overall` and of the tiers with enough customers; empty where there were too few for any test."""
    level: float
    churners: int
    expected: float
    """Churners that the reference's own experience with such scores would have had."""

    @property
    def drifted(self) -> bool | None:
        """Whether some test rejects at the level; None where none could be made."""
        return min(self.p.values()) < self.level if self.p else None

    @property
    def metrics(self) -> dict[str, float]:
        """Flat, under `concept.`; none where nothing was tested."""
        if not self.p:
            return {}
        counts = {
            "churners": float(self.churners),
            "expected": self.expected,
            "drift": float(bool(self.drifted)),
        }
        by_test = {f"p.{name.lower()}": p for name, p in self.p.items()}
        return {f"concept.{name}": value for name, value in (by_test | counts).items()}

    @property
    def where(self) -> list[str]:
        """The tests that reject."""
        return [name for name, p in self.p.items() if p < self.level]


def concept_drift(reference: pd.DataFrame, cohort: pd.DataFrame, level: float) -> Concept:
    """Compare label given score in two samples; where nothing differs, it is `drifted` with probability `level`.

    Each has churn_probability, churn and risk_tier.
    """
    columns, after = [PROBABILITY, "churn", TIER], np.repeat([0, 1], [len(reference), len(cohort)])
    both = pd.concat([reference[columns], cohort[columns]])
    y, tier = both["churn"].to_numpy(dtype="int64"), both[TIER].to_numpy()
    score, before = logit(np.clip(both[PROBABILITY].to_numpy(), 1e-6, 1 - 1e-6)), after == 0
    churners = int(y[~before].sum())
    if min(np.bincount(2 * after + y, minlength=4)) < FEWEST:
        return Concept({}, level, churners, float("nan"))
    knots = np.unique(np.quantile(score[before], KNOTS))
    curve = np.column_stack([score, np.maximum(score[:, None] - knots, 0)])
    common = _probability(curve, y, curve)
    raw = {OVERALL: _score_test(curve, np.column_stack([after, after * score]), y, common)}
    for name in cohort[TIER].unique():
        here = tier == name
        if _enough(common[here], after[here]):
            raw[str(name)] = _score_test(curve, (after * here)[:, None], y, common)
    expected = _probability(curve[before], y[before], curve[~before]).sum()
    return Concept(holm(raw), level, churners, float(expected))


def _enough(common: Array, after: Labels) -> bool:
    churners, rows = np.bincount(after, common, minlength=2), np.bincount(after, minlength=2)
    return bool(min(*churners, *(rows - churners)) >= FEWEST)


def _probability(columns: Array, y: Labels, of: Array) -> Array:
    """What a logistic curve fitted to `columns` and `y` says of the rows `of`."""
    curve = make_pipeline(StandardScaler(), LogisticRegression(C=WEAK, solver="newton-cholesky", tol=1e-8))
    probability: Array = curve.fit(columns, y).predict_proba(of)[:, 1]
    return probability


def _score_test(columns: Array, more: Array, y: Labels, probability: Array) -> float:
    """P-value of what `more` adds to a logistic curve of `columns` that says `probability`."""
    X, weight = np.column_stack([np.ones(len(y)), columns]), np.sqrt(probability * (1 - probability))
    base, added = X * weight[:, None], more * weight[:, None]
    left = added - base @ np.linalg.lstsq(base, added)[0]
    score = more.T @ (y - probability)
    return float(chi2.sf(score @ np.linalg.pinv(left.T @ left) @ score, more.shape[1]))
