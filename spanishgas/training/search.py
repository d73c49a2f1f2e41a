"""Choosing hyperparameters: Optuna over cross-validated average precision, on the training side alone.

    published parameters -> a neighbour's best -> what the space lists -> TPE -> best trial -> refitted on fresh folds

Only the refit's scores are reported.

A trial that after two folds or more lies below the median of the others on the same folds is pruned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from spanishgas.config.reading import Value
from spanishgas.config.search import Dimension, Space
from spanishgas.errors import UsageError
from spanishgas.settings import settings
from spanishgas.training import study as studies
from spanishgas.training.fitting import TREES, Folds, Training, fold_by_fold, refit

Array = NDArray[np.float64]
OUTCOME = "outcome"
"""The attribute of a study's trial that holds what is ours of it."""


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
class SearchResult:
    """The search's result: the best trial, and its scores and predictions on folds that did not choose it."""

    best: Trial
    trials: list[Trial]
    fold_scores: list[float]
    """Average precision in every fresh fold, repeat after repeat."""
    margins: Array = field(repr=False)
    """Out-of-fold log odds of the first repeat, one per row that is validated."""


@dataclass(frozen=True)
class StudyOptions:
    """Where a search lives and who works at it; in memory and alone by default."""

    storage: str | None = None
    """Database URL; a search of the same name there is continued."""
    name: str = "search"
    owner: str = ""
    workers: int = 1
    """Trials at once; one at a time gives the same result every time."""
    patience: int | None = None
    """End early once this many trials in a row brought nothing better."""
    starts: tuple[Mapping[str, Value], ...] = ()
    """Sets of hyperparameters to try right after the published one."""

    def __post_init__(self) -> None:
        for what, value in (("workers", self.workers), ("patience", self.patience)):
            if value is not None and value < 1:
                raise UsageError(f"{what} must be at least 1, but got {value}: give --{what} 1 or more")


IN_MEMORY = StudyOptions()


def search(
    training: Training,
    space: Space,
    trials: int,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    shared: StudyOptions = IN_MEMORY,
) -> SearchResult:
    """Try sets of hyperparameters until `trials` have ended, here or elsewhere; `on_trial` hears of each once.

    One worker with the same seed gives the same result, whether or not it was killed and continued.
    """
    if trials < 1:
        raise UsageError(f"trials must be at least 1, but got {trials}: give --trials 8 or so")
    starts = [space.start, *shared.starts, *space.also]
    study = studies.open_study(shared.storage, shared.name, training.seed, starts)
    threads = max(1, settings().cores // shared.workers)
    parts = Folds(training, training.search_folds(), threads=threads)
    heard: set[int] = set()

    def listen() -> None:
        for trial in studies.ended(study):
            if trial.number not in heard:
                heard.add(trial.number)
                on_trial(_trial(trial))

    def objective(trial: optuna.Trial) -> float:
        return _score(parts, space, trial, shared.owner)

    work = partial(studies.work, study, objective, trials, patience=shared.patience)
    listen()
    if shared.workers == 1:
        work(after_each=listen)
    else:
        _work_together(work, shared.workers, listen)
    listen()
    done = sorted((_trial(t) for t in studies.ended(study)), key=lambda t: t.number)[:trials]
    best = max((t for t in done if not t.pruned), key=lambda t: (t.score, -t.number))
    scores, margins = refit(training, best.params)
    return SearchResult(best, done, scores, margins)


def _trial(frozen: FrozenTrial) -> Trial:
    number, pruned = frozen.user_attrs[studies.RANK], frozen.state is TrialState.PRUNED
    return Trial(number, frozen.number, pruned=pruned, **frozen.user_attrs[OUTCOME])


def _score(parts: Folds, space: Space, trial: optuna.Trial, owner: str) -> float:
    began, scores, trees, pruned = time.perf_counter(), list[float](), list[int](), False
    params = {**space.fixed, **_draw(trial, space)}
    with closing(fold_by_fold(parts, params, space.early_stopping)) as fitted:
        for step, outcome in enumerate(fitted):
            scores.append(outcome.score)
            trees += [outcome.trees] if outcome.trees else []
            trial.report(float(np.mean(scores)), step)
            if pruned := len(scores) < len(parts) and trial.should_prune():
                break
    params |= {TREES: int(np.median(trees))} if trees else {}
    seconds = time.perf_counter() - began
    trial.set_user_attr(OUTCOME, {"params": params, "scores": scores, "seconds": seconds, "owner": owner})
    if pruned:
        raise optuna.TrialPruned
    return float(np.mean(scores))


def _work_together(work: Callable[[], None], workers: int, listen: Callable[[], None]) -> None:
    """Do `work` in so many threads, which end with this process; the first failure ends the search."""
    with ThreadPool(workers) as crew:
        running = [crew.apply_async(work) for _ in range(workers)]
        while running:
            time.sleep(studies.POLL_SECONDS)
            listen()
            for ended in [worker for worker in running if worker.ready()]:
                ended.get()
                running.remove(ended)


def _draw(trial: optuna.Trial, space: Space) -> dict[str, Value]:
    drawn: dict[str, Value] = {}
    for name, dimension in space.space.items():
        if dimension.applies(drawn):
            drawn[name] = _suggest(trial, name, dimension)
    return drawn


def _suggest(trial: optuna.Trial, name: str, dim: Dimension) -> Value:
    if dim.choices is not None:
        chosen: Value = trial.suggest_categorical(name, dim.choices)  # type: ignore[assignment]
        return chosen
    low, high = dim.ends
    if dim.step is not None:
        return trial.suggest_int(name, int(low), int(high), step=dim.step, log=dim.log)
    return trial.suggest_float(name, float(low), float(high), log=dim.log)
