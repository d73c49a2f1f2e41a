"""The verbs of the command line: each parses its options and makes one call.

A failure that the user can mend is one message and an exit code: 2 for arguments and configuration, 1 for data and
environment. `--debug`, anywhere on the line, shows the traceback as well.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spanishgas.errors import DataError, SpanishGasError, TrackingError, UsageError
from spanishgas.lake import RAW_FILES, Lake
from spanishgas.settings import settings

if TYPE_CHECKING:
    from spanishgas.pipeline import Progress

AUTO = "auto"
app = typer.Typer(
    help="Churn of an energy utility's customers: from raw meter readings to a champion, scores and drift.",
    epilog="Every verb is an MLproject entry point too: mlflow run . --env-manager local -e experiment -P id=E5",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _at_least(low: int) -> Callable[[typer.CallbackParam, int], int]:
    def check(param: typer.CallbackParam, value: int) -> int:
        if value < low:
            raise UsageError(
                f"--{param.name} must be at least {low}, but got {value}: give --{param.name} {low} or more"
            )
        return value

    return check


Mapped = Annotated[
    str, typer.Option("--mapping", help="YAML of your own names; auto: the raw folder's mapping.yaml.")
]
LakeOption = Annotated[str, typer.Option("--lake", help="Folder of raw extracts and published tables.")]
Seed = Annotated[int, typer.Option(callback=_at_least(0), help="Seed: the same seed gives the same result.")]
Trials = Annotated[int, typer.Option(callback=_at_least(1), help="Sets of hyperparameters to try.")]
Workers = Annotated[int, typer.Option(callback=_at_least(1), help="Processes that share the search.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the version.")]


def run() -> None:
    """Entry point of the process: run a verb, and turn failures into a message and an exit code."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    _mlflow_defaults()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("spanishgas").setLevel(logging.INFO)
    try:
        app()
    except Exception as fault:
        known = _known(fault)
        if debug or known is None:
            raise
        sys.stderr.write(f"error: {known}\n")
        sys.exit(known.exit_code)


def _mlflow_defaults() -> None:
    """No bars and notes for what is no news; the model pins its own requirements, not the whole lock."""
    for name in ("ENABLE_ARTIFACTS_PROGRESS_BAR", "UV_AUTO_DETECT", "LOG_UV_FILES"):
        os.environ.setdefault(f"MLFLOW_{name}", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # spinning threads on a busy machine cost ten times the work
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)


def _known(fault: Exception) -> SpanishGasError | None:
    """The failure in the project's own terms, or None for a defect, which deserves its traceback."""
    if isinstance(fault, SpanishGasError):
        return fault
    if isinstance(fault, OSError):
        return SpanishGasError(f"{fault}: check the path, its permissions and the space on the disk")
    if type(fault).__module__.startswith(("mlflow.", "sqlalchemy.")):
        return TrackingError(
            f"the tracking server failed: {str(fault).splitlines()[0]}. Check MLFLOW_TRACKING_URI."
        )
    return None


def _given(value: str) -> str | None:
    return None if value in ("", AUTO) else value


def _path(value: str) -> Path | None:
    return Path(value) if _given(value) else None


