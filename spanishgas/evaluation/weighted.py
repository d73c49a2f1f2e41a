"""All metrics of labelled customers who count more or less than once, with their bootstrap intervals.

A weight of 1 each gives what `metrics.ranking` and `metrics.decisions` give. Customers from whom others were taken by
chance stand for those others as well, with 1 / (share that was left): inverse probability weights, Horvitz & Thompson
(1952).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spanishgas.evaluation.bootstrap import figures
from spanishgas.evaluation.metrics import Array, Labels, rankings


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
    """Metrics and their intervals by `bootstrap.figures`, without those that the labels do not define."""
    order = np.argsort(-found.probability, kind="stable")  # once, not for every draw
    ranked = Judged(found.y[order], found.probability[order], found.flag[order], found.value[order])
    base = 1.0 if weights is None else weights[order]
    points, intervals = figures(lambda drawn: ranked.metrics(drawn * base), ranked.y, seed, level)
    defined = [name for name, point in points.items() if np.isfinite(point)]
    return {name: points[name] for name in defined}, {name: intervals[name] for name in defined}
