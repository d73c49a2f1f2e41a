"""Metrics under the names that they carry everywhere, by one formula for points, weights and draws.

A formula takes how often each customer counts as a churner (`hits`) and at all (`rows`), each of shape (draws,
customers): once for a point, as often as a resample drew the customer, or as many customers as it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from spanishgas.training.folds import fold_error

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
LIFTS, GROUPS = (5, 10, 20), 10
"""Per cent of the customers, and groups of them for the calibration error."""
OF_ORDER = ("average_precision", "roc_auc", *(f"lift_{share:02d}" for share in LIFTS))
"""What depends on the order of scores alone."""


def ranking(y: Labels, probability: Array) -> dict[str, float]:
    """What `rankings` gives of the customers as they are."""
    once = rankings(y[None], np.ones((1, len(y))), probability)
    return {name: float(value[0]) for name, value in once.items()}


def rankings(hits: NDArray[Any], rows: NDArray[Any], probability: Array) -> dict[str, Array]:
    """Metrics of probabilities: average_precision, roc_auc, brier, log_loss, ece, and lift_05, lift_10, lift_20.

    A lift is the churn rate of the riskiest 5, 10 or 20 % over that of all. Customers with one probability count at
    their mean rate: ties have no order. What one class alone does not define is nan.
    """
    p, hits, rows, count, caught, seen = _by_score(hits, rows, probability)
    churners, total = caught[:, -1], seen[:, -1]
    churn, stay = (-np.log(np.clip(chance, 1e-15, 1)) for chance in (p, 1 - p))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "average_precision": _average_precision(hits, caught, seen),
            "roc_auc": ((rows - hits) * (caught[:, 1:] - hits / 2)).sum(axis=1)
            / (churners * (total - churners)),
            "brier": (hits @ (1 - 2 * p) + rows @ p**2) / total,
            "log_loss": (hits @ (churn - stay) + rows @ stay) / total,
            "ece": _gaps(rows * p - hits, count) / total,
            **{f"lift_{share:02d}": _rate(share, caught, seen) / (churners / total) for share in LIFTS},
        }


def average_precisions(hits: NDArray[Any], rows: NDArray[Any], score: Array) -> Array:
    """Average precision as scikit-learn defines it, shape (draws,); nan without churners."""
    _, hits, _, _, caught, seen = _by_score(hits, rows, score)
    with np.errstate(invalid="ignore"):
        return _average_precision(hits, caught, seen)


def _by_score(hits: NDArray[Any], rows: NDArray[Any], score: Array) -> tuple[Array, ...]:
    """Distinct scores from the highest down, `hits` and `rows` at each, and running totals after a leading 0.

    The totals are of customers, whatever they count, of `hits`, and of `rows`.
    """
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))
    at = [np.add.reduceat(part.take(order, axis=1), starts, axis=1) for part in (hits, rows)]
    return score[order][starts], *at, np.append(starts, len(score)), *map(_running, at)


def _running(part: Array) -> Array:
    return np.pad(part, ((0, 0), (1, 0))).cumsum(axis=1)


def _average_precision(hits: Array, caught: Array, seen: Array) -> Array:
    precision = (caught / np.maximum(seen, 1e-300))[:, 1:]
    mean: Array = (hits * precision).sum(axis=1) / caught[:, -1]
    return mean


def _gaps(gap: Array, count: Array) -> Array:
    """Absolute gaps of GROUPS of equal size, summed: the expected calibration error of Naeini et al. (2015)."""
    sizes = [len(part) for part in np.array_split(np.empty(count[-1]), GROUPS)]
    edges = np.cumsum([0, *reversed(sizes)])
    upto = [np.interp(edges, count, draw) for draw in _running(gap)]
    total: Array = np.abs(np.diff(upto, axis=1)).sum(axis=1)
    return total


def _rate(share: int, caught: Array, seen: Array) -> Array:
    """Churn rate of the riskiest `share` per cent."""
    most = np.maximum(1, np.round(share / 100 * seen[:, -1]))
    return np.array([np.interp(*draw) for draw in zip(most, seen, caught, strict=True)]) / most


def decisions(y: Labels, flag: Labels) -> dict[str, float]:
    """Metrics of flags: precision and recall, 0 where nothing is flagged."""
    hits = float((y * flag).sum())
    return {"precision": hits / max(1, int(flag.sum())), "recall": hits / max(1, int(y.sum()))}


def confusion(y: Labels, flag: Labels) -> dict[str, int]:
    """Customers by what they were flagged as and what they did."""
    return {
        "churners flagged": int((y * flag).sum()),
        "churners missed": int((y * (1 - flag)).sum()),
        "stayers flagged": int(((1 - y) * flag).sum()),
        "stayers left alone": int(((1 - y) * (1 - flag)).sum()),
    }


def fold_interval(scores: Sequence[float], repeats: int = 1, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of a mean over folds, by the corrected error of `fold_error`."""
    mean, half = float(np.mean(scores)), fold_half_width(scores, repeats, level)
    return mean - half, mean + half


def fold_half_width(scores: Sequence[float], repeats: int = 1, level: float = 0.95) -> float:
    """Half the width of `fold_interval`."""
    return float(stats.t.ppf(0.5 + level / 2, len(scores) - 1)) * fold_error(scores, repeats)


def with_intervals(
    prefix: str, values: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Flat metrics `prefix.name`, `prefix.name.low` and `prefix.name.high`."""
    flat = {f"{prefix}.{name}": value for name, value in values.items()}
    for name, (low, high) in intervals.items():
        flat |= {f"{prefix}.{name}.low": low, f"{prefix}.{name}.high": high}
    return flat
