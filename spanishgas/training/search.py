"""Choosing hyperparameters: Optuna over cross-validated average precision, on the training side alone.

    start from the published parameters -> TPE -> best trial -> refitted on fresh folds, which alone are reported

The preprocessing does not depend on hyperparameters, so each fold is encoded once and shared by every trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from spanishgas.errors import UsageError
from spanishgas.training.estimators import estimator
from spanishgas.training.experiment import Dimension, ModelKind, Space, Value
from spanishgas.training.folds import FRESH, Fold, folds
from spanishgas.training.matrix import preprocessor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """The training side of one experiment: matrix, labels, and what the columns are."""

    X: pd.DataFrame
    y: NDArray[np.int64]
    features: Sequence[str]
    kinds: Mapping[str, str]
    model: ModelKind
    folds: int
    seed: int


@dataclass(frozen=True)
class Trial:
    """One set of hyperparameters and what it reached in each fold."""

    number: int
    params: dict[str, Value]
    scores: list[float]
    seconds: float

    @property
    def score(self) -> float:
        """Mean average precision over the folds."""
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Chosen:
    """The search's result: the best trial, and its scores and predictions on folds that did not choose it."""

    best: Trial
    trials: list[Trial]
    fold_scores: list[float]
    margins: Array = field(repr=False)
    """Out-of-fold log odds on the fresh folds, one per training row."""


def search(
    training: Training,
    space: Space,
    trials: int,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Chosen:
    """Try `trials` sets of hyperparameters; same seed, same result. `on_trial` hears of each as it ends."""
    if trials < 1:
        raise UsageError(f"trials must be at least 1, but got {trials}: give --trials 8 or so")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    encoded = _encode(training, folds(training.y, training.folds, training.seed))
    done: list[Trial] = []

    def objective(trial: optuna.Trial) -> float:
        params = space.fixed | {name: _suggest(trial, name, dim) for name, dim in space.space.items()}
        began = time.perf_counter()
        scores = [_average_precision(fold, _fit_predict(training, params, fold)) for fold in encoded]
        done.append(Trial(trial.number, params, scores, time.perf_counter() - began))
        on_trial(done[-1])
        return done[-1].score

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=training.seed))
    study.enqueue_trial(dict(space.start))
    study.optimize(objective, n_trials=trials)
    best = done[study.best_trial.number]
    scores, margins = refit(training, best.params)
    return Chosen(best, done, scores, margins)


def refit(training: Training, params: Mapping[str, Value]) -> tuple[list[float], Array]:
    """Average precision per fold and out-of-fold log odds of `params`, on folds that no search has seen."""
    fresh = folds(training.y, training.folds, training.seed + FRESH)
    margins = np.empty(len(training.y))
    scores = []
    for fold, encoded in zip(fresh, _encode(training, fresh), strict=True):
        margins[fold.valid] = _fit_predict(training, params, encoded)
        scores.append(_average_precision(encoded, margins[fold.valid]))
    return scores, margins


@dataclass(frozen=True)
class _Encoded:
    X: Array
    y: NDArray[np.int64]
    X_valid: Array
    y_valid: NDArray[np.int64]


def _encode(training: Training, parts: Sequence[Fold]) -> list[_Encoded]:
    encoded = []
    for fold in parts:
        prepare = preprocessor(training.features, training.kinds, linear=training.model.linear)
        X = prepare.fit_transform(training.X.iloc[fold.train])
        X_valid = prepare.transform(training.X.iloc[fold.valid])
        encoded.append(_Encoded(X, training.y[fold.train], X_valid, training.y[fold.valid]))
    return encoded


def _fit_predict(training: Training, params: Mapping[str, Value], fold: _Encoded) -> Array:
    fitted = estimator(training.model, params, training.seed).fit(fold.X, fold.y)
    margins: Array = fitted.decision_function(fold.X_valid)
    return margins


def _average_precision(fold: _Encoded, margins: Array) -> float:
    return float(average_precision_score(fold.y_valid, margins))


def _suggest(trial: object, name: str, dim: Dimension) -> Value:
    import optuna

    assert isinstance(trial, optuna.Trial)
    if dim.choices is not None:
        chosen: Value = trial.suggest_categorical(name, dim.choices)  # type: ignore[assignment]
        return chosen
    assert dim.low is not None
    assert dim.high is not None
    if dim.step is not None:
        return trial.suggest_int(name, int(dim.low), int(dim.high), step=dim.step, log=dim.log)
    return trial.suggest_float(name, dim.low, dim.high, log=dim.log)
