"""Cross-validation folds: stratified by the label, the same for every experiment and model of one seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

FRESH = 1_000_003
"""Added to the seed of the folds that report: they must not be the folds that chose."""


class Fold(NamedTuple):
    """Row positions of one fold's two sides."""

    train: NDArray[np.intp]
    valid: NDArray[np.intp]


def folds(y: NDArray[np.int64], count: int, seed: int) -> list[Fold]:
    """`count` folds over the rows of `y`; every row is validated exactly once."""
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed % 2**32)
    return [Fold(train, valid) for train, valid in splitter.split(np.zeros(len(y)), y)]
