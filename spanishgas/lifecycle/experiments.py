"""One rung of the ladder as an MLflow run with its trials as children.

gold + rung + space + protocol + start -> search (Optuna) -> the winner refitted on fresh folds -> the run's record
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pandas as pd

from spanishgas.config.adopted import bring_labels
from spanishgas.config.experiment import Experiment, load_experiment
from spanishgas.config.policy import Holdout, HoldoutBy, Policy, Protocol, Threshold, load_policy
from spanishgas.config.reading import Value
from spanishgas.config.search import Space, family, load_search
from spanishgas.config.tiers import read_tiers
from spanishgas.errors import DataError, TooEarly, UsageError
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import experiment_record, runs
from spanishgas.lifecycle.experiment_record import Result
from spanishgas.lifecycle.records import CHOSEN, ExperimentRecord
from spanishgas.lifecycle.stage import Work, earlier, through
from spanishgas.lifecycle.trials import STUDY, TrialRuns
from spanishgas.settings import settings
from spanishgas.stages import Stage, unkeyed
from spanishgas.training.fitting import Training
from spanishgas.training.matrix import matrix
from spanishgas.training.search import StudyOptions, Trial, search
from spanishgas.training.sides import in_holdout, labelled, learned_in_folds, matures, of_days

START, FRESH_FOLDS, HOLDOUT = "warm_start", "fresh_folds", "holdout"
log = logging.getLogger("spanishgas")
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def labelled_gold(lake: Lake) -> Iterator[Snapshot]:
    """The gold tables that have labels, newest first."""
    for day in reversed(lake.dates("gold_master")):
        snapshot = lake.current("gold_master", day)
        if snapshot.pandas(["churn"])["churn"].notna().any():
            yield snapshot


def training_gold(lake: Lake) -> Snapshot:
    """The newest gold table that has labels."""
    for snapshot in labelled_gold(lake):
        return snapshot
    raise TooEarly(f"{lake.root} holds no labelled gold table: {bring_labels()}")


def training_days(lake: Lake, judged: Snapshot, policy: Policy) -> tuple[Snapshot, ...]:
    """Where the holdout is by time, the earlier gold that may train, oldest first; none where it is by customer.

    A day whose labels run into what the judged day's features look back on is left out. TooEarly where none is left.
    """
    if policy.holdout.by is HoldoutBy.CUSTOMER:
        return ()
    day, months = judged.manifest.as_of, policy.label_horizon_months + policy.holdout.embargo_months
    before = [gold for gold in labelled_gold(lake) if gold.manifest.as_of < day][::-1]
    kept = tuple(gold for gold in before if matures(gold.manifest.as_of, months) <= day)
    late = ", ".join(str(gold.manifest.as_of) for gold in before[len(kept) :])
    words = (
        f"labels of {late or 'no earlier day'} run on for {policy.label_horizon_months} months, and {day}, which is to "
        f"be judged on, looks back on {policy.holdout.embargo_months}"
    )
    if not kept:
        raise TooEarly(
            f"the holdout is by time, but nothing may train: {words}. Bring a labelled extract {months} months older, "
            "lower embargo_months or label_horizon_months in policy.yaml, or hold out by customer"
        )
    if late:
        log.info("left out of training: %s", words)
    newest = kept[-1].manifest.as_of
    if not learned_in_folds([gold.manifest.as_of for gold in kept], day):
        log.info(
            "folds are by customer: no training day lies as far before %s, the newest, as that lies before %s; bring "
            "an older labelled extract for folds forward in time",
            newest,
            day,
        )
    return kept


def training_table(days: Sequence[Snapshot], judged: Snapshot) -> pd.DataFrame:
    """The gold that trains: that of `days` with `as_of` and whether folds learn from it, else the judged table."""
    if not days:
        return judged.pandas()
    of = {gold.manifest.as_of: gold for gold in days}
    learned = learned_in_folds(list(of), judged.manifest.as_of)
    tables = [gold.pandas().assign(as_of=day, learns=day in learned) for day, gold in of.items()]
    return pd.concat(tables, ignore_index=True)


def training_rows(gold: pd.DataFrame, holdout: Holdout) -> pd.DataFrame:
    """The labelled rows of `gold` that are not held out."""
    rows = labelled(gold)
    return rows[~in_holdout(rows["customer_id"], holdout)].reset_index(drop=True)


def training_side(
    gold: pd.DataFrame, kinds: Mapping[str, str], model: str, protocol: Protocol, seed: int
) -> Training:
    """The rows of `gold` that may choose, as a matrix of the features in `kinds` (kind by name, in order).

    Rows of several days (`as_of`) keep their customer together, count by their age, and make folds forward in time.
    """
    rows = training_rows(gold, protocol.holdout)
    y = rows["churn"].to_numpy(dtype="int64")
    X = matrix(rows, list(kinds), kinds)
    by_day = of_days(rows, protocol.holdout.half_life_months)
    if by_day.forward is not None and (fewest := by_day.forward.fewest(y)) < protocol.folds:
        raise DataError(
            f"folds forward in time want {protocol.folds} churners and {protocol.folds} stayers both of the newest "
            f"training day and of the days before it, but there are only {fewest} of one kind: lower `folds` in "
            "policy.yaml, label those extracts more fully, or hold out by customer"
        )
    return Training(X, y, list(kinds), kinds, model, protocol.folds, seed, protocol.repeats, *by_day)


def kinds_of(experiment: Experiment, model: str) -> dict[str, str]:
    """The features of an experiment for a model, in the dictionary's order, with their kinds."""
    return experiment.kinds(read_tiers(), linear=family(model).linear)