def _date(value: str, option: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise UsageError(f"{option} must be a date such as 2024-12-31, but got '{value}'") from None


def _tracked() -> None:
    from spanishgas.lifecycle.runs import connect

    connect()


def _progress() -> Progress:
    from spanishgas.progress import bar

    return bar


@app.command()
def main(
    customers: Annotated[
        int, typer.Option(callback=_at_least(200), help="Customers to simulate, if the lake has no extract.")
    ] = 10_000,
    trials: Trials = 8,
    lake: LakeOption = settings().lake,
    seed: Seed = 7,
) -> None:
    """Run the whole chain: raw files in; ladder, champion, scores and a drift report out. Run again, it reuses."""
    from spanishgas import pipeline

    _tracked()
    found = pipeline.main(customers, trials, lake=Lake(lake), seed=seed, progress=_progress())
    from spanishgas.progress import show

    show(pipeline.summary(found))


@app.command()
def simulate(
    customers: Annotated[
        int, typer.Option(callback=_at_least(1), help="Customers of the base extract.")
    ] = 10_000,
    out: Annotated[str, typer.Option(help="Folder to write; auto: <lake>/raw/<as_of>.")] = AUTO,
    seed: Seed = 7,
    as_of: Annotated[str, typer.Option("--as_of", "--as-of", help="Date of the extract.")] = "2024-12-31",
    labelled: Annotated[str, typer.Option(help="true: with churn_label.csv; false: to be scored.")] = "true",
    shift: Annotated[
        str,
        typer.Option(
            help="Drift to add: none, prices, channels, province, concept; prices:0.5 is half of it."
        ),
    ] = "none",
    report: Annotated[bool, typer.Option("--report", help="Compare it with the published figures.")] = False,
) -> None:
    """Draw one extract of the synthetic utility in the source's schema; the true probabilities go apart from it."""
    from spanishgas.lifecycle import data

    if labelled.lower() not in ("true", "false"):
        raise UsageError(f"--labelled must be true or false, but got '{labelled}'")
    day = _date(as_of, "--as_of")
    if report and labelled.lower() == "false":
        raise UsageError("--report compares churn too: draw a labelled extract, --labelled true")
    folder = Path(_given(out) or Lake(settings().lake).raw(day))
    _tracked()
    bar = _progress()
    from spanishgas.progress import show

    truth = data.simulate(
        folder,
        customers=customers,
        seed=seed,
        as_of=day,
        labelled=labelled.lower() == "true",
        shift=shift,
        progress=lambda done, total: bar("simulate", done, total),
        report=show if report else None,
    )
    typer.echo(f"raw files: {folder}\ntrue churn probabilities: {truth}")


@app.command()
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
    from spanishgas import pipeline
    from spanishgas.lifecycle import data

    folder = _given(raw) or pipeline.newest_extract(Lake(lake))
    day = _given(as_of)
    _tracked()
    report = data.etl(
        folder,
        lake=Lake(lake),
        as_of=_date(day, "--as_of") if day else pipeline.extract_date(folder),
        engine=engine,
        mapping=_path(mapping),
    )
    for name, snapshot in report.snapshots.items():
        typer.echo(f"{name}: {snapshot.manifest.rows:,} rows, {snapshot.uri}")


@app.command()
def validate(
    raw: Annotated[str, typer.Option(help="Folder or s3:// prefix of the seven files.")],
    as_of: Annotated[
        str, typer.Option("--as_of", "--as-of", help="As for etl; auto: the raw folder's own date.")
    ] = AUTO,
    mapping: Mapped = AUTO,
) -> None:
    """Say what etl would make of one raw extract, and what to mend; nothing is written, no server needed."""
    from spanishgas import pipeline
    from spanishgas.etl import validate as checks
    from spanishgas.etl.source import open_source

    day = _given(as_of)
    when = _date(day, "--as_of") if day else pipeline.extract_date(raw)
    found = checks.validate(open_source(raw, _path(mapping)), when)
    typer.echo(found.report)
    if found.faults:
        raise DataError("\n".join(found.faults))
    typer.echo(f"The ETL would run as of {when}.")


@app.command()
def template(out: Annotated[str, typer.Argument(help="Folder to write.")]) -> None:
    """Write the seven raw files empty, with a README that says what belongs into them."""
    from spanishgas.etl.template import write_template

    write_template(Path(out))
    typer.echo(f"{out}: fill the files in, then spanishgas validate --raw {out}")


@app.command()
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
        typer.Option(
            callback=_at_least(0), help="Trials without a better one that end it early; 0: none do."
        ),
    ] = 0,
) -> None:
    """Search one experiment's hyperparameters in cross-validation; the holdout stays shut.

    Killed, or started again elsewhere on the same study storage, the same command goes on to the same total.
    """
    from spanishgas.lifecycle.experiments import run_experiment

    _tracked()
    run_id = run_experiment(
        name,
        model,
        trials=trials,
        lake=Lake(lake),
        seed=seed,
        study=_given(study),
        workers=workers,
        patience=patience or None,
        progress=_progress(),
    )
    typer.echo(f"run {run_id}")


@app.command()
def ladder(
    ids: Annotated[str, typer.Option(help="Experiments, by comma.")] = AUTO,
    models: Annotated[str, typer.Option(help="Models, by comma.")] = AUTO,
    trials: Trials = 8,
    lake: LakeOption = settings().lake,
    seed: Seed = 7,
    workers: Workers = 1,
) -> None:
    """Run every experiment with every model on the same folds and say which one is chosen."""
    from spanishgas.lifecycle.experiments import ladder_table, markdown, run_ladder, sentence
    from spanishgas.progress import show
    from spanishgas.training.experiment import ModelKind, experiment_ids

    _tracked()
    compared = run_ladder(
        _listed(ids) or experiment_ids(),
        _listed(models) or list(ModelKind),
        trials=trials,
        lake=Lake(lake),
        seed=seed,
        workers=workers,
        progress=_progress(),
    )
    show(f"{markdown(ladder_table(compared))}\n\n{sentence(compared)}")


def _listed(value: str) -> list[str]:
    return [part.strip() for part in (_given(value) or "").split(",") if part.strip()]


@app.command()
def evaluate(
    of: Annotated[
        str, typer.Option("--run", help="Experiment run; auto: the one that the selection rule picks.")
    ] = AUTO,
    lake: LakeOption = settings().lake,
) -> None:
    """Fit, calibrate and register the chosen experiment, open the holdout once, and write the gate's verdict."""
    from spanishgas.lifecycle import evaluation

    _tracked()
    done = evaluation.evaluate(_given(of), lake=Lake(lake))
    typer.echo(f"version {done.version.version}, gate {done.verdict.words}")
    if not done.verdict.passed:
        typer.echo("not promoted")


@app.command()
def promote(
    version: Annotated[str, typer.Option(help="Version number or alias.")] = "challenger",
    *,
    reason: Reason,
) -> None:
    """Make a version champion; refused without a passed gate."""
    from spanishgas.lifecycle import promotion

    _tracked()
    typer.echo(f"champion: version {promotion.promote(version, reason).version}")


