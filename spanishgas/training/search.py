"""Choosing hyperparameters: Optuna over cross-validated average precision, on the training side alone.

    start from the published parameters -> TPE -> best trial -> refitted on fresh folds, which alone are reported

The preprocessing does not depend on hyperparameters, so each fold is encoded once and shared by every trial. A trial
that after some folds lies below the median of the others is pruned.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from spanishgas.errors import SpanishGasError, UsageError
from spanishgas.settings import settings
from spanishgas.training.estimators import estimator
from spanishgas.training.experiment import Dimension, ModelKind, Space, Value
from spanishgas.training.folds import FRESH, Fold, folds
from spanishgas.training.matrix import preprocessor

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

Array = NDArray[np.float64]
SCORES, SECONDS, OWNER = "scores", "seconds", "owner"


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
    """One set of hyperparameters and what it reached in each fold, up to the one that it was pruned at."""

    number: int
    """Its place among the trials asked for, from 0."""
    key: int
    """Its number in the study, which no other trial ever has."""
    params: dict[str, Value]
    scores: list[float]
    seconds: float
    pruned: bool = False
    owner: str = ""
    """Who asked for the search that ran it."""

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


@dataclass(frozen=True)
class Shared:
    """Where a search lives and who works at it; in memory and alone by default."""

    storage: str | None = None
    """Database URL; a search of the same name there is continued."""
    name: str = "search"
    owner: str = ""
    workers: int = 1
    """Processes that try at once; one gives the same result every time."""
    patience: int | None = None
    """End early once this many trials in a row brought nothing better."""

    def __post_init__(self) -> None:
        for what, value in (("workers", self.workers), ("patience", self.patience)):
            if value is not None and value < 1:
                raise UsageError(f"{what} must be at least 1, but got {value}: give --{what} 1 or more")
        if self.workers > 1 and self.storage is None:
            raise UsageError(f"{self.workers} workers need a study storage that they can share: give its URL")


ALONE = Shared()


def search(
    training: Training,
    space: Space,
    trials: int,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    shared: Shared = ALONE,
) -> Chosen:
    """Try sets of hyperparameters until `trials` have ended, here or elsewhere; `on_trial` hears of each once.

    One worker with the same seed gives the same result, whether or not it was killed and continued.
    """
    if trials < 1:
        raise UsageError(f"trials must be at least 1, but got {trials}: give --trials 8 or so")
    from spanishgas.training import study as studies

    study = studies.open_study(shared.storage, shared.name, training.seed, [space.start])
    heard: set[int] = set()

    def listen() -> None:
        for trial in studies.ended(study):
            if trial.number not in heard:
                heard.add(trial.number)
                on_trial(_trial(trial, space))

    listen()
    if shared.workers == 1:
        _work(training, space, trials, shared, study, listen)
    elif not studies.complete(study, trials, shared.patience):
        _work_together(training, space, trials, shared, listen)
    listen()
    done = sorted((_trial(t, space) for t in studies.ended(study)), key=lambda t: t.number)[:trials]
    best = max((t for t in done if not t.pruned), key=lambda t: (t.score, -t.number))
    scores, margins = refit(training, best.params)
    return Chosen(best, done, scores, margins)


def _trial(frozen: FrozenTrial, space: Space) -> Trial:
    from optuna.trial import TrialState

    kept = frozen.user_attrs
    return Trial(
        number=kept["rank"],
        key=frozen.number,
        params=space.fixed | frozen.params,
        scores=kept[SCORES],
        seconds=kept[SECONDS],
        pruned=frozen.state is TrialState.PRUNED,
        owner=kept[OWNER],
    )


def _work(
    training: Training,
    space: Space,
    trials: int,
    shared: Shared,
    study: optuna.Study,
    after_each: Callable[[], None] = lambda: None,
    abandoned: Callable[[], bool] = lambda: False,
) -> None:
    from spanishgas.training import study as studies

    if studies.complete(study, trials, shared.patience):
        return
    encoded = _encode(training, folds(training.y, training.folds, training.seed))

    def objective(trial: optuna.Trial) -> float:
        params = space.fixed | {name: _suggest(trial, name, dim) for name, dim in space.space.items()}
        return _score(training, params, encoded, trial, shared.owner)

    studies.work(
        study, objective, trials, patience=shared.patience, after_each=after_each, abandoned=abandoned
    )


def _score(
    training: Training,
    params: Mapping[str, Value],
    encoded: Sequence[_Encoded],
    trial: optuna.Trial,
    owner: str,
) -> float:
    import optuna

    began, scores, pruned = time.perf_counter(), list[float](), False
    for step, fold in enumerate(encoded):
        scores.append(_average_precision(fold, _fit_predict(training, params, fold)))
        trial.report(float(np.mean(scores)), step)
        if pruned := len(scores) < len(encoded) and trial.should_prune():
            break
    kept = {SCORES: scores, SECONDS: time.perf_counter() - began, OWNER: owner}
    for name, value in kept.items():
        trial.set_user_attr(name, value)
    if pruned:
        raise optuna.TrialPruned
    return float(np.mean(scores))


def _work_together(
    training: Training, space: Space, trials: int, shared: Shared, listen: Callable[[], None]
) -> None:
    """Start the workers and wait for them; each stops by itself when this process is no more."""
    from spanishgas.training import study as studies

    threads = settings().threads or max(1, (os.cpu_count() or 1) // shared.workers)
    start = multiprocessing.get_context("spawn").Process
    words = (training, space, trials, shared, threads, os.getpid())
    crew = [start(target=_worker, args=words) for _ in range(shared.workers)]
    try:
        for worker in crew:
            worker.start()
        while [worker for worker in crew if worker.is_alive()]:
            listen()
            time.sleep(studies.POLL_SECONDS)
    finally:
        for worker in crew:
            worker.terminate()
            worker.join()
    study = studies.open_study(shared.storage, shared.name, training.seed, [space.start])
    if not studies.complete(study, trials, shared.patience):
        codes = ", ".join(str(worker.exitcode) for worker in crew)
        raise SpanishGasError(
            f"the search's {shared.workers} workers ended before it was complete (exit codes {codes}): the same "
            "command again continues it"
        )


def _worker(training: Training, space: Space, trials: int, shared: Shared, threads: int, parent: int) -> None:
    from spanishgas.training import study as studies

    os.environ["SPANISHGAS_THREADS"] = str(threads)
    settings.cache_clear()
    study = studies.open_study(shared.storage, shared.name, training.seed, [space.start])
    _work(training, space, trials, shared, study, abandoned=lambda: os.getppid() != parent)


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


def _suggest(trial: optuna.Trial, name: str, dim: Dimension) -> Value:
    if dim.choices is not None:
        chosen: Value = trial.suggest_categorical(name, dim.choices)  # type: ignore[assignment]
        return chosen
    assert dim.low is not None
    assert dim.high is not None
    if dim.step is not None:
        return trial.suggest_int(name, int(dim.low), int(dim.high), step=dim.step, log=dim.log)
    return trial.suggest_float(name, dim.low, dim.high, log=dim.log)
