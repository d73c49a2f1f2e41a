"""Point metrics under the names that they carry everywhere, and their bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from spanishgas.training.folds import fold_error

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
RESAMPLES = 500
LIFTS = (5, 10, 20)
"""Per cent."""


def ranking(y: Labels, probability: Array) -> dict[str, float]:
    """Metrics of probabilities: average_precision, roc_auc, brier, log_loss, ece, and lift_05, lift_10, lift_20.

    A lift is the churn rate of the riskiest 5, 10 or 20 % over that of all.
    """
    ordered = _ordered(y, probability)
    return {
        "average_precision": float(average_precision_score(y, probability)),
        "roc_auc": float(roc_auc_score(y, probability)),
        "brier": float(np.mean((probability - y) ** 2)),
        "log_loss": float(
            np.mean(-np.log(np.clip(np.where(y == 1, probability, 1 - probability), 1e-15, 1)))
        ),
        "ece": _gap(*ordered, bins=10),
        **{f"lift_{share:02d}": _lift(ordered[1], share / 100) for share in LIFTS},
    }


def lift(y: Labels, probability: Array, share: float) -> float:
    """Churn rate of the riskiest `share` of the customers over that of all; ties count at their mean rate."""
    return _lift(_ordered(y, probability)[1], share)


def _lift(rate: Array, share: float) -> float:
    return float(rate[-max(1, round(share * len(rate))) :].mean() / rate.mean())


def expected_calibration_error(y: Labels, probability: Array, bins: int = 10) -> float:
    """Mean absolute gap of mean probability and churn rate over `bins` groups of equal size (Naeini et al. 2015)."""
    return _gap(*_ordered(y, probability), bins=bins)


def _gap(probability: Array, rate: Array, bins: int) -> float:
    groups = np.array_split(probability - rate, bins)
    return float(sum(abs(group.sum()) for group in groups) / len(rate))


def _ordered(y: Labels, probability: Array) -> tuple[Array, Array]:
    """Probabilities in rising order, and the churn rate among the customers of each one: ties have no order."""
    order = np.argsort(probability, kind="stable")
    rising = probability[order]
    starts = np.flatnonzero(np.diff(rising, prepend=-np.inf))
    count = np.diff(starts, append=len(rising))
    return rising, np.repeat(np.add.reduceat(y[order], starts) / count, count)


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


def bootstrap(
    metrics: Callable[[NDArray[np.intp]], Mapping[str, float]], y: Labels, seed: int, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile intervals over resampled customers, by metric; `metrics` takes row positions.

    The churn rate varies with the resample, as it does from one draw of customers to the next: resampling within
    classes leaves that out, and its intervals of average precision are too narrow. A resample of one class is drawn
    again.
    """
    rng = np.random.default_rng(seed)
    draws: list[Mapping[str, float]] = []
    while len(draws) < RESAMPLES:
        rows = rng.integers(0, len(y), len(y))
        if 0 < y[rows].sum() < len(y):
            draws.append(metrics(rows))
    tail = 50 * (1 - level)
    return {
        name: (float(low), float(high))
        for name in draws[0]
        for low, high in [np.percentile([d[name] for d in draws], [tail, 100 - tail])]
    }


def average_precisions(hits: NDArray[Any], rows: NDArray[Any], score: Array) -> Array:
    """Average precision of many draws of one table at once, as scikit-learn defines it; shape (draws,).

    `hits` and `rows`, shape (draws, customers), say how often each customer is drawn as a churner, and at all. A draw
    without churners gives nan.
    """
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))
    found = np.add.reduceat(hits[:, order], starts, axis=1)
    so_far = found.cumsum(axis=1)
    precision = so_far / np.maximum(np.add.reduceat(rows[:, order], starts, axis=1).cumsum(axis=1), 1)
    with np.errstate(invalid="ignore"):
        mean: Array = (found * precision).sum(axis=1) / so_far[:, -1]
    return mean


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
