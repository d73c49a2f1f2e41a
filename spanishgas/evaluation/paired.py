"""Two models on the same held-out customers: the difference with an interval that knows they share them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import bernoulli

from spanishgas.evaluation.bootstrap import figures
from spanishgas.evaluation.metrics import Array, Labels, average_precisions, rankings

DRAWS = 1000
"""Twice as many as for intervals that decide nothing."""


@dataclass(frozen=True)
class Difference:
    """How much better (positive) or worse one model is than another, with its interval (95 % unless said)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Predictions:
    """What a model says of each customer, and what its offers would have brought, EUR."""

    probability: Array
    value: Array


def differences(
    y: Labels,
    ours: Predictions,
    theirs: Predictions,
    seed: int,
    *,
    counts: Array | None = None,
    level: float = 0.95,
) -> dict[str, Difference]:
    """Ours less theirs: `average_precision`, and `value_eur` summed over the customers.

    As `bootstrap.figures` gives them; each draw judges both models on the same customers. `counts` is how
    many customers each of them stands for (1 if None), `level` that of the intervals.
    """
    stands = np.ones(len(y)) if counts is None else counts

    def gaps(drawn: Array) -> dict[str, Array]:
        weights = drawn * stands
        our, their = (average_precisions(weights * y, weights, p.probability) for p in (ours, theirs))
        return {"average_precision": our - their, "value_eur": weights @ (ours.value - theirs.value)}

    points, intervals = figures(gaps, y, seed, level, DRAWS)
    return {name: Difference(points[name], *intervals[name]) for name in points}


def calibration_by_chance(probability: Array, seed: int) -> float:
    """Calibration error that 95 % of samples stay below where the probabilities are right, by drawing labels of them.

    Few customers per group leave a gap even then: a limit below this would refuse perfect models.
    """
    drawn = bernoulli.rvs(probability, size=(200, len(probability)), random_state=seed % 2**32)
    return float(np.percentile(rankings(drawn, np.ones_like(drawn), probability)["ece"], 95))
