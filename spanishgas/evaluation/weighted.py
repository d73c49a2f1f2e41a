"""All metrics of labelled customers who count more or less than once: one formula for points, weights and bootstrap.

A weight of 1 each gives what `metrics.ranking` and `metrics.decisions` give. Customers from whom others were taken by
chance stand for those others as well, with 1 / (share that was left): inverse probability weights, Horvitz & Thompson
(1952).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanishgas.evaluation.metrics import RESAMPLES, Array, Labels

BATCH_CELLS, BINS = 500_000, 10


@dataclass(frozen=True)
class Judged:
    """Customers whose label is known, what a model said of them, and what offers to the flagged would have brought."""

    y: Labels
    probability: Array
    flag: Labels
    value: Array
    """EUR."""


def metrics(found: Judged, weights: Array) -> dict[str, Array]:
    """Metrics by name for each row of `weights`, shape (draws, customers); the customers in rising probability.

    average_precision, roc_auc, brier, ece, precision (0 where nothing is flagged), recall, churn_rate, value_eur. What
    one class alone does not define is nan.
    """
    y, p, flag = found.y, found.probability, found.flag
    starts = np.flatnonzero(np.diff(p, prepend=-np.inf))
    total, churners = weights.sum(axis=1), weights @ y
    rows, hits = (np.add.reduceat(part, starts, axis=1) for part in (weights, weights * y))
    down = hits[:, ::-1].cumsum(axis=1)[:, ::-1]
    seen = rows[:, ::-1].cumsum(axis=1)[:, ::-1]
    gaps = np.add.reduceat(weights * (p - y), starts, axis=1) @ _bins(starts, len(y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "average_precision": (hits * np.nan_to_num(down / seen)).sum(axis=1) / churners,
            "roc_auc": ((rows - hits) * (down - hits / 2)).sum(axis=1) / (churners * (total - churners)),
            "brier": weights @ (p - y) ** 2 / total,
            "ece": np.abs(gaps).sum(axis=1) / total,
            "precision": np.nan_to_num(weights @ (y * flag) / (weights @ flag)),
            "recall": weights @ (y * flag) / churners,
            "churn_rate": churners / total,
            "value_eur": weights @ found.value,
        }


def _bins(starts: NDArray[np.intp], n: int) -> Array:
    """Share of the customers of each probability in each of ten groups of equal size: ties have no order."""
    ends = np.append(starts[1:], n)[:, None]
    edges = np.cumsum([0, *(len(part) for part in np.array_split(np.empty(n), BINS))])
    within = np.minimum(ends, edges[1:]) - np.maximum(starts[:, None], edges[:-1])
    shares: Array = np.maximum(within, 0) / (ends - starts[:, None])
    return shares


def performance(
    found: Judged, weights: Array | None = None, *, seed: int = 0, level: float = 0.95
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics and their percentile intervals over resampled customers; without those that the labels do not define."""
    n, order = len(found.y), np.argsort(found.probability, kind="stable")
    rising = Judged(found.y[order], found.probability[order], found.flag[order], found.value[order])
    base = np.ones(n) if weights is None else weights[order]
    points = {name: float(value[0]) for name, value in metrics(rising, base[None, :]).items()}
    points = {name: value for name, value in points.items() if np.isfinite(value)}
    rng, batch = np.random.default_rng(seed), max(1, BATCH_CELLS // n)
    sizes = [min(batch, RESAMPLES - done) for done in range(0, RESAMPLES, batch)]
    draws = [metrics(rising, base * _resampled(n, size, rng)) for size in sizes]
    ends = [50 * (1 - level), 50 * (1 + level)]
    drawn = {name: np.concatenate([d[name] for d in draws]) for name in points}
    return points, {
        name: (float(low), float(high))
        for name, values in drawn.items()
        for low, high in [np.percentile(values[np.isfinite(values)], ends)]
    }


def _resampled(n: int, draws: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """How often each customer is drawn, shape (draws, n)."""
    taken = rng.integers(0, n, (draws, n)) + n * np.arange(draws)[:, None]
    return np.bincount(taken.ravel(), minlength=draws * n).reshape(draws, n)
