"""The verbs that run the whole chain."""

from __future__ import annotations

from typing import Annotated

import typer

from spanishgas.cli.options import LakeOption, Seed, Trials, at_least, progress, tracked
from spanishgas.errors import DataError
from spanishgas.lake import Lake
from spanishgas.settings import settings


def main(
    customers: Annotated[
        int, typer.Option(callback=at_least(200), help="Customers to simulate, if the lake has no extract.")
    ] = 10_000,
    trials: Trials = 8,
    lake: LakeOption = settings().lake,
    seed: Seed = 7,
) -> None:
    """Run the whole chain: raw files in; ladder, champion, scores and a drift report out. Run again, it reuses."""
    from spanishgas import pipeline

    tracked()
    found = pipeline.main(customers, trials, lake=Lake(lake), seed=seed, progress=progress)
    from spanishgas.progress import show

    show(pipeline.summary(found))


def retrain(lake: LakeOption = settings().lake, trials: Trials = 8, seed: Seed = 7) -> None:
    """Train the champion's experiment again on the newest labels, and promote it if gate and policy say so."""
    from spanishgas import pipeline

    tracked()
    done = pipeline.retrain(trials, lake=Lake(lake), seed=seed, progress=progress)
    typer.echo(f"version {done.version.version}, gate {done.verdict.words}")
    if not done.verdict.passed:
        typer.echo("not promoted")


def doctor(lake: LakeOption = settings().lake) -> None:
    """Look at environment, configuration, lake, disk, tracking and ports, and say what to mend."""
    from spanishgas import doctor as checks

    found = checks.examine(Lake(lake))
    width = max(len(finding.what) for finding in found)
    for finding in found:
        typer.echo(f"{finding.state:<5}  {finding.what:<{width}}  {finding.words}")
    faults = [finding.what for finding in found if finding.state is checks.State.FAULT]
    if faults:
        raise DataError(f"{len(faults)} to mend: {', '.join(faults)}")
