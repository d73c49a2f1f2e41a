"""The verbs of the data: raw extracts, tables and what becomes of them."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path

from typer import echo

from spanishgas.cli import options
from spanishgas.cli.options import AUTO, HERE, require_tracking
from spanishgas.config.adopted import of_adopted
from spanishgas.errors import DataError, UsageError
from spanishgas.lake import RAW_FILES, Lake
from spanishgas.lake.store import sweep
from spanishgas.progress import bar
from spanishgas.settings import settings


def simulate(
    customers: options.Drawn = 10_000,
    out: options.Out = AUTO,
    seed: options.Seed = 7,
    as_of: options.AsOf = options.BASE,
    labelled: options.Labelled = "true",
    dated: options.Dated = "false",
    shift: options.Shift = "none",
    treatments: options.Treatments = AUTO,
    effect: options.Effect = 1.0,
) -> None:
    """Draw one extract of the synthetic utility in the source's schema; its true probabilities are kept separately."""
    from spanishgas.lifecycle import data

    for name, value in (("labelled", labelled), ("dated", dated)):
        if value.lower() not in ("true", "false"):
            raise UsageError(f"--{name} must be true or false, but got '{value}'")
    day = as_of or date.fromisoformat(options.BASE)
    folder = out or Lake(settings().lake).raw(day)
    require_tracking()
    truth = data.simulate(
        folder,
        customers=customers,
        seed=seed,
        as_of=day,
        labelled=labelled.lower() == "true",
        dated=dated.lower() == "true",
        shift=shift,
        treatments=treatments,
        effect=effect,
        progress=partial(bar, "simulate"),
    )
    echo(f"raw files: {folder}\ntrue churn probabilities: {truth}")


def etl(
    raw: options.Raw = AUTO,
    lake: options.Place = HERE,
    as_of: options.AsOf = AUTO,
    engine: options.Engine = "duckdb",
    mapping: options.Mapped = AUTO,
) -> None:
    """Build bronze, silver and gold from one raw extract; nothing dated after its as-of date counts."""
    from spanishgas.etl.source import extract_date, newest_extract
    from spanishgas.lifecycle import data
    from spanishgas.monitoring import alerts

    folder = raw or newest_extract(lake)
    require_tracking()
    with alerts.build_counted():
        day = as_of or extract_date(folder)
        report = data.etl(folder, lake=lake, as_of=day, engine=engine, mapping=mapping)
    for name, snapshot in report.snapshots.items():
        echo(f"{name}: {snapshot.manifest.rows:,} rows, {snapshot.uri}")


def validate(
    raw: options.RawNamed,
    as_of: options.AsOf = AUTO,
    mapping: options.Mapped = AUTO,
    lake: options.Place = HERE,
) -> None:
    """Say what etl would make of one raw extract, and what to fix; needs no server.

    Writes nothing, except copies of files on S3 where etl with this lake would put them.
    """
    from spanishgas.etl import validate as checks
    from spanishgas.etl.source import extract_date, open_source

    when = as_of or extract_date(raw)
    checked = checks.validate(open_source(raw, mapping, lake.store.downloads), when)
    echo(checked.report)
    if checked.faults:
        raise DataError("\n".join(checked.faults))
    echo(f"The ETL would run as of {when}.")


def sniff(raw: options.RawNamed, preset: options.Preset = AUTO, write: options.Write = False) -> None:
    """Look at the files of a folder and propose the mapping.yaml that reads them; what is doubted is marked by ?."""
    from spanishgas.etl import sniff as looks

    text = looks.proposal(Path(raw), preset)
    echo(text, nl=False)
    if write:
        echo(f"{looks.write(Path(raw), text)}: read the lines marked ?, then spanishgas validate --raw {raw}")


def template(out: options.Template) -> None:
    """Write the seven raw files, empty, with a README that says what belongs in them."""
    from spanishgas.etl.template import write_template

    write_template(Path(out))
    echo(f"{out}: fill the files in, then spanishgas validate --raw {out}")


def adopt(
    table: options.AnyTable,
    id_column: options.IdColumn,
    as_of: options.AsOf,
    target: options.TargetColumn = AUTO,
    lake: options.Place = HERE,
    value: options.ValueColumn = AUTO,
    out: options.Out = AUTO,
    positive: options.Positive = AUTO,
    without: options.Without = AUTO,
    groups: options.Groups = AUTO,
) -> None:
    """Take in any table of customers: propose its experiments folder, and publish it as gold.

    With a folder that is there already, a later table is read as that says; one without the target is to be scored.
    """
    from spanishgas.adopt.adoption import adopt as take_in
    from spanishgas.adopt.proposal import Roles
    from spanishgas.adopt.telling import told

    if as_of is None:
        raise UsageError("--as-of must be the date that the table is of, such as 2024-12-31")
    folder = Path(out or f"experiments-{table.stem}")
    roles = Roles(id_column, target, positive, value, groups, options.listed(without))
    require_tracking()
    echo(told(take_in(table, roles, as_of, folder, lake=lake), lake))


def where(table: options.Table, as_of: options.AsOf = AUTO, lake: options.Place = HERE) -> None:
    """Print the location of a table's current snapshot, as a path or s3:// URI, and nothing else."""
    if table in RAW_FILES:
        from spanishgas.etl.source import locate, newest_extract

        echo(locate(lake.raw(as_of) if as_of else newest_extract(lake), table))
    else:
        echo(lake.current(table, as_of).uri)


def prune(
    keep: options.Keep = 3, days: options.Days = 30, yes: options.Yes = False, lake: options.Place = HERE
) -> None:
    """List, or remove, old snapshots that nothing current and no registered version refers to."""
    from spanishgas.lifecycle import retention

    hidden = sweep(lake.root if isinstance(lake.root, Path) else lake.store.downloads, dry=not yes)
    for left in [*hidden, *retention.left_over(lake, dry=not yes)]:
        echo(f"left by a run that was killed: {left}")
    snapshots = retention.prunable(lake, keep=keep, days=days)
    gone = [snapshot for snapshot in snapshots if not yes or lake.remove(snapshot)]
    for snapshot in gone:
        echo(snapshot.uri)
    size = sum(sum(snapshot.manifest.parts.values()) for snapshot in gone)
    words = "removed" if yes else "can go: add --yes to remove them"
    echo(f"{len(gone)} snapshots, {size:,} bytes {words}")


def erase(
    customer_id: options.Customer,
    yes: options.Yes = False,
    reason: options.Purpose = "asked for",
    raw: options.RawBeside = AUTO,
    mapping: options.Mapped = AUTO,
    lake: options.Place = HERE,
) -> None:
    """Remove a person from raw files, truth and every snapshot, and say what must be rebuilt or trained again."""
    from spanishgas.lifecycle import erasure, retention

    done = erasure.erase(customer_id, lake, reason=reason, raw=raw, mapping=mapping, dry=not yes)
    for place, rows in done.rows.items():
        echo(f"{rows:,} rows: {place}")
    if not yes:
        echo("nothing was changed: add --yes to erase")
    for day in sorted(done.dates):
        echo(f"build again: spanishgas {'adopt TABLE' if of_adopted() else 'etl'} --as-of {day}, then score")
    for line in retention.to_train(done.gold):
        echo(line)
    if done.left:
        raise DataError("; ".join(done.left))
