"""How well effects are predicted and how much policies are worth, on customers whose chance of each option is logged.

Nobody shows both outcomes, so a score stands for each row's effect: its mean over any group that was chosen without
looking at outcomes is that group's average effect.

    inverse propensity    y * (t / e - (1 - t) / (1 - e))                                  Horvitz & Thompson 1952
    doubly robust         m1 - m0 + (t / e - (1 - t) / (1 - e)) * (y - m of its own arm)   Robins et al. 1994

Intervals are of 95 %, by influence functions and Hall's correction for skewness (`inference.skewed`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from spanishgas.errors import DataError
from spanishgas.evaluation.inference import Difference, skewed
from spanishgas.evaluation.metrics import Array

FIFTHS = 5


def inverse_propensity(y: Array, treated: Array, propensity: Array) -> Array:
    """The score of each row's effect that needs no model, shape (rows,)."""
    scores: Array = y * (treated / propensity - (1 - treated) / (1 - propensity))
    return scores


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


def option_scores(value: Array, option: NDArray[np.intp], propensity: Array, expected: Array) -> Array:
    """Doubly robust scores of what each option is worth to each row, shape (rows, options).

    `value` is what came of the row under its `option`; `propensity` and `expected` are the chance of each option and
    the value expected under it, by a model that has not seen the row; both of shape (rows, options).
    """
    rows = np.arange(len(value))
    if not (np.isfinite(propensity).all() and (propensity[rows, option] > 0).all()):
        raise DataError(
            "an option was made whose propensity is missing or 0: it was not logged. Leave those rows out"
        )
    scores = expected.copy()
    scores[rows, option] += (value - expected[rows, option]) / propensity[rows, option]
    return scores


def policy_value(
    scores: Array, choice: NDArray[np.intp], other: NDArray[np.intp] | None = None
) -> Difference:
    """The mean value per row of giving each its `choice`, less that of giving it `other` if any.

    `scores` as `option_scores` gives them; both policies are judged on the same rows, so the interval is a paired one
    (Dudik, Langford & Li 2011).
    """
    rows = np.arange(len(choice))
    return average(scores[rows, choice] - (0.0 if other is None else scores[rows, other]))
