"""The verbs of a version's life: evaluated, promoted, rolled back."""

from __future__ import annotations

from typing import Annotated

import typer

from spanishgas.cli.options import AUTO, LakeOption, Reason, given, tracked
from spanishgas.lake import Lake
from spanishgas.settings import settings


def evaluate(
    of: Annotated[
        str, typer.Option("--run", help="Experiment run; auto: the one that the selection rule picks.")
    ] = AUTO,
    lake: LakeOption = settings().lake,
) -> None:
    """Fit, calibrate and register the chosen experiment, open the holdout once, and write the gate's verdict."""
    from spanishgas.lifecycle import evaluation

    tracked()
    done = evaluation.evaluate(given(of), lake=Lake(lake))
    typer.echo(f"version {done.version.version}, gate {done.verdict.words}")
    if not done.verdict.passed:
        typer.echo("not promoted")


def promote(
    version: Annotated[str, typer.Option(help="Version number or alias.")] = "challenger",
    *,
    reason: Reason,
) -> None:
    """Make a version champion; refused without a passed gate."""
    from spanishgas.lifecycle import promotion

    tracked()
    typer.echo(f"champion: version {promotion.promote(version, reason).version}")


def rollback(reason: Reason) -> None:
    """Make the previous champion champion again."""
    from spanishgas.lifecycle import promotion

    tracked()
    typer.echo(f"champion: version {promotion.rollback(reason).version}")
