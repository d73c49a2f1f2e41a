"""The ladder: every rung with every model on the same folds, as one sortable comparison with one choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.entities import Run

from spanishgas.config.experiment import below, experiment_ids, load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import family
from spanishgas.errors import TrackingError
from spanishgas.evaluation import charts
from spanishgas.evaluation.selection import Compared, Rung, choose, ladder_table, ladder_words
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import experiments, runs
from spanishgas.lifecycle.experiments import FRESH_FOLDS, HOLDOUT, ExperimentInputs
from spanishgas.lifecycle.records import CHOSEN, ExperimentRecord
from spanishgas.lifecycle.runs import StageRun
from spanishgas.lifecycle.stage import Work, earlier, through
from spanishgas.lifecycle.trials import lives
from spanishgas.settings import registered_model
from spanishgas.stages import Stage, unkeyed


@dataclass(frozen=True)
class LadderInputs:
    """What a ladder depends on: the inputs of its rungs, each to start from the published parameters."""

    training: Snapshot
    rungs: tuple[ExperimentInputs, ...]
    below: Mapping[str, Sequence[str]]
    """The experiments that each one stands on, nearest first."""
    introduction: str = unkeyed("stands on the experiment's page, where nobody wrote another")


LADDER = Stage[LadderInputs]("ladder", (__name__,))


def ladder_inputs(ids: Sequence[str], models: Sequence[str], **of_each: Any) -> LadderInputs:
    """The ladder as configuration and the lake have it now; UsageError for an id or model that there is not.

    `of_each` is what `experiment_inputs` takes for every rung.
    """
    below_each = {name: below(name) for name in ids}
    for model in models:
        family(model)  # refuses an unknown one before anything is read
    rungs = tuple(experiments.experiment_inputs(name, model, **of_each) for name in ids for model in models)
    return LadderInputs(rungs[0].training, rungs, below_each, introduction())


def run_ladder(inputs: LadderInputs) -> list[Compared]:
    """Run every rung, compare them on the same fresh folds, and say which one is chosen.

    A finished run of the same inputs and code is the same rung, and is taken as it is.
    """
    ids, models = list(inputs.below), dict.fromkeys(rung.model for rung in inputs.rungs)
    first = inputs.rungs[0]
    return through(
        LADDER,
        inputs,
        _ladder,
        title=f"ladder {ids[0]} to {ids[-1]}" if len(ids) > 1 else f"ladder {ids[0]}",
        recall=lambda key: _recalled(key, inputs),
        params={
            "ids": ",".join(ids),
            "models": ",".join(models),
            "trials": first.trials,
            "seed": first.seed,
        },
    )


def _recalled(key: str, inputs: LadderInputs) -> list[Compared] | None:
    run_id = earlier(LADDER, key)
    if run_id is None:
        return None
    return choose([rung(one, inputs.below) for one in runs.artifact(run_id, "ladder.json")["runs"]])


def _ladder(run: Work, inputs: LadderInputs) -> list[Compared]:
    run_ids = []
    for number, one in enumerate(inputs.rungs):
        one.progress("ladder", number, len(inputs.rungs))
        run_ids.append(experiments.run_experiment(one, reuse=True))
    compared = choose([rung(run_id, inputs.below) for run_id in run_ids])
    _log_ladder(run, compared)
    runs.introduce(run.experiment_id, inputs.introduction)
    return compared


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


def introduction() -> str:
    """What a newcomer to the experiment's page reads: what is asked, and where to look."""
    asked = "\n".join(f"- {name}: {load_experiment(name).question}" for name in experiment_ids())
    return (
        "Which customers of an energy utility will leave, and what each group of features adds to knowing it:\n\n"
        f"{asked}\n\n"
        "To compare them: filter `tags.stage = 'experiment'`, chart view, `cv.average_precision`; higher is better, "
        "and `.low` and `.high` are the ends of its 95 % interval. The run with `tags.stage = 'ladder'` says which is "
        "chosen and why. What was chosen is judged on customers kept aside: `tags.stage = 'evaluate'`, and the "
        f"registered model `{registered_model()}`."
    )


def rung(run_id: str, below: Mapping[str, Sequence[str]]) -> Rung:
    """A finished experiment run as the selection rule sees it."""
    chosen = runs.record(ExperimentRecord, run_id, CHOSEN)
    return Rung(
        chosen.experiment,
        chosen.model,
        run_id,
        len(chosen.kinds),
        tuple(chosen.fold_scores),
        chosen.repeats,
        tuple(below.get(chosen.experiment, ())),
    )


def chosen_run(lake: Lake) -> str:
    """The run that the selection rule picks among the newest finished run of each experiment and model.

    Only runs on the newest labelled gold table with the policy's holdout, the features that the experiment has now, and
    the newest run's seed and fresh folds, can be compared.
    """
    gold, held_out = experiments.training_gold(lake).manifest.digest, str(load_policy().holdout)
    finished = runs.find({"stage": "experiment", "gold": gold}, {HOLDOUT: held_out})
    newest: dict[tuple[str, str], Run] = {}
    for run in finished:
        if all(run.data.params.get(k) == finished[0].data.params.get(k) for k in ("seed", FRESH_FOLDS)):
            newest.setdefault((run.data.tags["experiment"], run.data.tags["model"]), run)
    current = [run.info.run_id for run in newest.values() if _is_current(run.info.run_id)]
    if not current:
        raise TrackingError(
            f"no finished experiment on the newest gold table with the holdout {held_out!r} and the features of today: "
            "run `spanishgas ladder` first"
        )
    stands_on = {name: below(name) for name in experiment_ids()}
    compared = choose([rung(run_id, stands_on) for run_id in current])
    return next(c.rung.run_id for c in compared if c.chosen)


def _is_current(run_id: str) -> bool:
    """Whether the run's experiment is still defined, with the features that the run had."""
    chosen = runs.record(ExperimentRecord, run_id, CHOSEN)
    if chosen.experiment not in experiment_ids():
        return False
    kinds = experiments.kinds_of(load_experiment(chosen.experiment), chosen.model)
    return list(kinds.items()) == list(chosen.kinds.items())
