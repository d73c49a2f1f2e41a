"""The verbs of the data: raw extracts, tables and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spanishgas.cli.options import (
    AUTO,
    LakeOption,
    Mapped,
    Seed,
    at_least,
    day_of,
    given,
    path,
    require_tracking,
)
from spanishgas.errors import DataError, UsageError
from spanishgas.lake import RAW_FILES, Lake
from spanishgas.lake.store import sweep
from spanishgas.progress import bar
from spanishgas.settings import settings


def simulate(
    customers: Annotated[
        int, typer.Option(callback=at_least(1), help="Customers of the base extract.")
    ] = 10_000,
    out: Annotated[
        str, typer.Option(help="Folder or s3:// prefix to write; auto: <lake>/raw/<as_of>.")
    ] = AUTO,
    seed: Seed = 7,
    as_of: Annotated[str, typer.Option("--as_of", "--as-of", help="Date of the extract.")] = "2024-12-31",
    labelled: Annotated[str, typer.Option(help="true: with churn_label.csv; false: to be scored.")] = "true",
    shift: Annotated[
        str,
        typer.Option(
            help="Drift to add: none, prices, channels, province, concept; prices:0.5 is half of it, + joins several."
        ),
    ] = "none",
) -> None:
    """Draw one extract of the synthetic utility in the source's schema; the true probabilities go apart from it."""
    from spanishgas.lifecycle import data

    if labelled.lower() not in ("true", "false"):
        raise UsageError(f"--labelled must be true or false, but got '{labelled}'")
    day = day_of(as_of, "--as_of")
    folder = given(out) or Lake(settings().lake).raw(day)
    require_tracking()
    truth = data.simulate(
        folder,
        customers=customers,
        seed=seed,
        as_of=day,
        labelled=labelled.lower() == "true",
        shift=shift,
        progress=lambda done, total: bar("simulate", done, total),
    )
    typer.echo(f"raw files: {folder}\ntrue churn probabilities: {truth}")


def etl(
    raw: Annotated[
        str,
        typer.Option(help="Folder or s3:// prefix of the seven files; auto: the newest extract in the lake."),
    ] = AUTO,
    lake: LakeOption = settings().lake,
    as_of: Annotated[
        str,
        typer.Option("--as_of", "--as-of", help="Nothing after it counts; auto: the raw folder's own date."),
    ] = AUTO,
    engine: Annotated[str, typer.Option(help="duckdb or spark.")] = "duckdb",
    mapping: Mapped = AUTO,
) -> None:
    """Build bronze, silver and gold from one raw extract."""
    from spanishgas.etl.source import extract_date, newest_extract
    from spanishgas.lifecycle import data
    from spanishgas.monitoring import alerts

    folder = given(raw) or newest_extract(Lake(lake))
    day = given(as_of)
    require_tracking()
    with alerts.build_counted():
        report = data.etl(
            folder,
            lake=Lake(lake),
            as_of=day_of(day, "--as_of") if day else extract_date(folder),
            engine=engine,
            mapping=path(mapping),
        )
    for name, snapshot in report.snapshots.items():
        typer.echo(f"{name}: {snapshot.manifest.rows:,} rows, {snapshot.uri}")


def validate(
    raw: Annotated[str, typer.Option(help="Folder or s3:// prefix of the seven files.")],
    as_of: Annotated[
        str, typer.Option("--as_of", "--as-of", help="As for etl; auto: the raw folder's own date.")
    ] = AUTO,
    mapping: Mapped = AUTO,
    lake: LakeOption = settings().lake,
) -> None:
    """Say what etl would make of one raw extract, and what to mend; no server needed.

    Nothing is written, but copies of files on S3 where etl with this lake would have them.
    """
    from spanishgas.etl import validate as checks
    from spanishgas.etl.source import extract_date, open_source

    day = given(as_of)
    when = day_of(day, "--as_of") if day else extract_date(raw)
    source = open_source(raw, path(mapping), Lake(lake).store.downloads)
    checked = checks.validate(source, when)
    typer.echo(checked.report)
    if checked.faults:
        raise DataError("\n".join(checked.faults))
    typer.echo(f"The ETL would run as of {when}.")


def template(out: Annotated[str, typer.Argument(help="Folder to write.")]) -> None:
    """Write the seven raw files empty, with a README that says what belongs into them."""
    from spanishgas.etl.template import write_template

    write_template(Path(out))
    typer.echo(f"{out}: fill the files in, then spanishgas validate --raw {out}")


def where(
    table: Annotated[str, typer.Argument(help="A table of the lake, or one of the seven raw names.")],
    as_of: Annotated[str, typer.Option("--as-of", "--as_of", help="auto: the newest.")] = AUTO,
    lake: LakeOption = settings().lake,
) -> None:
    """Print where a table's current snapshot lies, as a path or s3:// URI, and nothing else."""
    home, day = Lake(lake), given(as_of)
    when = day_of(day, "--as-of") if day else None
    if table in RAW_FILES:
        from spanishgas.etl.source import locate, newest_extract

        folder = home.raw(when) if when else newest_extract(home)
        typer.echo(locate(folder, table))
    else:
        typer.echo(home.current(table, when).uri)


def prune(
    keep: Annotated[
        int, typer.Option(callback=at_least(1), help="Newest snapshots to keep of each table and date.")
    ] = 3,
    days: Annotated[int, typer.Option(callback=at_least(0), help="Keep what is younger, in days.")] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
    lake: LakeOption = settings().lake,
) -> None:
    """List, or remove, old snapshots that nothing current and no registered version refers to."""
    from spanishgas.lifecycle import retention

    home = Lake(lake)
    for left in sweep(home.root if isinstance(home.root, Path) else home.store.downloads, dry=not yes):
        typer.echo(f"left by a run that was killed: {left}")
    snapshots = retention.prunable(home, keep=keep, days=days)
    gone = [snapshot for snapshot in snapshots if not yes or home.remove(snapshot)]
    for snapshot in gone:
        typer.echo(snapshot.uri)
    size = sum(sum(snapshot.manifest.parts.values()) for snapshot in gone)
    words = "removed" if yes else "can go: add --yes to remove them"
    typer.echo(f"{len(gone)} snapshots, {size:,} bytes {words}")


def erase(
    customer_id: Annotated[str, typer.Argument(help="Whose rows are to go.")],
    yes: Annotated[bool, typer.Option("--yes", help="Erase; without it the rows are only counted.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in manifests, so without the id.")] = "asked for",
    raw: Annotated[str, typer.Option(help="One more raw folder or s3:// prefix, outside the lake.")] = AUTO,
    mapping: Mapped = AUTO,
    lake: LakeOption = settings().lake,
) -> None:
    """Take a person out of raw files, truth and every snapshot, and say what must be built or trained again."""
    from spanishgas.lifecycle import erasure, retention

    done = erasure.erase(
        customer_id, Lake(lake), reason=reason, raw=given(raw), mapping=path(mapping), dry=not yes
    )
    for place, rows in done.rows.items():
        typer.echo(f"{rows:,} rows: {place}")
    if not yes:
        typer.echo("nothing was changed: add --yes to erase")
    for day in sorted(done.dates):
        typer.echo(f"build again: spanishgas etl --as-of {day}, then score")
    for line in retention.to_train(done.gold):
        typer.echo(line)
    if done.left:
        raise DataError("; ".join(done.left))
