"""Fitting one set of hyperparameters, fold by fold.

The preprocessing does not depend on hyperparameters but for how categories are spread, so each fold is encoded once per
way and shared by every trial. How many trees a boosted model grows is found by early stopping on an inner part of the
fold's training rows, never on the rows that score it; a refit then takes that number as given.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.metrics import average_precision_score
from sklearn.pipeline import Pipeline

from spanishgas.config.reading import Value
from spanishgas.config.search import EarlyStopping, family
from spanishgas.settings import settings
from spanishgas.training.families import column_types, estimator, is_native
from spanishgas.training.folds import Fold, folds, fresh_folds, inner_split
from spanishgas.training.matrix import preprocessor
from spanishgas.training.sides import Forward, Groups

Array = NDArray[np.float64]
TREES = "n_estimators"


@dataclass(frozen=True)
class Training:
    """The training side of one experiment: matrix, labels, and what the columns are."""

    X: pd.DataFrame
    y: NDArray[np.int64]
    features: Sequence[str]
    kinds: Mapping[str, str]
    model: str
    folds: int
    seed: int
    repeats: int = 1
    """How often the best parameters are refitted on `folds` fresh folds."""
    groups: Groups = None
    weights: Array | None = None
    """How much each row counts in a fit; all alike if None."""
    forward: Forward | None = None
    """Which rows learn and which are validated where folds are forward in time; by customer if None."""

    def search_folds(self) -> list[Fold]:
        """The folds that choose hyperparameters."""
        return folds(self.y, self.folds, self.seed, self.groups, self.forward)

    def fresh_folds(self) -> list[Fold]:
        """The folds that report, repeat after repeat."""
        return fresh_folds(self.y, self.folds, self.seed, self.repeats, self.groups, self.forward)

    @property
    def validated(self) -> Training:
        """The rows that folds are scored on: all, or forward in time those of the newest day."""
        if self.forward is None:
            return self
        rows = self.forward.newest
        groups = None if self.groups is None else np.unique(self.groups[rows], return_inverse=True)[1]
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, X=self.X[rows], y=self.y[rows], groups=groups, weights=weights, forward=None)

    def fresh_fold(self) -> NDArray[np.intp]:
        """The fold of the first repeat in which each of the `validated` rows is scored."""
        number = np.empty(len(self.y), dtype="intp")
        for fold, part in enumerate(self.fresh_folds()[: self.folds]):
            number[part.valid] = fold
        return number if self.forward is None else number[self.forward.newest]

    def weighed(self, rows: Any = slice(None), step: str = "") -> dict[str, Array]:
        """What a fit on these rows is told of their weights; `step` is the estimator's name in a pipeline."""
        return {} if self.weights is None else {f"{step}sample_weight": self.weights[rows]}

    @property
    def balance(self) -> float:
        """Rows of class 0 per row of class 1."""
        return float((self.y == 0).sum() / (self.y == 1).sum())

    def preprocessor(self, params: Mapping[str, Value]) -> ColumnTransformer:
        """What makes numbers of the matrix as `params` want them, not yet fitted."""
        return preprocessor(
            self.features, self.kinds, linear=family(self.model).linear, native=is_native(params)
        )

    def estimator(self, params: Mapping[str, Value], threads: int | None = None) -> Any:
        """The estimator with `params`, not yet fitted, which takes `threads`; those of the settings if None."""
        types = column_types(self.features, self.kinds)
        return estimator(self.model, params, self.seed, balance=self.balance, types=types, threads=threads)

    def unfitted(self, params: Mapping[str, Value]) -> Pipeline:
        """Preprocessing and estimator with `params` as one object, not yet fitted."""
        return Pipeline([("prepare", self.preprocessor(params)), ("model", self.estimator(params))])


@dataclass(frozen=True)
class Encoded:
    """One fold as numbers."""

    X: Array
    y: NDArray[np.int64]
    X_valid: Array
    y_valid: NDArray[np.int64]
    rows: NDArray[np.intp]
    """Positions of its training rows."""


