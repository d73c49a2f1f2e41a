"""One rung of the ladder as an MLflow run with its trials as children, and the ladder as one sortable comparison."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from mlflow.entities import Run

from spanishgas import code
from spanishgas.config.experiment import Experiment, below, experiment_ids, load_experiment
from spanishgas.config.policy import Policy, load_policy
from spanishgas.config.reading import Value, as_data
from spanishgas.config.search import ModelKind, load_search
from spanishgas.errors import TrackingError, UsageError
from spanishgas.evaluation import charts
from spanishgas.evaluation.card import as_markdown
from spanishgas.evaluation.selection import Compared, Rung, Step, choose, steps
from spanishgas.features import load_tiers
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import outcome, runs
from spanishgas.lifecycle.outcome import CHOSEN
from spanishgas.lifecycle.runs import StageRun
from spanishgas.lifecycle.trials import STUDY, TrialRuns, lives
from spanishgas.settings import settings
from spanishgas.training.fitting import Training
from spanishgas.training.matrix import in_holdout, labelled, matrix
from spanishgas.training.search import Shared, Trial, search

log = logging.getLogger("spanishgas")
START, FRESH_FOLDS, HOLDOUT = "warm_start", "fresh_folds", "holdout"
SOURCES = ("training", "features", "evaluation")
PROTOCOL = (
    "Every search used the same folds. The scores are of the winners refitted on fresh repeated folds that no search "
    "saw, the same for all rungs; intervals and the paired standard error allow for the rows that folds share."
)
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


def training_gold(lake: Lake) -> Snapshot:
    """The newest gold table that has labels."""
    for day in reversed(lake.dates("gold_master")):
        snapshot = lake.current("gold_master", day)
        if snapshot.pandas(["churn"])["churn"].notna().any():
            return snapshot
    raise UsageError(
        f"{lake.root} holds no labelled gold table: run `spanishgas etl` on an extract with churn_label.csv"
    )


def training_rows(gold: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """The labelled rows of `gold` that are not held out."""
    rows = labelled(gold)
    return rows[~in_holdout(rows["customer_id"], policy.holdout)].reset_index(drop=True)


def training_side(
    gold: pd.DataFrame, experiment: Experiment, model: ModelKind, policy: Policy, seed: int
) -> Training:
    """The rows of `gold` that may choose, as the experiment's matrix."""
    rows = training_rows(gold, policy)
    tiers = load_tiers()
    features = experiment.features(tiers, linear=model.linear)
    kinds = {f: str(tiers.kind(f)) for f in features}
    y = rows["churn"].to_numpy(dtype="int64")
    return Training(
        matrix(rows, features, kinds), y, features, kinds, model, policy.folds, seed, policy.repeats
    )


