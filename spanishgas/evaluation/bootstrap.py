"""The one rule by which intervals over customers are made: the percentile bootstrap (Efron 1979).

A draw takes as many customers as there are, with replacement and **not within classes**: the churn rate varies from
draw to draw, as it does from one sample of customers to the next. Drawing within classes leaves that out, and its
intervals of average precision are too narrow. A draw that lacks a class which the customers have is drawn again.

Customers from whom others were taken by chance stand for those others as well, with a weight of 1 / (share that was
left): inverse probability weights, Horvitz & Thompson (1952).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from spanishgas.evaluation.metrics import Array, Labels, rankings

RESAMPLES, CELLS = 500, 500_000
Seed = int | np.random.Generator


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
        yield kept


def percentiles(draws: Array, level: float = 0.95) -> tuple[float, float]:
    """Ends that leave as many draws below as above."""
    low, high = np.percentile(draws, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


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
    found: Judged, weights: Array | None = None, *, seed: int = 0, level: float = 0.95
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics and their intervals by `figures`, without those that the labels do not define."""
    order = np.argsort(-found.probability, kind="stable")  # once, not for every draw
    ranked = Judged(found.y[order], found.probability[order], found.flag[order], found.value[order])
    base = 1.0 if weights is None else weights[order]
    points, intervals = figures(lambda drawn: ranked.metrics(drawn * base), ranked.y, seed, level)
    defined = [name for name, point in points.items() if np.isfinite(point)]
    return {name: points[name] for name in defined}, {name: intervals[name] for name in defined}
