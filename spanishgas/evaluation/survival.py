"""How well curves of leaving say when, on customers of whom some were lost before the horizon.

Whoever is known to have left by a month, or to be there still, stands for those who were lost before it as well: with
one over the probability of being observed so long, by the Kaplan-Meier estimate of the observation (inverse probability
of censoring). It rests on customers being lost for reasons that do not also make them leave. So weighted,

- `integrated_brier` is the Brier score of the curve, mean over the months (Graf et al. 1999);
- `roc_auc_<m>m` is the time-dependent AUC of who left by month m against who had not (cumulative/dynamic, Uno et al.
  2007), `average_precision_<m>m` their average precision;
- `ece_<m>m` is the calibration error of the probabilities of having left by month m, over tenths of the customers.
"""

from __future__ import annotations

import numpy as np

from spanishgas.evaluation.inference import figures
from spanishgas.evaluation.metrics import Array, rankings
from spanishgas.training.hazard import HORIZONS
from spanishgas.training.times import Times

SHOWN = ("average_precision", "roc_auc", "ece")


def weights(times: Times, month: int) -> tuple[Array, Array]:
    """How many customers each stands for by `month`: as one who had left, and as one of whom it is known."""
    observed = times.observed
    hits = np.where(times.left & (times.month <= month), 1 / observed[times.month], 0.0)
    there = (times.month > month) | (~times.left & (times.month == month))
    return hits, hits + there / observed[month]


def survival(
    times: Times, curve: Array, seed: int = 0
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Metrics of a curve (rows, months), and their 95 % bootstrap intervals; weights are those of all customers."""
    horizons = [months for months in HORIZONS if months <= times.horizon]
    stands = [weights(times, month) for month in range(1, times.horizon + 1)]
    error = [hits * (1 - 2 * p) + rows * p**2 for (hits, rows), p in zip(stands, curve.T, strict=True)]
    brier = np.mean(error, axis=0)

    def metrics(drawn: Array) -> dict[str, Array]:
        out = {"integrated_brier": drawn @ brier / drawn.sum(axis=1)}
        for months in horizons:
            hits, rows = stands[months - 1]
            ranked = rankings(drawn * hits, drawn * rows, curve[:, months - 1])
            out |= {f"{name}_{months}m": ranked[name] for name in SHOWN}
        return out

    points, intervals = figures(metrics, times.left.astype("int64"), seed)
    finite = [name for name in points if np.isfinite([points[name], *intervals[name]]).all()]
    return {name: points[name] for name in finite}, {name: intervals[name] for name in finite}