@dataclass(frozen=True)
class Folds:
    """Folds of one training side, each encoded when a trial first needs it so."""

    training: Training
    parts: Sequence[Fold]
    kept: bool = True
    """Whether an encoded fold stays in memory for the next trial."""
    threads: int | None = None
    """At work on them; all of the settings if None."""
    _encoded: dict[tuple[int, bool], Encoded] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.parts)

    def encoded(self, number: int, params: Mapping[str, Value]) -> Encoded:
        """Fold `number` as `params` want it."""
        key = number, is_native(params)
        if key in self._encoded:
            return self._encoded[key]
        what, fold, prepare = self.training, self.parts[number], self.training.preprocessor(params)
        X = prepare.fit_transform(what.X.iloc[fold.train])
        X_valid = prepare.transform(what.X.iloc[fold.valid])
        encoded = Encoded(X, what.y[fold.train], X_valid, what.y[fold.valid], fold.train)
        if self.kept:
            self._encoded[key] = encoded
        return encoded


class FoldFit(NamedTuple):
    """What fitting on one fold's training rows gave."""

    score: float
    """Average precision of the fold's validation rows."""
    margins: Array
    """Their log odds."""
    trees: int | None
    """How many trees early stopping kept."""


def fold_by_fold(
    parts: Folds, params: Mapping[str, Value], stopping: EarlyStopping | None = None
) -> Generator[FoldFit]:
    """`fit_predict` of every fold, in order; whoever wants no more of them closes the generator.

    As many folds are fitted at once as there are threads: a table of customers is too small for threads within a fit
    to pay. The results are the same bits either way.
    """
    cores = parts.threads or settings().cores
    width = min(len(parts), cores)
    threads = max(1, cores // width)

    def fit(number: int) -> FoldFit:
        fold = parts.encoded(number, params)
        margins, trees = fit_predict(parts.training, params, fold, stopping, threads)
        return FoldFit(float(average_precision_score(fold.y_valid, margins)), margins, trees)

    with ThreadPoolExecutor(width) as pool:
        for first in range(0, len(parts), width):
            yield from pool.map(fit, range(first, min(first + width, len(parts))))


def fit_predict(
    training: Training,
    params: Mapping[str, Value],
    fold: Encoded,
    stopping: EarlyStopping | None = None,
    threads: int | None = None,
) -> tuple[Array, int | None]:
    """Log odds of the fold's validation rows, and how many trees early stopping kept (None without it)."""
    groups = (
        None if training.groups is None else np.unique(training.groups[fold.rows], return_inverse=True)[1]
    )
    inner = inner_split(fold.y, stopping.share, training.seed, stopping.fewest, groups) if stopping else None
    if stopping is None or inner is None:
        most = {TREES: stopping.unmeasured} if stopping else {}
        unfitted = training.estimator({**params, **most}, threads)
        fitted = unfitted.fit(fold.X, fold.y, **training.weighed(fold.rows))
        return fitted.decision_function(fold.X_valid), most.get(TREES)
    growing = training.estimator({**params, TREES: stopping.most_trees}, threads)
    aside, weighed = (fold.X[inner.valid], fold.y[inner.valid]), training.weighed(fold.rows[inner.train])
    trees = growing.fit_stopping(fold.X[inner.train], fold.y[inner.train], aside, stopping.rounds, **weighed)
    return growing.decision_function(fold.X_valid), trees


def refit(training: Training, params: Mapping[str, Value]) -> tuple[list[float], Array]:
    """Average precision in every fresh fold, repeat after repeat, and the first repeat's out-of-fold log odds.

    No search has seen these folds. One prediction per row, from the first repeat, is what curves, calibration and
    threshold stand on: several of one row would pass for more customers than there are. It is of the `validated` rows.
    """
    margins, scores = np.empty(len(training.y)), []
    parts = training.fresh_folds()
    for number, fitted in enumerate(fold_by_fold(Folds(training, parts, kept=False), params)):
        scores.append(fitted.score)
        if number < training.folds:
            margins[parts[number].valid] = fitted.margins
    return scores, margins if training.forward is None else margins[training.forward.newest]
