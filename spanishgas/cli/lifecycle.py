"""The verbs of a version's life: searched, compared, evaluated, promoted, rolled back."""

from __future__ import annotations

import json

from typer import echo

from spanishgas.cli import options
from spanishgas.cli.options import AUTO, HERE, require_tracking
from spanishgas.errors import DataError
from spanishgas.progress import bar, show
from spanishgas.settings import of_offers


def experiment(
    name: options.ExperimentId = "E5",
    model: options.Model = "xgboost",
    trials: options.Trials = 25,
    lake: options.Place = HERE,
    seed: options.Seed = 7,
    study: options.StudyName = AUTO,
    workers: options.Workers = 1,
    patience: options.Patience = 0,
) -> None:
    """Search one experiment's hyperparameters in cross-validation; the holdout stays closed.

    After a kill, or elsewhere on the same study storage, the same command continues to the same total.
    """
    from spanishgas.lifecycle.experiments import experiment_inputs, run_experiment

    require_tracking()
    how = {"trials": trials, "seed": seed, "workers": workers, "patience": patience or None, "progress": bar}
    echo(f"run {run_experiment(experiment_inputs(name, model, lake=lake, study=study, **how))}")


def ladder(
    ids: options.Ids = AUTO,
    models: options.Models = AUTO,
    trials: options.Trials = 8,
    lake: options.Place = HERE,
    seed: options.Seed = 7,
    workers: options.Workers = 1,
    as_json: options.AsJson = False,
) -> None:
    """Run every experiment with every model on the same folds and say which one is chosen.

    An experiment that has finished on the same data with the same code and parameters is not run again.
    """
    from spanishgas.config.experiment import experiment_ids
    from spanishgas.config.search import load_search
    from spanishgas.evaluation.selection import ladder_table, sentence
    from spanishgas.lifecycle.ladder import ladder_inputs, run_ladder
    from spanishgas.rendering import as_markdown

    require_tracking()
    rungs = options.listed(ids) or experiment_ids(), options.listed(models) or list(load_search().root)
    compared = run_ladder(
        ladder_inputs(*rungs, trials=trials, lake=lake, seed=seed, workers=workers, progress=bar)
    )
    table, words = ladder_table(compared), sentence(compared)
    if as_json:
        echo(json.dumps({"rungs": json.loads(table.to_json(orient="records")), "chosen": words}, indent=1))
    else:
        show(f"{as_markdown(table)}\n\n{words}")


def evaluate(of: options.RunId = AUTO, lake: options.Place = HERE, as_json: options.AsJson = False) -> None:
    """Fit, calibrate and register the chosen experiment, open the holdout once, and write the gate's verdict."""
    from spanishgas.lifecycle import evaluation

    require_tracking()
    version = evaluation.evaluate(of, lake=lake)
    if as_json:
        verdict = version.verdict
        said = {"version": version.number, "passed": verdict.passed, **verdict.model_dump(mode="json")}
        echo(json.dumps(said, indent=1))
    else:
        show(version.verdict.table())
        echo(version.outcome)


def promote(
    version: options.Challenger = "challenger",
    *,
    reason: options.Reason,
    override: options.Override = "",
    offers: options.OfOffers = False,
) -> None:
    """Make a version champion; refused unless it passed the gate."""
    from spanishgas.lifecycle import promotion

    require_tracking()
    with of_offers(offers):
        echo(f"champion: version {promotion.promote(version, reason, override or None).number}")


def approve(
    version: options.Named = "challenger", *, reason: options.Reason, offers: options.OfOffers = False
) -> None:
    """Approve a version's verdict, if the policy requires that before promotion."""
    from spanishgas.lifecycle import promotion

    require_tracking()
    with of_offers(offers):
        echo(f"approved: version {promotion.approve(version, reason).number}, by {promotion.who()}")


def rollback(
    reason: options.Reason,
    lake: options.Place = HERE,
    rescore: options.Rescore = False,
    offers: options.OfOffers = False,
) -> None:
    """Make the previous champion champion again, and say what the bad version had scored."""
    from spanishgas.scoring.rollback import rollback as go_back

    require_tracking()
    echo(go_back(reason, lake=lake, rescore=rescore, offers=offers))


def transfer(
    to: options.OtherStore, version: options.Named = "champion", history: options.History = False
) -> None:
    """Copy a version to another tracking store, and check there that verdict and bytes are what was judged."""
    from spanishgas.lifecycle import transfer as copying

    require_tracking(writes=False)
    if history:
        echo(f"{copying.transfer_history(to, bar):,} finished runs are there")
    copy = copying.transfer(version, to)
    echo(
        f"version {copy.number} there, gate {copy.verdict.words}: `spanishgas promote` there makes it champion"
    )


def export_package(version: options.Named = "champion", group: options.Group = AUTO) -> None:
    """Register a version that passed its gate as a Model Package of SageMaker, for those who need one there."""
    from spanishgas.scoring import package
    from spanishgas.scoring.settings import Transform, read_settings

    require_tracking(writes=False)
    echo(package.export_package(version, group, read_settings(Transform)))


def history(as_json: options.AsJson = False, offers: options.OfOffers = False) -> None:
    """Show every move of champion, including those made elsewhere: when, by whom, why, and by which verdict."""
    from spanishgas.lifecycle import history as moves
    from spanishgas.lifecycle import registry

    require_tracking(writes=False)
    with of_offers(offers):
        record, probation = moves.read(), registry.probations()
    echo(moves.as_json(record, probation)) if as_json else show(moves.as_markdown(record, probation))


def reconcile(lake: options.Place = HERE, watch: options.Watch = False, every: options.Every = 60) -> None:
    """Record a moved champion and, if its verdict passed, score with it and report drift."""
    from spanishgas import pipeline

    require_tracking()
    if watch:
        pipeline.watch(lake=lake, every=every, say=echo)
    else:
        echo(pipeline.reconcile(lake=lake))


def lineage(which: options.Origin, lake: options.Place = HERE, as_json: options.AsJson = False) -> None:
    """Trace a score back to the raw files, and fail if a link is missing or no longer has its digest."""
    from spanishgas.lifecycle import lineage as links

    require_tracking(writes=False)
    link = links.lineage(which, lake)
    echo(links.as_json(link) if as_json else links.as_tree(link))
    if broken := link.broken:
        raise DataError(f"{broken[0]}: spanishgas doctor tells which tables to build again")


def compare(
    before: options.Named,
    after: options.Named,
    lake: options.Place = HERE,
    out: options.Spreadsheet = None,
    as_json: options.AsJson = False,
) -> None:
    """Say whose risk tier changes between two versions on the newest gold table, and which features move them."""
    from spanishgas.lifecycle import compare as versions

    require_tracking(writes=False)
    comparison = versions.compare(before, after, lake)
    echo(versions.as_json(comparison)) if as_json else show(versions.as_markdown(comparison))
    if out:
        versions.write_csv(comparison, out)


def reproduce(
    version: options.Named = "champion", lake: options.Place = HERE, offers: options.OfOffers = False
) -> None:
    """Fit a version again from its recorded data, code and parameters, and compare the predictions."""
    from spanishgas import uplift
    from spanishgas.lifecycle import compare as versions

    require_tracking(writes=False)
    reproduced = (uplift if offers else versions).reproduce(version, lake)
    echo(reproduced.words)
    if not reproduced.equal:
        raise DataError(f"version {version} was not reproduced to the last digit")
