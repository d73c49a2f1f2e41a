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
may have it), the slope (the score says more or less than it did), and the rest (another shape between the knots). All
three are the calibration's. What remains is by input, each tested beside them and Holm's procedure over all inputs:

    logit P(churn) = g(score) + h(input) + cohort * (level, slope, rest) + cohort * c(input)

An input that counts otherwise is a reason if it did not move, and unfamiliar if it did (reasons.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

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
from spanishgas.monitoring.reasons import MOVED, TestedInput
from spanishgas.training.model import PROBABILITY, TIER

FEWEST = 10
"""Churners, and stayers, to be expected in both samples from which a test has the level that it says."""
KNOTS = (0.25, 0.5, 0.75, 0.9)
WEAK = 1e6
"""Inverse strength of the penalty: the likelihood is all but free of it."""
NEWTON = 4
"""Steps from a curve without an input to the one with it."""
OVERALL, STANDS = "overall", "stands"


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
    by_input: dict[str, float] = field(default_factory=dict)
    """p-values of the inputs, after Holm's procedure."""
    moved: dict[str, float] = field(default_factory=dict)
    """Share of customers who are elsewhere in an input than the reference's."""

    @property
    def drifted(self) -> bool | None:
        """Whether some test rejects at the level; None where none could be made."""
        return min(self.p.values()) < self.level if self.p else None

    def metrics(self, prefix: str = "concept") -> dict[str, float]:
        """Flat, under the prefix; none where nothing was tested."""
        if not self.p:
            return {}
        counts = {
            "churners": self.churners,
            "expected": self.expected,
            "drift": float(bool(self.drifted)),
            "level": self.level_shift,
            "slope": self.slope,
        }
        if self.by_input:
            counts |= {"p.reasons": min(self.by_input.values()), "reasons": float(len(self.reasons))}
            counts["unfamiliar"] = float(len(self.unfamiliar))
        by_test = {f"p.{name.lower()}": p for name, p in (self.p | self.gap).items()}
        return {f"{prefix}.{name}": value for name, value in (by_test | counts).items()}

    @property
    def where(self) -> list[str]:
        """The tests that reject."""
        return [name for name, p in self.p.items() if p < self.level]

    @property
    def reasons(self) -> list[str]:
        """Inputs that did not move and count for more or less than they did, the surest first."""
        return [name for name in self._otherwise if self.moved[name] < MOVED]

    @property
    def unfamiliar(self) -> list[str]:
        """Inputs that moved and count otherwise at their new values, the surest first."""
        return [name for name in self._otherwise if self.moved[name] >= MOVED]

    @property
    def _otherwise(self) -> list[str]:
        return sorted((x for x, p in self.by_input.items() if p < self.level), key=self.by_input.__getitem__)

    @property
    def remedy(self) -> str | None:
        """The verb that is proposed: retrain where inputs count otherwise, recalibrate where only the gap is there."""
        if self._otherwise:
            return "retrain"
        return "recalibrate" if self.gap and min(holm(self.gap).values()) < self.level else None


def concept_drift(
    reference: pd.DataFrame,
    cohort: pd.DataFrame,
    level: float,
    inputs: Mapping[str, TestedInput] = MappingProxyType({}),
) -> Concept:
    """Compare label given score in two samples; where nothing differs, it is `drifted` with probability `level`.

    Each has churn_probability, churn and risk_tier, and `stands` where rows stand for more than one customer. `inputs`
    are those of the rows of both, in their order.
    """
    columns, after = [PROBABILITY, "churn", TIER], np.repeat([0, 1], [len(reference), len(cohort)])
    both = pd.concat([reference, cohort]).reindex(columns=[*columns, STANDS])
    y, tier = both["churn"].to_numpy(dtype="int64"), both[TIER].to_numpy()
    score, before = logit(np.clip(both[PROBABILITY].to_numpy(), 1e-6, 1 - 1e-6)), after == 0
    stands = both[STANDS].fillna(1.0).to_numpy(dtype="float64")
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
    full = np.column_stack([curve, *added.values()])
    near = _probability(full, y, stands, full)
    of_inputs = dict[str, float]()
    for name, one in inputs.items():
        base = np.column_stack([full, one.columns])
        of_inputs[name] = test(base, after[:, None] * one.columns, _refined(base, near, y, stands))
    usual = _probability(curve[before], y[before], stands[before], curve[~before])
    moved = _recalibration(usual, y[~before], stands[~before])
    far = {name: one.moved for name, one in inputs.items()}
    return Concept(
        holm(raw), level, churners, float(stands[~before] @ usual), gap, *moved, holm(of_inputs), far
    )


def _refined(columns: Array, near: Array, y: Labels, weights: Array) -> Array:
    """What a logistic curve of `columns` says, by a few steps of Newton's from the probabilities `near` its maximum."""
    X, odds = np.column_stack([np.ones(len(y)), columns]), logit(np.clip(near, 1e-9, 1 - 1e-9))
    for _ in range(NEWTON):
        says = expit(odds)
        information = (X * (weights * says * (1 - says))[:, None]).T @ X
        odds = odds + X @ np.linalg.lstsq(information, X.T @ (weights * (y - says)))[0]
    refined: Array = expit(odds)
    return refined


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
    of_base, triangle = np.linalg.qr(X * root)
    left = more - X @ np.linalg.lstsq(triangle, of_base.T @ (more * root))[0]
    of_more = np.linalg.qr(left * root)[0]
    leverage = (of_base**2).sum(axis=1) + (of_more**2).sum(axis=1)
    residual = weights * (y - probability)
    score, spread = left.T @ residual, left * (residual / np.maximum(1 - leverage, 0.1))[:, None]
    return float(chi2.sf(score @ np.linalg.pinv(spread.T @ spread) @ score, more.shape[1]))