def run_experiment(
    name: str,
    model_name: str,
    *,
    trials: int,
    lake: Lake,
    seed: int,
    study: str | None = None,
    workers: int = 1,
    patience: int | None = None,
    start: Start | None = None,
    reuse: bool = False,
    progress: Progress = silent,
) -> str:
    """Search, refit on fresh repeated folds, log; gives the run's id.

    The second trial takes the best parameters of the neighbour below on the ladder, if that one has run on the same
    data with the same seed and number of trials.

    A search of the same data, space, seed and code that was begun before, or elsewhere on the same study storage, is
    continued to `trials` ended ones. `start` is tried right after the published parameters; the best of the rung below
    if none is given. With `reuse`, a finished run of the same data, parameters and code is taken
    instead of running again.
    """
    experiment, model, policy = load_experiment(name), ModelKind.of(model_name), load_policy()
    space = load_search().of(model)
    if trials < 1:
        raise UsageError(f"trials must be at least 1, but got {trials}: give --trials 8 or so")
    gold = training_gold(lake)
    start = start or _neighbours_best(name, model, gold, policy, seed, trials)
    searched = code.fingerprint(
        "search",
        gold.manifest.digest,
        as_data(experiment),
        as_data(space),
        as_data(policy.holdout),
        policy.folds,
        start.params,
        [model, seed],
        code.digest(*SOURCES),
    )
    fingerprint = code.fingerprint("experiment", searched, trials, patience, policy.repeats)
    if reuse and (known := runs.find({"stage": "experiment", "fingerprint": fingerprint})):
        return str(known[0].info.run_id)
    table = gold.pandas()
    training = training_side(table, experiment, model, policy, seed)
    title = study or f"{name} {model}"
    names = {"experiment": name, "model": str(model), "study": title}
    tags = names | {
        STUDY: searched,
        "fingerprint": fingerprint,
        "gold": gold.manifest.digest,
        START: start.source,
    }
    params = {
        "experiment": name,
        "model": model,
        "trials": trials,
        "seed": seed,
        "features": len(training.features),
        FRESH_FOLDS: f"{policy.repeats} x {policy.folds}",
        HOLDOUT: policy.holdout,
    }
    with runs.stage("experiment", title, tags=tags, params=params) as run:
        run.read(gold, "training")
        tracking = Stopwatch()
        with tracking:
            children, done = TrialRuns(run, searched, names), 0

        def on_trial(trial: Trial) -> None:
            nonlocal done
            with tracking:
                children.record(trial, start.source if trial.number == 1 and start.params else "")
            done += 1
            progress(title, done, trials)

        shared = Shared(
            settings().study_storage,
            f"{name} {model} {searched}",
            run.run_id,
            workers,
            patience,
            (start.params,) if start.params else (),
        )
        chosen = search(training, space, trials, on_trial, shared)
        with tracking:
            children.settle()
        run.log(metrics={"search.tracking_seconds": tracking.seconds})
        ids = training_rows(table, policy)["customer_id"]
        outcome.keep(run, experiment, training, chosen, gold, ids, policy, lake, shared)
    return run.run_id


@dataclass
class Stopwatch:
    """Seconds spent within it."""

    seconds: float = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *fault: object) -> None:
        self.seconds += time.perf_counter() - self._began


@dataclass(frozen=True)
class Start:
    """Hyperparameters to try early, and the run that they come from."""

    source: str = "published"
    params: Mapping[str, Value] = field(default_factory=dict)


def start_from(run_id: str, named: str = "those of run {run}") -> Start:
    """The parameters that a finished experiment run chose, where its search space still admits them.

    None of a run that set other customers aside: it may have chosen by customers who are held out now. `named` says in
    the start's source whose they are: {run}, {experiment} and {trial} stand for the run's own.
    """
    chosen = runs.artifact(run_id, CHOSEN)
    if chosen["holdout"] != str(load_policy().holdout):
        return Start()
    params = load_search().of(ModelKind.of(chosen["model"])).admitted(chosen["params"])
    whose = named.format(run=run_id, experiment=chosen["experiment"], trial=chosen["trial"])
    return Start(f"published, then {whose}", params) if params else Start()


def _neighbours_best(
    name: str, model: ModelKind, gold: Snapshot, policy: Policy, seed: int, trials: int
) -> Start:
    same = {"seed": str(seed), "trials": str(trials), HOLDOUT: str(policy.holdout)}
    for lower in below(name)[:1]:
        tags = {"stage": "experiment", "experiment": lower, "model": str(model), "gold": gold.manifest.digest}
        for run in runs.find(tags, same)[:1]:
            return start_from(run.info.run_id, "{experiment} trial {trial}")
    return Start()


