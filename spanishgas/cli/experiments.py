"""The verbs that search and compare."""

from __future__ import annotations

from typing import Annotated

import typer

from spanishgas.cli.options import (
    AUTO,
    LakeOption,
    Seed,
    Trials,
    Workers,
    at_least,
    given,
    listed,
    progress,
    tracked,
)
from spanishgas.lake import Lake
from spanishgas.settings import settings


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
    from spanishgas.lifecycle.experiments import run_experiment

    tracked()
    run_id = run_experiment(
        name,
        model,
        trials=trials,
        lake=Lake(lake),
        seed=seed,
        study=given(study),
        workers=workers,
        patience=patience or None,
        progress=progress,
    )
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
    from spanishgas.evaluation.card import as_markdown
    from spanishgas.lifecycle.experiments import ladder_table, run_ladder, sentence
    from spanishgas.progress import show

    tracked()
    compared = run_ladder(
        listed(ids) or experiment_ids(),
        listed(models) or list(ModelKind),
        trials=trials,
        lake=Lake(lake),
        seed=seed,
        workers=workers,
        reuse=True,
        progress=progress,
    )
    show(f"{as_markdown(ladder_table(compared))}\n\n{sentence(compared)}")
