"""The verbs of what the champion does: scores, and whether they can still be trusted."""

from __future__ import annotations

from typing import Annotated

import typer

from spanishgas.cli.options import AUTO, LakeOption, at_least, day_of, given, path, require_tracking
from spanishgas.lake import Lake
from spanishgas.progress import bar, show
from spanishgas.settings import settings


def score(
    alias: Annotated[str, typer.Option(help="Alias or version number that scores.")] = "champion",
    lake: LakeOption = settings().lake,
    backend: Annotated[
        str, typer.Option(help="local, or sagemaker: a batch transform job (SPANISHGAS_TRANSFORM_ settings).")
    ] = "local",
) -> None:
    """Score every customer of the newest gold table, and recommend what to do about them."""
    from spanishgas.monitoring.alerts import put_metrics
    from spanishgas.scoring import recommend
    from spanishgas.scoring import score as scoring

    require_tracking()
    for published in (
        scoring.score(alias, lake=Lake(lake), backend=backend, progress=bar, say=typer.echo),
        recommend.recommend(lake=Lake(lake)),
    ):
        typer.echo(f"{published.manifest.table}: {published.manifest.rows:,} rows, {published.uri}")
    put_metrics({"RowsScored": published.manifest.rows})


def drift(
    current: Annotated[str, typer.Option(help="As-of date of scores; auto: the newest.")] = AUTO,
    alias: Annotated[
        str, typer.Option(help="Alias or version whose training table is the reference.")
    ] = "champion",
    lake: LakeOption = settings().lake,
) -> None:
    """Compare the newest scored gold table with the champion's training table, and act as the policy says."""
    from spanishgas import pipeline
    from spanishgas.monitoring.drift import yes

    require_tracking()
    day = day_of(current, "--current") if given(current) else None
    report = pipeline.watched(day, alias, lake=Lake(lake), progress=bar, say=typer.echo)
    for reason in report.reasons:
        typer.echo(reason)
    typer.echo(f"alarm: {yes(report.alarm)}, report in run {report.run_id}")


def monitor(
    last: Annotated[int, typer.Option(callback=at_least(1), help="Windows to show, the newest.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what was watched, window by window: drift, alarms, average precision estimated and measured, retrains."""
    from spanishgas.monitoring import history

    require_tracking(writes=False)
    windows = history.windows()[-last:]
    typer.echo(history.as_json(windows)) if as_json else show(history.as_markdown(windows))


def outcomes(
    file: Annotated[
        str, typer.Argument(help="CSV or Parquet: customer_id, churn, label_date if known.")
    ] = "",
    labels: Annotated[str, typer.Option(help="The same file, by name.")] = AUTO,
    as_of: Annotated[
        str, typer.Option("--as_of", "--as-of", help="As-of date of the scores; auto: the newest.")
    ] = AUTO,
    lake: LakeOption = settings().lake,
) -> None:
    """Hold labels against the scores that they are about; without labels, estimate what they would show."""
    from spanishgas.monitoring import outcomes as measured

    require_tracking()
    known, home = path(file) or path(labels), Lake(lake)
    when = day_of(as_of, "--as_of") if given(as_of) else None
    study = measured.outcomes(known, when, lake=home) if known else measured.estimate(when, lake=home)
    for line in [*study.findings, *study.probation]:
        typer.echo(line)
    typer.echo(f"outcomes of version {study.version} as of {study.as_of} in run {study.run_id}")