@app.command()
def rollback(reason: Reason) -> None:
    """Make the previous champion champion again."""
    from spanishgas.lifecycle import promotion

    _tracked()
    typer.echo(f"champion: version {promotion.rollback(reason).version}")


@app.command()
def score(
    alias: Annotated[str, typer.Option(help="Alias or version number that scores.")] = "champion",
    lake: LakeOption = settings().lake,
    backend: Annotated[str, typer.Option(help="local.")] = "local",
) -> None:
    """Score every customer of the newest gold table, and recommend what to do about them."""
    from spanishgas.scoring import recommend
    from spanishgas.scoring import score as scoring

    _tracked()
    for published in (
        scoring.score(alias, lake=Lake(lake), backend=backend),
        recommend.recommend(lake=Lake(lake)),
    ):
        typer.echo(f"{published.manifest.table}: {published.manifest.rows:,} rows, {published.uri}")


@app.command()
def drift(
    current: Annotated[str, typer.Option(help="As-of date of scores; auto: the newest.")] = AUTO,
    alias: Annotated[
        str, typer.Option(help="Alias or version whose training table is the reference.")
    ] = "champion",
    lake: LakeOption = settings().lake,
) -> None:
    """Compare the newest scored gold table with the champion's training table (Evidently)."""
    from spanishgas.monitoring import drift as monitoring

    _tracked()
    found = monitoring.drift(_given(current), alias, lake=Lake(lake))
    typer.echo(
        monitoring.words({"share": found.share, "drifted": found.drifted, "prediction": found.prediction})
    )
    typer.echo(f"drift: {'yes' if found.detected else 'no'}, report in run {found.run_id}")


@app.command()
def retrain(lake: LakeOption = settings().lake, trials: Trials = 25, seed: Seed = 7) -> None:
    """Train the champion's experiment again on the newest labels, and promote it if the gate says so."""
    from spanishgas import pipeline

    _tracked()
    done = pipeline.retrain(trials, lake=Lake(lake), seed=seed, progress=_progress())
    typer.echo(f"version {done.version.version}, gate {done.verdict.words}")
    if not done.verdict.passed:
        typer.echo("not promoted")


@app.command()
def where(
    table: Annotated[str, typer.Argument(help="A table of the lake, or one of the seven raw names.")],
    as_of: Annotated[str, typer.Option("--as-of", "--as_of", help="auto: the newest.")] = AUTO,
    lake: LakeOption = settings().lake,
) -> None:
    """Print the URI of a table's current snapshot and nothing else."""
    from spanishgas import pipeline
    from spanishgas.etl.source import open_source

    home, day = Lake(lake), _given(as_of)
    when = _date(day, "--as-of") if day else None
    if table in RAW_FILES:
        folder = home.raw(when) if when else pipeline.newest_extract(home)
        typer.echo(open_source(folder).file(table).resolve().as_uri())
    else:
        typer.echo(home.current(table, when).uri)


@app.command()
def prune(
    keep: Annotated[
        int, typer.Option(callback=_at_least(1), help="Newest snapshots to keep of each table and date.")
    ] = 3,
    days: Annotated[int, typer.Option(callback=_at_least(0), help="Keep what is younger, in days.")] = 30,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only listed.")] = False,
    lake: LakeOption = settings().lake,
) -> None:
    """List, or remove, old snapshots that nothing current and no registered version refers to."""
    from spanishgas.lifecycle import retention

    home = Lake(lake)
    found = retention.prunable(home, keep=keep, days=days)
    gone = [snapshot for snapshot in found if not yes or home.remove(snapshot)]
    for snapshot in gone:
        typer.echo(str(snapshot.folder))
    size = sum(sum(snapshot.manifest.parts.values()) for snapshot in gone)
    words = "removed" if yes else "can go: add --yes to remove them"
    typer.echo(f"{len(gone)} snapshots, {size:,} bytes {words}")


@app.command()
def erase(
    customer_id: Annotated[str, typer.Argument(help="Whose rows are to go.")],
    yes: Annotated[bool, typer.Option("--yes", help="Erase; without it the rows are only counted.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in manifests, so without the id.")] = "asked for",
    raw: Annotated[str, typer.Option(help="One more raw folder, outside the lake.")] = AUTO,
    lake: LakeOption = settings().lake,
) -> None:
    """Take a person out of raw files, truth and every snapshot, and say what must be built or trained again."""
    from spanishgas.lifecycle import erasure, retention

    folder = _given(raw)
    done = erasure.erase(
        customer_id, Lake(lake), reason=reason, raw=Path(folder) if folder else None, dry=not yes
    )
    for place, rows in done.rows.items():
        typer.echo(f"{rows:,} rows: {place}")
    if not yes:
        typer.echo("nothing was changed: add --yes to erase")
    for day in sorted(done.dates):
        typer.echo(f"build again: spanishgas etl --as-of {day}, then score")
    for number in retention.trained_on(done.gold):
        typer.echo(f"train again: version {number} was trained on rows of this person")
