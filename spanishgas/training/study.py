"""The study behind a search: who tries what, so that workers share it and a killed one goes on as if undisturbed.

    ended + running < total -> take the next rank -> draw by (seed, rank, parameter) -> score fold by fold -> ended

- what a trial draws follows from the seed, its rank and the trials that ended before it, never from a sampler's memory
- a trial whose process died is failed and queued again, with its rank and what it had drawn
- a trial that finds the total taken fails at once: completed and pruned trials are never more than the total
"""

from __future__ import annotations

import time
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from spanishgas import provenance
from spanishgas.config.reading import Value
from spanishgas.errors import UsageError

RANK, WORKER = "rank", "worker"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
HEARTBEAT_SECONDS, GRACE_SECONDS, NAMELESS_SECONDS = 10, 60, 10
POLL_SECONDS = 0.2
OPENINGS = 10
STARTUP = 5
"""Trials before draws follow what was found: half of Optuna's own number, since a rung gets eight or so."""


class Surplus(Exception):
    """The trial is one more than was asked for: the total was taken between a look and a claim."""


class SeededByRank(optuna.samplers.RandomSampler):
    """TPE whose draw depends on seed, rank, parameter and earlier trials alone; the first ranks take given values.

    Like random draws, each parameter is drawn by itself, which suits parameters that hang on others.
    """

    def __init__(self, seed: int, starts: Sequence[Mapping[str, Value]]) -> None:
        super().__init__()
        self.seed, self.starts = seed, starts

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one parameter."""
        rank = trial.user_attrs[RANK]
        if rank < len(self.starts) and param_name in self.starts[rank]:
            return self.starts[rank][param_name]
        words = [self.seed, rank, zlib.crc32(param_name.encode())]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
        return sampler.sample_independent(study, trial, param_name, param_distribution)


class BelowMedian(optuna.pruners.BasePruner):
    """Prunes a trial whose mean over two folds or more lies below the median of complete trials on the same folds.

    Optuna's own median pruner takes the best of a trial's means so far, so that one lucky fold saves it.
    """

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to end here."""
        step = trial.last_step
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not step or not done:
            return False
        here = trial.intermediate_values
        return bool(here[step] < np.median([t.intermediate_values[step] for t in done]))


def open_study(url: str | None, name: str, seed: int, starts: Sequence[Mapping[str, Value]]) -> Study:
    """The study called `name` in the storage at `url`, made if need be; in memory, for this process, without a URL.

    UsageError where the storage cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a surplus trial fails by design, and is no news
    storage = _storage(url) if url else None
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        direction="maximize",
        sampler=SeededByRank(seed, starts),
        pruner=BelowMedian(),
    )
    if storage:
        # A server counts connections: none outlives its study.
        weakref.finalize(study, storage.engine.dispose)
    return study


def _storage(url: str) -> optuna.storages.RDBStorage:
    connect = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    for left in reversed(range(OPENINGS)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return optuna.storages.RDBStorage(
                    url,
                    engine_kwargs=connect,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=_queue_again,
                )
        except (ImportError, SQLAlchemyError, StorageInternalError) as fault:
            if left == 0 or isinstance(fault, (ArgumentError, ImportError)):
                raise _cannot_open(url, fault) from fault
            time.sleep(POLL_SECONDS)  # two processes that make the tables at once: one of them fails, once
    raise AssertionError("unreachable")


def _cannot_open(url: str, fault: Exception) -> UsageError:
    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        shown = url
    words = str(fault).splitlines()[0]
    return UsageError(
        f"the study storage {shown} cannot be opened ({words}): set SPANISHGAS_STUDY_STORAGE to a URL such as "
        "sqlite:///optuna.db or postgresql+psycopg://user:password@host/database"
    )


def ended(study: Study) -> list[FrozenTrial]:
    """Completed and pruned trials in their order."""
    return study.get_trials(deepcopy=False, states=ENDED)


def complete(study: Study, total: int, patience: int | None = None) -> bool:
    """Whether `total` trials have ended, or the last `patience` of them brought nothing better."""
    done = ended(study)
    if patience is None or len(done) >= total:
        return len(done) >= total
    values = [t.values[0] if t.state is TrialState.COMPLETE else -np.inf for t in done]
    return bool(values) and len(values) - 1 - int(np.argmax(values)) >= patience


def work(
    study: Study,
    objective: Callable[[optuna.Trial], float],
    total: int,
    *,
    patience: int | None = None,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Try until the study is complete, beside whoever else does. `after_each` is called when a trial has ended."""

    def claimed(trial: optuna.Trial) -> float:
        trial.set_user_attr(WORKER, provenance.process())
        before = [t for t in study.get_trials(deepcopy=False) if t.number < trial.number]
        rank = sum(t.state is not TrialState.FAIL for t in before)
        if rank >= total:
            raise Surplus
        if RANK not in trial.user_attrs:
            trial.set_user_attr(RANK, rank)
        return objective(trial)

    while not complete(study, total, patience):
        others_decide = reclaim(study)
        states = [t.state for t in study.get_trials(deepcopy=False) if t.state is not TrialState.FAIL]
        if others_decide or (len(states) >= total and TrialState.WAITING not in states):
            time.sleep(POLL_SECONDS)
            continue
        with _unless_taken_over():
            study.optimize(claimed, n_trials=1, catch=(Surplus,))
        after_each()


@contextmanager
def _unless_taken_over() -> Iterator[None]:
    """Pass over what Optuna says where this process slept so long that another failed its trial."""
    try:
        yield
    except UpdateFinishedTrialError:
        return
    except ValueError as fault:
        if not str(fault).startswith("Cannot tell a"):
            raise


def reclaim(study: Study) -> bool:
    """Fail and queue again the trials whose process is gone; whether others must wait for one that nobody claims.

    A process on this machine is looked for; heartbeats tell for other machines. A running trial that no process has
    put its name to is so for milliseconds, or for ever if its process was killed just then.
    """
    unclaimed = False
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if worker := trial.user_attrs.get(WORKER):
            gone = provenance.is_gone(worker)
        else:
            unclaimed = True
            began = trial.datetime_start or datetime.now()
            gone = (datetime.now() - began).total_seconds() > NAMELESS_SECONDS
        if gone and _fail(study, trial):
            _queue_again(study, trial)
    return unclaimed


def _fail(study: Study, trial: FrozenTrial) -> bool:
    failed = False
    with _unless_taken_over():
        study.tell(trial.number, state=TrialState.FAIL)
        failed = True
    return failed


def _queue_again(study: Study, trial: FrozenTrial) -> None:
    if RANK not in trial.user_attrs:
        return  # it had drawn nothing
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={RANK: trial.user_attrs[RANK]},
        )
    )