def run_ladder(
    ids: Sequence[str],
    models: Sequence[str],
    *,
    trials: int,
    lake: Lake,
    seed: int,
    workers: int = 1,
    reuse: bool = False,
    progress: Progress = silent,
) -> list[Compared]:
    """Run every experiment with every model, compare them on the same fresh folds, and say which one is chosen.

    With `reuse`, finished runs of the same data, parameters and code are taken as they are.
    """
    for name in ids:
        load_experiment(name)
    for model in models:
        ModelKind.of(model)
    gold = training_gold(lake)
    fingerprint = code.fingerprint(
        "ladder",
        gold.manifest.digest,
        list(ids),
        list(models),
        trials,
        seed,
        _configuration(),
        code.digest(*SOURCES),
    )
    if reuse and (known := runs.find({"stage": "ladder", "fingerprint": fingerprint})):
        run_ids: list[str] = runs.artifact(known[0].info.run_id, "ladder.json")["runs"]
        return choose([rung(run_id) for run_id in run_ids])
    title = f"ladder {ids[0]} to {ids[-1]}" if len(ids) > 1 else f"ladder {ids[0]}"
    params = {"ids": ",".join(ids), "models": ",".join(models), "trials": trials, "seed": seed}
    with runs.stage("ladder", title, params=params, tags={"fingerprint": fingerprint}) as run:
        run.read(gold, "training")
        run_ids = []
        for number, (name, model) in enumerate((i, m) for i in ids for m in models):
            progress("ladder", number, len(ids) * len(models))
            run_ids.append(
                run_experiment(
                    name,
                    model,
                    trials=trials,
                    lake=lake,
                    seed=seed,
                    workers=workers,
                    reuse=reuse,
                    progress=progress,
                )
            )
        compared = choose([rung(run_id) for run_id in run_ids])
        _log_ladder(run, compared)
    return compared


def _configuration() -> list[object]:
    rungs, policy = [as_data(load_experiment(i)) for i in experiment_ids()], load_policy()
    return [rungs, as_data(load_search()), as_data(policy.holdout), policy.folds, policy.repeats]


def _log_ladder(run: StageRun, compared: Sequence[Compared]) -> None:
    winner = next(c.rung for c in compared if c.chosen)
    run.document({"runs": [c.rung.run_id for c in compared], "chosen": winner.run_id}, "ladder.json")
    for c in compared:
        of, above = StageRun(c.rung.run_id, run.experiment_id), runs.parent(c.rung.run_id)
        figures = {"ladder.behind": c.behind, "ladder.standard_error": c.standard_error}
        tags = {"ladder": run.run_id, "chosen": str(c.chosen).lower()}
        if above and not lives(above):  # a ladder that was killed after this rung
            tags[runs.PARENT] = run.run_id
        of.log(metrics=figures, tags=tags)
    words = ladder_words(compared)
    run.text(words, "ladder.md")
    run.tables({"ladder_table.json": ladder_table(compared)})
    run.figure(charts.ladder_chart(compared), "ladder.png")
    run.log(
        metrics={"cv.average_precision": winner.score},
        tags={
            "chosen.experiment": winner.experiment,
            "chosen.model": winner.model,
            "chosen.run": winner.run_id,
        },
    )
    run.describe(f"{words}\n\nIts runs, to sort and compare: `tags.ladder = '{run.run_id}'`.")
    runs.introduce(run.experiment_id, introduction())


def introduction() -> str:
    """What a newcomer to the experiment's page reads: what is asked, and where to look."""
    asked = "\n".join(f"- {name}: {load_experiment(name).question}" for name in experiment_ids())
    return (
        "Which customers of an energy utility will leave, and what each group of features adds to knowing it:\n\n"
        f"{asked}\n\n"
        "To compare them: filter `tags.stage = 'experiment'`, chart view, `cv.average_precision`; higher is better, "
        "and `.low` and `.high` are the ends of its 95 % interval. The run with `tags.stage = 'ladder'` says which is "
        "chosen and why. What was chosen is judged on customers kept aside: `tags.stage = 'evaluate'`, and the "
        f"registered model `{settings().registered_model}`."
    )


def ladder_words(compared: Sequence[Compared]) -> str:
    """The ladder as Markdown: what it found, its table, how it was measured, and whether each tier pays."""
    pays = "\n".join(f"- {step.words}" for step in steps([c.rung for c in compared]))
    table = as_markdown(ladder_table(compared))
    return "\n\n".join(part for part in (sentence(compared), table, PROTOCOL, pays) if part)