@dataclass(frozen=True)
class Start:
    """Hyperparameters to try early, and the run that they come from."""

    source: str = "published"
    params: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchInputs:
    """What a search depends on: its study is named after their key, and continues under it."""

    training: Snapshot
    experiment: str
    """Its id: rungs of the same features are searched, and shown, one by one."""
    kinds: Mapping[str, str]
    model: str
    space: Space
    holdout: Holdout
    folds: int
    start: Mapping[str, Value]
    seed: int
    earlier: tuple[Snapshot, ...]


@dataclass(frozen=True)
class ExperimentInputs:
    """What an experiment depends on."""

    training: Snapshot
    experiment: Experiment
    kinds: Mapping[str, str]
    """The rung's features for this model, in the dictionary's order, with their kinds."""
    model: str
    space: Space
    protocol: Protocol
    threshold: Threshold
    seed: int
    trials: int
    earlier: tuple[Snapshot, ...]
    """What trains where the holdout is by time, and `training` is the day to be judged on; else none."""
    lake: Lake = unkeyed("where the out-of-fold table goes")
    title: str = unkeyed("names the run")
    patience: int | None = None
    start: Start = Start()
    workers: int = unkeyed("how many trials run at once", 1)
    progress: Progress = unkeyed("says how far it is", silent)

    def __post_init__(self) -> None:
        """Refuse a search without trials."""
        if self.trials < 1:
            raise UsageError(f"trials must be at least 1, but got {self.trials}: give --trials 8 or so")

    @property
    def search(self) -> SearchInputs:
        """The part that the search depends on."""
        return SearchInputs(
            self.training,
            self.experiment.id,
            self.kinds,
            self.model,
            self.space,
            self.protocol.holdout,
            self.protocol.folds,
            self.start.params,
            self.seed,
            self.earlier,
        )

    @property
    def forward(self) -> bool:
        """Whether folds are forward in time."""
        days = [gold.manifest.as_of for gold in self.earlier]
        return bool(days and learned_in_folds(days, self.training.manifest.as_of))

    @property
    def names(self) -> dict[str, str]:
        """What tells its run, and those of its trials, from others."""
        return {"experiment": self.experiment.id, "model": str(self.model), "study": self.title}


SEARCH = Stage[SearchInputs](
    "search", ("spanishgas.training.search", "spanishgas.training.matrix", "spanishgas.training.sides")
)
EXPERIMENT = Stage[ExperimentInputs]("experiment", (__name__,))


def experiment_inputs(
    name: str, model: str, *, lake: Lake, study: str | None = None, **searched: Any
) -> ExperimentInputs:
    """The experiment as configuration and the lake have it now; its start is the published one.

    `searched` says how: seed and trials, and if wanted patience, workers and progress.
    """
    experiment, policy = load_experiment(name), load_policy()
    kinds, judged = kinds_of(experiment, model), training_gold(lake)
    return ExperimentInputs(
        training=judged,
        earlier=training_days(lake, judged, policy),
        experiment=experiment,
        kinds=kinds,
        model=model,
        space=load_search().of(model),
        protocol=policy.part(Protocol),
        threshold=policy.threshold,
        lake=lake,
        title=study or f"{name} {model}",
        **searched,
    )


