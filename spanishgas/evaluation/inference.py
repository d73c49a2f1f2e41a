"""The rules by which intervals and tests over customers are made; first of all the percentile bootstrap (Efron 1979).

A draw takes as many customers as there are, with replacement and **not within classes**: the churn rate varies from
draw to draw, as it does from one sample of customers to the next. Drawing within classes leaves that out, and its
intervals of average precision are too narrow. A draw that lacks a class which the customers have is drawn again.

A total in EUR is another matter: ten customers carry a third of it, and a percentile bootstrap of so skewed a sum
leaves the truth out in one of five. It gets a normal interval by Hall's transformation for skewness (1992), nowhere
narrower than the plain one (`total`).

Customers from whom others were taken by chance stand for those others as well, with a weight of 1 / (share that was
left): inverse probability weights, Horvitz & Thompson (1952).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TypeVar

import numpy as np
from scipy.stats import bernoulli, norm

from spanishgas.evaluation.metrics import Array, Labels, average_precisions, rankings

RESAMPLES, CELLS = 500, 500_000
Z = float(norm.isf(0.025))
"""Standard errors to either side of a 95 % interval."""
Seed = int | np.random.Generator
Test = TypeVar("Test")


def figures(
    metrics: Callable[[Array], Mapping[str, Array]],
    y: Labels,
    seed: Seed,
    level: float = 0.95,
    draws: int = RESAMPLES,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics of the customers as they are, and their intervals.

    `metrics` takes how often each customer counts, shape (draws, customers), and gives arrays of shape (draws,).
    """
    once = metrics(np.ones((1, len(y))))
    drawn = [metrics(weights) for weights in resamples(y, seed, draws)]
    intervals = {name: percentiles(np.concatenate([of[name] for of in drawn]), level) for name in once}
    return {name: float(value[0]) for name, value in once.items()}, intervals


