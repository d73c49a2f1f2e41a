"""Doubly robust scores: what each option is worth to each row, by what came of the one that it was under.

The mean of a score is right where the propensity is, or where the model of the outcome is (Robins et al. 1994).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanishgas.errors import DataError

Array = NDArray[np.float64]


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


def pseudo_outcomes(y: NDArray[np.int64], treated: Array, propensity: Array, arms: Array) -> Array:
    """Doubly robust scores of one treatment's effect, shape (rows,): their mean is the average effect.

    `arms` is P(y = 1) without and with the treatment, of models that have not seen the row, shape (rows, 2).
    """
    chances = np.column_stack([1 - propensity, propensity])
    by_option = option_scores(y.astype("float64"), treated.astype("int64"), chances, arms)
    scores: Array = by_option[:, 1] - by_option[:, 0]
    return scores