def run_experiment(inputs: ExperimentInputs, *, start: Start | None = None, reuse: bool = False) -> str:
    """Search, refit on fresh repeated folds, log; gives the run's id.

    - The second trial takes `start`; if none is given the best of the rung below, if that has run on the same data with
      the same seed and number of trials.
    - A search of the same data, space, seed and code that was begun before, or elsewhere on the same study storage, is
      continued to as many ended trials as are asked for.
    - With `reuse`, a finished run of the same inputs and code is taken instead of running again.
    """
    inputs = replace(inputs, start=start or _neighbours_best(inputs))
    protocol = inputs.protocol
    return through(
        EXPERIMENT,
        inputs,
        _experiment,
        title=inputs.title,
        recall=lambda key: earlier(EXPERIMENT, key) if reuse else None,
        params={
            "experiment": inputs.experiment.id,
            "model": inputs.model,
            "trials": inputs.trials,
            "seed": inputs.seed,
            "features": len(inputs.kinds),
            FRESH_FOLDS: f"{protocol.repeats} x {protocol.folds}" + " forward in time" * inputs.forward,
            HOLDOUT: protocol.holdout,
        },
        tags=inputs.names
        | {
            STUDY: SEARCH.key(inputs.search),
            "gold": inputs.training.manifest.digest,
            START: inputs.start.source,
        },
    )


def _experiment(run: Work, inputs: ExperimentInputs) -> str:
    table, start, spent = training_table(inputs.earlier, inputs.training), inputs.start, Stopwatch()
    training = training_side(table, inputs.kinds, inputs.model, inputs.protocol, inputs.seed)
    key = SEARCH.key(inputs.search)
    with spent:
        children, done = TrialRuns(run, key, inputs.names), count(1)

    def on_trial(trial: Trial) -> None:
        with spent:
            children.record(trial, start.source if trial.number == 1 and start.params else "")
        inputs.progress(inputs.title, next(done), inputs.trials)

    options = StudyOptions(
        settings().study_storage,
        f"{inputs.experiment.id} {inputs.model} {key}",
        run.run_id,
        inputs.workers,
        inputs.patience,
        (start.params,) if start.params else (),
    )
    chosen = search(training, inputs.space, inputs.trials, on_trial, options)
    with spent:
        children.settle()
    run.log(metrics={"search.tracking_seconds": spent.seconds})
    gold, holdout = inputs.training, inputs.protocol.holdout
    customers = training_rows(table, holdout)["customer_id"]
    result = Result(
        inputs.experiment, training, customers, chosen, gold, holdout, inputs.threshold, inputs.earlier
    )
    experiment_record.keep(run, result, inputs.lake, options)
    return run.run_id


class Stopwatch(AbstractContextManager[None]):
    """Seconds spent within it."""

    seconds = 0.0

    def __enter__(self) -> None:
        self.seconds -= time.perf_counter()

    def __exit__(self, *fault: object) -> None:
        self.seconds += time.perf_counter()


def start_from(run_id: str, space: Space, holdout: Holdout, named: str = "those of run {run}") -> Start:
    """The parameters that a finished experiment run chose, where `space` still admits them.

    None of a run that set other customers aside: it may have chosen by customers who are held out now. `named` says in
    the start's source whose they are: {run}, {experiment} and {trial} stand for the run's own.
    """
    return start_of(runs.record(ExperimentRecord, run_id, CHOSEN), run_id, space, holdout, named)


def start_of(
    chosen: ExperimentRecord, run_id: str, space: Space, holdout: Holdout, named: str = "those of run {run}"
) -> Start:
    """The same of the record that the run kept, also where the run itself is in another tracking store."""
    params = space.admitted(chosen.params) if chosen.holdout == holdout else None
    whose = named.format(run=run_id, experiment=chosen.experiment, trial=chosen.trial)
    return Start(f"published, then {whose}", params) if params else Start()


def _neighbours_best(inputs: ExperimentInputs) -> Start:
    holdout = inputs.protocol.holdout
    same = {"seed": str(inputs.seed), "trials": str(inputs.trials), HOLDOUT: str(holdout)}
    tags = {
        "stage": "experiment",
        "experiment": str(inputs.experiment.below),
        "model": str(inputs.model),
        "gold": inputs.training.manifest.digest,
    }
    for run in runs.find(tags, same)[:1] if inputs.experiment.below else []:
        return start_from(run.info.run_id, inputs.space, holdout, "{experiment} trial {trial}")
    return Start()
