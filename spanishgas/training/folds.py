"""Cross-validation folds: stratified by the label, the same for every experiment and model of one seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

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


def fresh_folds(y: NDArray[np.int64], count: int, seed: int, repeats: int = 1) -> list[Fold]:
    """`repeats` times `count` folds that no search of this seed has seen, repeat after repeat."""
    return [fold for repeat in range(repeats) for fold in folds(y, count, seed + FRESH + repeat)]


def inner_split(y: NDArray[np.int64], share: float, seed: int, fewest: int = 1) -> Fold | None:
    """A stratified `share` of the rows set aside; None where that would be less than `fewest` of the rarer class."""
    rarer = int(np.bincount(y, minlength=2).min())
    if rarer * share < fewest or rarer * (1 - share) < 1:
        return None
    train, valid = train_test_split(np.arange(len(y)), test_size=share, stratify=y, random_state=seed % 2**32)
    return Fold(np.sort(train), np.sort(valid))


def fold_error(scores: Sequence[float], repeats: int = 1) -> float:
    """Standard error of a mean over `repeats` times k folds, corrected for the training rows that they share.

    sd * sqrt(1/(repeats k) + test rows / training rows), Nadeau & Bengio 2003, and Bouckaert & Frank 2004 for repeats;
    without the second term it is far too small.
    """
    count = len(scores)
    return float(np.std(scores, ddof=1) * np.sqrt(1 / count + 1 / (count / repeats - 1)))