def resamples(y: Labels, seed: Seed, draws: int) -> Iterator[Array]:
    """How often each customer is drawn, shape (draws, customers), in batches of about CELLS."""
    rng, n, classes = np.random.default_rng(seed), len(y), len(np.unique(y))
    while draws:
        size = min(draws, max(1, CELLS // n))
        rows = rng.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(rows.ravel(), minlength=size * n).reshape(size, n).astype(float)
        churners = weights @ y
        kept = weights[(churners > 0).astype(int) + (churners < n) == classes]
        draws -= len(kept)
        if len(kept):
            yield kept


def percentiles(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """Ends that leave as many draws below as above."""
    low, high = np.percentile(draws, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def total(values: Array, level: float = 0.95) -> tuple[float, float]:
    """Interval of what so many customers bring in all, from what each of these brings."""
    off = values - values.mean()
    return skewed(float(values.sum()), float((off**2).sum()), float((off**3).sum()), level)


def skewed(value: float, variance: float, third: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of an estimate from its second and third central moment.

    Hall (1992), "On the removal of skewness by transformation": t + c/3 t^2 + c^2/27 t^3 + c/6 is all but normal where
    c is the estimate's skewness, and is solved for t. Its ends are moved outward to those of the normal interval where
    they lie within: a difference has heavy tails to both sides, and few customers show only one of them.
    """
    error, z = sqrt(variance), float(norm.isf((1 - level) / 2))
    if not error > 0:
        return value, value
    skewness = third / error**3
    ends = [z, -z]
    if abs(skewness) > 1e-6:
        ends = [3 / skewness * (float(np.cbrt(1 + skewness * (u - skewness / 6))) - 1) for u in ends]
    return value - error * max(z, ends[0]), value - error * min(-z, ends[1])


@dataclass(frozen=True)
class Judged:
    """Customers whose label is known, what a model said of them, and what offers to the flagged would have brought."""

    y: Labels
    probability: Array
    flag: Labels
    value: Array
    """EUR."""

    def metrics(self, weights: Array) -> dict[str, Array]:
        """Metrics by name for each row of `weights`, shape (draws, customers); what one class does not define is nan.

        Those of `rankings`, precision (0 where nothing is flagged), recall, churn_rate and value_eur.
        """
        caught, churners = weights @ (self.y * self.flag), weights @ self.y
        with np.errstate(invalid="ignore", divide="ignore"):
            return rankings(weights * self.y, weights, self.probability) | {
                "precision": np.nan_to_num(caught / (weights @ self.flag)),
                "recall": caught / churners,
                "churn_rate": churners / weights.sum(axis=1),
                "value_eur": weights @ self.value,
            }


def performance(
    judged: Judged, weights: Array | None = None, *, seed: int = 0, level: float = 0.95
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics and their intervals by `figures` and `total`, without those that the labels do not define."""
    order = np.argsort(-judged.probability, kind="stable")  # once, not for every draw
    ranked = Judged(judged.y[order], judged.probability[order], judged.flag[order], judged.value[order])
    base = 1.0 if weights is None else weights[order]
    points, intervals = figures(lambda drawn: ranked.metrics(drawn * base), ranked.y, seed, level)
    intervals["value_eur"] = total(ranked.value * base, level)
    defined = [name for name, point in points.items() if np.isfinite(point)]
    return {name: points[name] for name in defined}, {name: intervals[name] for name in defined}


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

    As `figures` and `total` give them; each draw judges both models on the same customers. `counts` is how
    many customers each of them stands for (1 if None), `level` that of the intervals.
    """
    stands = np.ones(len(y)) if counts is None else counts

    def gaps(drawn: Array) -> dict[str, Array]:
        weights = drawn * stands
        our, their = (average_precisions(weights * y, weights, p.probability) for p in (ours, theirs))
        return {"average_precision": our - their, "value_eur": weights @ (ours.value - theirs.value)}

    points, intervals = figures(gaps, y, seed, level, DRAWS)
    intervals["value_eur"] = total(stands * (ours.value - theirs.value), level)
    return {name: Difference(points[name], *intervals[name]) for name in points}


def calibration_by_chance(probability: Array, seed: int) -> float:
    """Calibration error that 95 % of samples stay below where the probabilities are right, by drawing labels of them.

    Few customers per group leave a gap even then: a limit below this would refuse perfect models.
    """
    drawn = bernoulli.rvs(probability, size=(200, len(probability)), random_state=seed % 2**32)
    return float(np.percentile(rankings(drawn, np.ones_like(drawn), probability)["ece"], 95))


def wilson(k: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval of a share (Wilson 1927); exact ends at 0 and n."""
    middle, half = k + z * z / 2, z * sqrt(k * (n - k) / n + z * z / 4)
    low, high = (middle - half) / (n + z * z), (middle + half) / (n + z * z)
    return (0.0 if k == 0 else low), (1.0 if k == n else high)


def holm(raw: Mapping[Test, float]) -> dict[Test, float]:
    """P-values that may all be compared with one level, however many tests there were (Holm 1979)."""
    order = sorted(raw, key=lambda test: raw[test])
    steps = [min(1.0, raw[test] * (len(order) - rank)) for rank, test in enumerate(order)]
    adjusted = dict(zip(order, np.maximum.accumulate(steps).tolist(), strict=True)) if order else {}
    return {test: adjusted[test] for test in raw}


def shares(drawn: float, of: float, published: float, n: float, z: float) -> tuple[float, float]:
    """Difference of two shares, drawn / of - published / n, by Newcombe's method 10 (1998) from Wilson's intervals."""
    p, q = drawn / of, published / n
    (p_low, p_high), (q_low, q_high) = wilson(drawn, of, z), wilson(published, n, z)
    low = p - q - sqrt((p - p_low) ** 2 + (q_high - q) ** 2)
    return low, p - q + sqrt((p_high - p) ** 2 + (q - q_low) ** 2)


def means(
    drawn: float, sd: float, of: float, published: float, published_sd: float, n: float, z: float
) -> tuple[float, float]:
    """Difference of two means, each with its own deviation (Welch)."""
    half = z * sqrt(sd**2 / of + published_sd**2 / n)
    return drawn - published - half, drawn - published + half
