"""How well effects are predicted and how much policies are worth, on customers whose chance of each option is logged.

Nobody shows both outcomes, so a score stands for each row's effect: its mean over any group that was chosen without
looking at outcomes is that group's average effect (`training.doubly_robust`).
Intervals are of 95 %, by influence functions and Hall's correction for skewness (`inference.skewed`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from spanishgas.errors import DataError
from spanishgas.evaluation.inference import Difference, skewed
from spanishgas.evaluation.metrics import Array

FIFTHS = 5


def average(scores: Array) -> Difference:
    """The mean of `scores`, one per row, with its interval."""
    off, rows = scores - scores.mean(), len(scores)
    return Difference(
        float(scores.mean()),
        *skewed(float(scores.mean()), float((off**2).sum()) / rows**2, float((off**3).sum()) / rows**3),
    )


def uplift_curve(effect: Array, scores: Array) -> Array:
    """Effect per row of all from treating the share of rows whose predicted effect is highest, shape (rows + 1, 2).

    Rows with one prediction count at their mean: ties have no order.
    """
    _, same = np.unique(-effect, return_inverse=True)
    level = (np.bincount(same, scores) / np.bincount(same))[same]
    gain = np.concatenate([[0.0], np.cumsum(level[np.argsort(same, kind="stable")])]) / len(scores)
    return np.column_stack([np.linspace(0, 1, len(gain)), gain])


def auuc(effect: Array, scores: Array) -> Difference:
    """The area under the uplift curve, with its interval."""
    return _area(effect, scores, 0.0)


def qini(effect: Array, scores: Array) -> Difference:
    """The Qini coefficient (Radcliffe 2007): the area between the uplift curve and that of a random order."""
    return _area(effect, scores, 0.5)


def _area(effect: Array, scores: Array, random: float) -> Difference:
    """E[score * (F(effect) - random)] with F the distribution of predictions, and its interval.

    That is the area, and a U-statistic: beside its own term, a row moves F for all whose prediction is at least as high
    (Hoeffding 1948).
    """
    rows, own = len(scores), (rankdata(effect) - 0.5) / len(scores)
    _, same = np.unique(effect, return_inverse=True)
    there = np.bincount(same, scores)
    above = (np.cumsum(there[::-1])[::-1] - there / 2)[same] / rows
    told = average(scores * (own - random) + above)
    value = float((scores * (own - random)).mean())
    shift = value - told.value
    return Difference(value, told.low + shift, told.high + shift)


def calibration(effect: Array, scores: Array, groups: int = FIFTHS) -> pd.DataFrame:
    """Predicted beside observed effects: a row per fifth of the predictions, lowest first.

    Columns: rows, predicted, observed, low, high. Fewer rows where predictions tie across groups.
    """
    if len(scores) < groups:
        raise DataError(f"{len(scores)} rows make no {groups} groups: give more of them")
    share = (rankdata(effect, method="min") - 1) / len(effect)
    lines = []
    for at in np.unique(group := np.floor(share * groups).astype(int)):
        seen = average(scores[group == at])
        lines.append(((group == at).sum(), effect[group == at].mean(), seen.value, seen.low, seen.high))
    return pd.DataFrame(lines, columns=["rows", "predicted", "observed", "low", "high"])
