"""Two models on the same held-out customers: the difference with an interval that knows they share them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import bernoulli

from spanishgas.evaluation.metrics import Array, Labels, average_precisions, expected_calibration_error

RESAMPLES, BATCH, LEVEL = 1000, 100, 0.95


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
    level: float = LEVEL,
) -> dict[str, Difference]:
    """Ours less theirs: `average_precision`, and `value_eur` summed over the customers.

    Percentile bootstrap over customers within classes; each draw judges both models on the same customers. `counts` is
    how many customers each of them stands for (1 if None), `level` that of the intervals.
    """
    rng = np.random.default_rng(seed)
    by = {"average_precision": list[Array](), "value_eur": list[Array]()}
    for draws in [None, *[BATCH] * (RESAMPLES // BATCH)]:
        weights = np.ones((1, len(y))) if draws is None else _draw(y, draws, rng)
        weights = weights if counts is None else weights * counts
        ranked = [average_precisions(weights * y, weights, p.probability) for p in (ours, theirs)]
        by["average_precision"].append(ranked[0] - ranked[1])
        by["value_eur"].append(weights @ (ours.value - theirs.value))
    return {name: _difference(np.concatenate(found), level) for name, found in by.items()}


def _draw(y: Labels, draws: int, rng: np.random.Generator) -> Array:
    weights = np.zeros((draws, len(y)))
    for label in (0, 1):
        of = np.flatnonzero(y == label)
        if len(of):
            weights[:, of] = rng.multinomial(len(of), np.full(len(of), 1 / len(of)), size=draws)
    return weights


def _difference(found: Array, level: float) -> Difference:
    """The first entry is the customers as they are, the others are draws."""
    low, high = np.percentile(found[1:], [50 * (1 - level), 50 * (1 + level)])
    return Difference(float(found[0]), float(low), float(high))


def calibration_by_chance(probability: Array, seed: int) -> float:
    """Calibration error that 95 % of samples stay below where the probabilities are right, by drawing labels of them.

    Few customers per group leave a gap even then: a limit below this would refuse perfect models.
    """
    drawn = bernoulli.rvs(probability, size=(200, len(probability)), random_state=seed % 2**32)
    return float(np.percentile([expected_calibration_error(y, probability) for y in drawn], 95))