def write_ladder(compared: Sequence[Compared], folder: Path) -> list[Path]:
    """The ladder as files for a document: ladder.md, ladder.png and ladder.svg in `folder`, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    words, chart = folder / "ladder.md", charts.ladder_chart(compared)
    words.write_text(ladder_words(compared) + "\n", encoding="utf-8")
    pictures = [folder / "ladder.png", folder / "ladder.svg"]
    for picture in pictures:
        chart.savefig(picture, dpi=110, metadata={"Date": None} if picture.suffix == ".svg" else None)
    return [words, *pictures]


def sentence(compared: Sequence[Compared]) -> str:
    """What the ladder found, in words."""
    best = min(compared, key=lambda c: c.behind)
    pick = next(c for c in compared if c.chosen)
    chosen = f"{pick.rung.experiment} {pick.rung.model} ({pick.rung.features} features)"
    if pick.rung is best.rung:
        return f"{chosen} is best, and no simpler rung is within one paired standard error of it."
    return (
        f"{chosen} is the simplest within one paired standard error ({pick.standard_error:.4f}) of the best, "
        f"{best.rung.experiment} {best.rung.model}: it is {pick.behind:.4f} behind."
    )


def ladder_table(compared: Sequence[Compared]) -> pd.DataFrame:
    """The ladder as a table, one row per rung."""
    gains = {step.rung.run_id: step for step in steps([c.rung for c in compared])}
    return pd.DataFrame(
        [
            {
                "experiment": c.rung.experiment,
                "model": c.rung.model,
                "features": c.rung.features,
                "average precision": c.rung.score,
                "95 % interval": _span(*c.rung.interval),
                "behind the best": c.behind,
                "paired s.e.": c.standard_error,
                **_gain(gains.get(c.rung.run_id)),
                "chosen": "chosen" if c.chosen else "",
            }
            for c in compared
        ]
    )


def _gain(step: Step | None) -> dict[str, str]:
    if step is None:
        return {"over": "", "gain": "", "95 % interval of the gain": ""}
    gain = {"over": step.below.experiment, "gain": f"{step.gain:+.4f}"}
    return gain | {"95 % interval of the gain": _span(step.low, step.high)}


def _span(low: float, high: float) -> str:
    return f"{low:.4f} to {high:.4f}"


def rung(run_id: str) -> Rung:
    """A finished experiment run as the selection rule sees it."""
    chosen = runs.artifact(run_id, CHOSEN)
    scores = tuple(float(s) for s in chosen["fold_scores"])
    return Rung(
        chosen["experiment"],
        chosen["model"],
        run_id,
        len(chosen["features"]),
        scores,
        chosen["repeats"],
        tuple(below(chosen["experiment"])),
    )


def chosen_run(lake: Lake) -> str:
    """The run that the selection rule picks among the newest finished run of each experiment and model.

    Only runs on the newest labelled gold table with the policy's holdout, and with the newest run's seed and fresh
    folds, can be compared.
    """
    gold, held_out = training_gold(lake).manifest.digest, str(load_policy().holdout)
    finished = runs.find({"stage": "experiment", "gold": gold}, {HOLDOUT: held_out})
    if not finished:
        raise TrackingError(
            f"no finished experiment on the newest gold table with the holdout {held_out!r}: "
            "run `spanishgas ladder` first"
        )
    newest: dict[tuple[str, str], Run] = {}
    for run in finished:
        if all(run.data.params.get(k) == finished[0].data.params.get(k) for k in ("seed", FRESH_FOLDS)):
            newest.setdefault((run.data.tags["experiment"], run.data.tags["model"]), run)
    compared = choose([rung(run.info.run_id) for run in newest.values()])
    return next(c.rung.run_id for c in compared if c.chosen)
