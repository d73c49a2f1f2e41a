"""Cross-validation folds: stratified by the label, the same for every experiment and model of one seed.

By customer all rows are validated. Forward in time only those of the newest day are, by what older days taught of other
customers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold, train_test_split

from spanishgas.training.sides import Forward, Groups

FRESH = 1_000_003
"""Added to the seed of the folds that report: they must not be the folds that chose."""


class Fold(NamedTuple):
    """Row positions of one fold's two sides."""

    train: NDArray[np.intp]
    valid: NDArray[np.intp]


def folds(
    y: NDArray[np.int64], count: int, seed: int, groups: Groups = None, forward: Forward | None = None
) -> list[Fold]:
    """`count` folds over the rows of `y`; every row, forward in time every row of the newest day, is validated once."""
    if forward is not None:
        groups = np.arange(len(y)) if groups is None else groups
        newest, older = np.flatnonzero(forward.newest), np.flatnonzero(forward.learns)
        parts = folds(y[newest], count, seed, np.unique(groups[newest], return_inverse=True)[1])
        sides = [newest[part.valid] for part in parts]
        return [Fold(older[~np.isin(groups[older], groups[valid])], valid) for valid in sides]
    splitter, of_each = StratifiedKFold(count, shuffle=True, random_state=seed % 2**32), _customers(y, groups)
    parts = [Fold(train, valid) for train, valid in splitter.split(np.zeros(len(of_each)), of_each)]
    return [_rows(part, groups) for part in parts]


def fresh_folds(
    y: NDArray[np.int64],
    count: int,
    seed: int,
    repeats: int = 1,
    groups: Groups = None,
    forward: Forward | None = None,
) -> list[Fold]:
    """`repeats` times `count` folds that no search of this seed has seen, repeat after repeat."""
    seeds = [seed + FRESH + repeat for repeat in range(repeats)]
    return [fold for of_repeat in seeds for fold in folds(y, count, of_repeat, groups, forward)]


def inner_split(
    y: NDArray[np.int64], share: float, seed: int, fewest: int = 1, groups: Groups = None
) -> Fold | None:
    """A stratified `share` of the rows set aside; None where that would be less than `fewest` of the rarer class."""
    of_each = _customers(y, groups)
    rarer = int(np.bincount(of_each, minlength=2).min())
    if rarer * share < fewest or rarer * (1 - share) < 1:
        return None
    rows, state = np.arange(len(of_each)), seed % 2**32
    train, valid = train_test_split(rows, test_size=share, stratify=of_each, random_state=state)
    return _rows(Fold(np.sort(train), np.sort(valid)), groups)


def _customers(y: NDArray[np.int64], groups: Groups) -> NDArray[np.int64]:
    """A label per customer: whether one of their rows is of a churner."""
    if groups is None:
        return y
    left = np.zeros(groups.max() + 1, dtype=y.dtype)
    np.maximum.at(left, groups, y)
    return left


def _rows(part: Fold, groups: Groups) -> Fold:
    if groups is None:
        return part
    return Fold(*(np.flatnonzero(np.isin(groups, side)) for side in part))


def fold_error(scores: Sequence[float], repeats: int = 1) -> float:
    """Standard error of a mean over `repeats` times k folds, corrected for the training rows that they share.

    sd * sqrt(1/(repeats k) + test rows / training rows), Nadeau & Bengio 2003, and Bouckaert & Frank 2004 for repeats;
    without the second term it is far too small.
    """
    count = len(scores)
    return float(np.std(scores, ddof=1) * np.sqrt(1 / count + 1 / (count / repeats - 1)))
