"""The verbs of a version's life: searched, compared, evaluated, promoted, rolled back."""

from __future__ import annotations

from typing import Annotated

import typer

from spanishgas.cli.options import (
    AUTO,
    LakeOption,
    Reason,
    Seed,
    Trials,
    Workers,
    at_least,
    given,
    listed,
    require_tracking,
)
from spanishgas.errors import DataError
from spanishgas.lake import Lake
from spanishgas.progress import bar, show
from spanishgas.settings import settings


def evaluate(
    of: Annotated[
        str, typer.Option("--run", help="Experiment run; auto: the one that the selection rule picks.")
    ] = AUTO,
    lake: LakeOption = settings().lake,
) -> None:
    """Fit, calibrate and register the chosen experiment, open the holdout once, and write the gate's verdict."""
    from spanishgas.lifecycle import evaluation

    require_tracking()
    done = evaluation.evaluate(given(of), lake=Lake(lake))
    show(done.verdict.table())
    typer.echo(f"version {done.version.number}, gate {done.verdict.words}")
    if not done.verdict.passed:
        typer.echo("not promoted")


def promote(
    version: Annotated[str, typer.Option(help="Version number or alias.")] = "challenger",
    *,
    reason: Reason,
    override: Annotated[
        str, typer.Option(help="Why it may pass without a passed verdict; shown with it from then on.")
    ] = "",
) -> None:
    """Make a version champion; refused without a passed gate."""
    from spanishgas.lifecycle import promotion

    require_tracking()
    typer.echo(f"champion: version {promotion.promote(version, reason, override or None).number}")


def approve(
    version: Annotated[str, typer.Argument(help="Version number or alias.")] = "challenger",
    *,
    reason: Reason,
) -> None:
    """Approve of a version's verdict, where the policy asks for it before a promotion."""
    from spanishgas.lifecycle import promotion

    require_tracking()
    typer.echo(f"approved: version {promotion.approve(version, reason).number}, by {promotion.who()}")


def rollback(
    reason: Reason,
    lake: LakeOption = settings().lake,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Score again with the version gone back to.")
    ] = False,
) -> None:
    """Make the previous champion champion again, and say what the bad version had scored."""
    from spanishgas.scoring.rollback import rollback as go_back

    require_tracking()
    typer.echo(go_back(reason, lake=Lake(lake), rescore=rescore))


def history(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show every move of champion: when, by whom, why, and by which verdict; moves made elsewhere too."""
    from spanishgas.lifecycle import history as moves
    from spanishgas.lifecycle import registry

    require_tracking(writes=False)
    record, probation = moves.read(), registry.probations()
    told = moves.as_json if as_json else moves.as_markdown
    (typer.echo if as_json else show)(told(record, probation))


def reconcile(
    lake: LakeOption = settings().lake,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until interrupted.")] = False,
    every: Annotated[int, typer.Option(callback=at_least(1), help="Seconds between two looks.")] = 60,
) -> None:
    """See whether champion has moved, write that down, and score and watch drift with it if its verdict passed."""
    from spanishgas import pipeline

    require_tracking()
    if watch:
        pipeline.watch(lake=Lake(lake), every=every, say=typer.echo)
    else:
        typer.echo(pipeline.reconcile(lake=Lake(lake)))


def lineage(
    which: Annotated[str, typer.Argument(help="A score file, a customer's id, a version or alias, or gold.")],
    lake: LakeOption = settings().lake,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Walk from a score back to the raw files, and fail where a link is missing or no longer has its digest."""
    from spanishgas.lifecycle import lineage as links

    require_tracking(writes=False)
    link = links.lineage(which, Lake(lake))
    typer.echo(links.as_json(link) if as_json else links.as_tree(link))
    if broken := link.broken:
        raise DataError(f"{broken[0]}: spanishgas doctor tells which tables to build again")


def compare(
    before: Annotated[str, typer.Argument(help="Version number or alias.")],
    after: Annotated[str, typer.Argument(help="Version number or alias.")],
    lake: LakeOption = settings().lake,
    out: Annotated[str, typer.Option(help="CSV file to write every customer to whose tier changes.")] = "",
) -> None:
    """Say whose risk tier changes between two versions on the newest gold table, and which features move them."""
    import pyarrow as pa
    from pyarrow import csv

    from spanishgas.lifecycle import compare as versions
    from spanishgas.rendering import spreadsheet

    require_tracking(writes=False)
    comparison = versions.compare(before, after, Lake(lake))
    show(versions.as_markdown(comparison))
    if out:
        csv.write_csv(spreadsheet(pa.Table.from_pandas(comparison.moved, preserve_index=False)), out)


def reproduce(
    version: Annotated[str, typer.Argument(help="Version number or alias.")] = "champion",
    lake: LakeOption = settings().lake,
) -> None:
    """Fit a version again from its recorded data, code and parameters, and compare the predictions."""
    from spanishgas.lifecycle import reproduce as again

    require_tracking(writes=False)
    reproduced = again.reproduce(version, Lake(lake))
    typer.echo(reproduced.words)
    if not reproduced.equal:
        raise DataError(f"version {version} was not reproduced to the last digit")


def experiment(
    name: Annotated[str, typer.Option("--id", help="E0 ... E8, a file in experiments/.")] = "E5",
    model: Annotated[str, typer.Option(help="xgboost, forest or logistic.")] = "xgboost",
    trials: Trials = 25,
    lake: LakeOption = settings().lake,
    seed: Seed = 7,
    study: Annotated[str, typer.Option(help="Name of the search; auto: from id and model.")] = AUTO,
    workers: Workers = 1,
    patience: Annotated[
        int,
        typer.Option(callback=at_least(0), help="Trials without a better one that end it early; 0: none do."),
    ] = 0,
) -> None:
    """Search one experiment's hyperparameters in cross-validation; the holdout stays shut.

    Killed, or started again elsewhere on the same study storage, the same command goes on to the same total.
    """
    from spanishgas.lifecycle.experiments import experiment_inputs, run_experiment

    require_tracking()
    inputs = experiment_inputs(
        name,
        model,
        trials=trials,
        lake=Lake(lake),
        seed=seed,
        study=given(study),
        workers=workers,
        patience=patience or None,
        progress=bar,
    )
    run_id = run_experiment(inputs)
    typer.echo(f"run {run_id}")


def ladder(
    ids: Annotated[str, typer.Option(help="Experiments, by comma.")] = AUTO,
    models: Annotated[str, typer.Option(help="Models, by comma.")] = AUTO,
    trials: Trials = 8,
    lake: LakeOption = settings().lake,
    seed: Seed = 7,
    workers: Workers = 1,
) -> None:
    """Run every experiment with every model on the same folds and say which one is chosen.

    What has run to its end on the same data with the same code and parameters is not run again.
    """
    from spanishgas.config.experiment import experiment_ids
    from spanishgas.config.search import ModelKind
    from spanishgas.evaluation.selection import ladder_table, sentence
    from spanishgas.lifecycle.ladder import ladder_inputs, run_ladder
    from spanishgas.rendering import as_markdown

    require_tracking()
    inputs = ladder_inputs(
        listed(ids) or experiment_ids(),
        listed(models) or list(ModelKind),
        reuse=True,
        trials=trials,
        lake=Lake(lake),
        seed=seed,
        workers=workers,
        progress=bar,
    )
    compared = run_ladder(inputs)
    show(f"{as_markdown(ladder_table(compared))}\n\n{sentence(compared)}")
