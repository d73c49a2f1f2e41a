"""Concept drift: whether customers with the same score leave as often as they did on the champion's holdout.

Inputs may move without it (the scores move along) and it may come without any input moving: only labels show it. A
model that is carried to customers unlike those it learned from is wrong about them, and that is found as well. The
reference is the holdout that the verdict was made on, however well the model was calibrated there.

    common     logit P(churn) = g(score)                     g: straight between quantiles of the reference's scores
    drifted    logit P(churn) = g(score) + cohort * (a + b * score)
    tier       logit P(churn) = g(score) + cohort * [the score's tier]

`score` is the log odds that the model states. Rao's score tests (1948) of `drifted` and of each tier against `common`:
Cox's recalibration (1958) with two samples, so that the noise of both counts. Holm's procedure (1979) over all of them.

Who got an offer is left out, and who was chosen for one by score and margin: the controls among them stand for all who
were, by a weight of one over their share. Weights make the score's variance another than the model's: the sandwich
(Boos 1992) is taken, which holds also where other things than the score drive churn.

The gap is then divided, each part tested given those before it: the level (all log odds higher or lower, as a season
may have it), the slope (the score says more or less than it did), and the rest (another shape between the knots).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit
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

    p: dict[str, float]
    """p-values of `overall` and of the tiers with enough customers; empty where there were too few for any test."""
    level: float
    churners: float
    """Customers who left, had nobody got an offer: controls count for all who were chosen."""
    expected: float
    """Churners that the reference's own experience with such scores would have had."""
    gap: dict[str, float] = field(default_factory=dict)
    """p-values of `level`, `slope` and `rest`, each by itself and not after Holm's procedure."""
    level_shift: float = float("nan")
    """Log odds by which customers with the same score leave more often than those of the reference."""
    slope: float = float("nan")
    """Factor on the reference's log odds, beside an intercept of its own."""

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
            "churners": self.churners,
            "expected": self.expected,
            "drift": float(bool(self.drifted)),
            "level": self.level_shift,
            "slope": self.slope,
        }
        by_test = {f"p.{name.lower()}": p for name, p in (self.p | self.gap).items()}
        return {f"concept.{name}": value for name, value in (by_test | counts).items()}

    @property
    def where(self) -> list[str]:
        """The tests that reject."""
        return [name for name, p in self.p.items() if p < self.level]


def concept_drift(
    reference: pd.DataFrame, cohort: pd.DataFrame, level: float, weights: Array | None = None
) -> Concept:
    """Compare label given score in two samples; where nothing differs, it is `drifted` with probability `level`.

    Each has churn_probability, churn and risk_tier. `weights` is how many customers each of the cohort stands for, 1 if
    None.
    """
    columns, after = [PROBABILITY, "churn", TIER], np.repeat([0, 1], [len(reference), len(cohort)])
    both = pd.concat([reference[columns], cohort[columns]])
    y, tier = both["churn"].to_numpy(dtype="int64"), both[TIER].to_numpy()
    score, before = logit(np.clip(both[PROBABILITY].to_numpy(), 1e-6, 1 - 1e-6)), after == 0
    stands = np.ones(len(y))
    if weights is not None:
        stands[~before] = weights
    churners = float(stands[~before] @ y[~before])
    if min(np.bincount(2 * after + y, minlength=4)) < FEWEST:
        return Concept({}, level, churners, float("nan"))
    knots = np.unique(np.quantile(score[before], KNOTS))
    bends = np.maximum(score[:, None] - knots, 0)
    curve, shift = np.column_stack([score, bends]), np.column_stack([after, after * score])
    test = partial(_score_test, y=y, weights=stands)
    common = _probability(curve, y, stands, curve)
    raw = {OVERALL: test(curve, shift, common)}
    for name in cohort[TIER].unique():
        here = tier == name
        if _enough(common[here], after[here]):
            raw[str(name)] = test(curve, (after * here)[:, None], common)
    added = {"level": shift[:, :1], "slope": shift[:, 1:], "rest": after[:, None] * bends}
    gap = _divided(curve, added, y, stands)
    usual = _probability(curve[before], y[before], stands[before], curve[~before])
    moved = _recalibration(usual, y[~before], stands[~before])
    return Concept(holm(raw), level, churners, float(stands[~before] @ usual), gap, *moved)


def _divided(base: Array, parts: Mapping[str, Array], y: Labels, weights: Array) -> dict[str, float]:
    """P-value of each part, given those before it."""
    gap = dict[str, float]()
    for name, more in parts.items():
        says = _probability(base, y, weights, base)
        gap[name] = _score_test(base, more, says, y=y, weights=weights)
        base = np.column_stack([base, more])
    return gap


def _recalibration(usual: Array, y: Labels, weights: Array) -> tuple[float, float]:
    """What to add to the log odds `usual`, and, with an intercept of its own, what to multiply them by (Cox 1958)."""
    odds = logit(np.clip(usual, 1e-6, 1 - 1e-6))
    shift = brentq(lambda a: weights @ (y - expit(odds + a)), -50.0, 50.0)
    fitted = LogisticRegression(C=WEAK, solver="newton-cholesky", tol=1e-8).fit(odds[:, None], y, weights)
    return float(shift), float(fitted.coef_[0, 0])


def _enough(common: Array, after: Labels) -> bool:
    churners, rows = np.bincount(after, common, minlength=2), np.bincount(after, minlength=2)
    return bool(min(*churners, *(rows - churners)) >= FEWEST)


def _probability(columns: Array, y: Labels, weights: Array, of: Array) -> Array:
    """What a logistic curve fitted to `columns` and `y` says of the rows `of`."""
    curve = make_pipeline(StandardScaler(), LogisticRegression(C=WEAK, solver="newton-cholesky", tol=1e-8))
    fitted = curve.fit(columns, y, logisticregression__sample_weight=weights)
    probability: Array = fitted.predict_proba(of)[:, 1]
    return probability


def _score_test(columns: Array, more: Array, probability: Array, *, y: Labels, weights: Array) -> float:
    """P-value of what `more` adds to a logistic curve of `columns` that says `probability`; sandwich variance.

    Each residual is divided by one less its leverage, as jackknifing has it: few customers with large weights would
    otherwise seem to vary less than they do.
    """
    root = np.sqrt(weights * probability * (1 - probability))[:, None]
    X = np.column_stack([np.ones(len(y)), columns])
    left = more - X @ np.linalg.lstsq(X * root, more * root)[0]
    of_base, of_more = (np.linalg.qr(part * root)[0] for part in (X, left))
    leverage = (of_base**2).sum(axis=1) + (of_more**2).sum(axis=1)
    residual = weights * (y - probability)
    score, spread = left.T @ residual, left * (residual / np.maximum(1 - leverage, 0.1))[:, None]
    return float(chi2.sf(score @ np.linalg.pinv(spread.T @ spread) @ score, more.shape[1]))
