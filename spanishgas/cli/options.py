"""Every option of the verbs, declared once: its type, how a typed value is read, and what its help says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, CallbackParam, Option, echo

from spanishgas.errors import UsageError
from spanishgas.lake import Lake
from spanishgas.settings import settings

AUTO: Any = "auto"
"""Stands for "not given", as typed; the option's parser reads it."""
HERE: Any = settings().lake
"""The lake where none is named, as typed."""
BASE: Any = "2024-12-31"
"""The date of a drawn extract where none is named, as typed."""


def text(value: str) -> str | None:
    """The value, or None where it stands for "not given"."""
    return None if value in ("", AUTO) else value


def path(value: str) -> Path | None:
    """The value as a path, or None where it stands for "not given"."""
    return Path(value) if text(value) else None


def day(option: str) -> Callable[[str], date | None]:
    """Reads the value of `option` as a date, None where it stands for "not given"; UsageError where it is neither."""

    def read(value: str) -> date | None:
        try:
            return date.fromisoformat(value) if text(value) else None
        except ValueError:
            raise UsageError(f"{option} must be a date such as 2024-12-31, but got '{value}'") from None

    return read


def at_least(low: int) -> Callable[[CallbackParam, int], int]:
    """Refuses an option's number below `low`; the message echoes it."""

    def check(param: CallbackParam, value: int) -> int:
        if value < low:
            more = f"give --{param.name} {low} or more"
            raise UsageError(f"--{param.name} must be at least {low}, but got {value}: {more}")
        return value

    return check


def listed(value: str) -> list[str]:
    """The parts of a list with commas, none where it stands for "not given"."""
    return [part.strip() for part in (text(value) or "").split(",") if part.strip()]


def grouped(value: str) -> dict[str, list[str]]:
    """Columns by tier, as a YAML file names them; none where the value stands for "not given"."""
    from pydantic import RootModel

    from spanishgas.config.reading import read

    return read(Path(value), RootModel[dict[str, list[str]]], "name a file").root if text(value) else {}


Place = Annotated[Lake, Option("--lake", parser=Lake, help="Folder or s3:// prefix of extracts and tables.")]
AsOf = Annotated[
    date | None,
    Option(
        "--as_of", "--as-of", parser=day("--as_of"), help="As-of date; auto: the extract's, or the newest."
    ),
]
Seed = Annotated[int, Option(callback=at_least(0), help="Seed: the same seed gives the same result.")]
AsJson = Annotated[bool, Option("--json", help="Print JSON.")]
Yes = Annotated[bool, Option("--yes", help="Do it; without this, only show what would change.")]

Customers = Annotated[int, Option(callback=at_least(200), help="Customers to draw if there is no extract.")]
Drawn = Annotated[int, Option(callback=at_least(1), help="Customers in the base extract.")]
Out = Annotated[str | None, Option(parser=text, help="Folder or s3:// prefix; auto: <lake>/raw/<as_of>.")]
Labelled = Annotated[str, Option(help="true: with churn_label.csv; false: without it, to be scored.")]
Dated = Annotated[str, Option(help="true: labels say when customers left, drawn from known hazards.")]
Shift = Annotated[
    str, Option(help="none, prices, channels, province or concept; prices:0.5 halves it, + joins several.")
]
Treatments = Annotated[
    str | None,
    Option(
        parser=text,
        help="Offers made as of the date: a CSV or Parquet file with customer_id and offer, or a lake with treatments. "
        "The labels are those under the offers; auto: nobody got one.",
    ),
]
Effect = Annotated[
    float, Option(help="Strength of what offers do: 1 as policy assumes on average, 0 nothing.")
]
Points = Annotated[
    float | None, Option("--effect", min=0.01, help="Churn avoided, in points; the policy's if none.")
]
Scored = Annotated[
    int | None, Option("--customers", min=1, help="Customers scored in a campaign; as now if none.")
]
Planned = Annotated[int, Option("--campaigns", min=1, help="Campaigns that are planned.")]
Raw = Annotated[
    str | None, Option(parser=text, help="Folder or s3:// prefix of an extract; auto: the newest.")
]
RawNamed = Annotated[str, Option("--raw", help="Folder or s3:// prefix of the seven files.")]
RawBeside = Annotated[
    str | None, Option("--raw", parser=text, help="One more raw folder or s3:// prefix, outside the lake.")
]
Engine = Annotated[str, Option(help="duckdb or spark.")]
Mapped = Annotated[
    Path | None,
    Option(parser=path, help="YAML that maps your own names; auto: the raw folder's mapping.yaml."),
]
Preset = Annotated[
    str | None, Option(parser=text, help="Layout of the hours: datadis or cch; auto: by their columns.")
]
Write = Annotated[bool, Option("--write", help="Write mapping.yaml beside the files.")]
Template = Annotated[str, Argument(help="Folder to write.")]
Table = Annotated[str, Argument(help="A table of the lake, or one of the seven raw names.")]
AnyTable = Annotated[Path, Argument(help="CSV, Parquet or Excel file with a row per customer.")]
IdColumn = Annotated[str, Option("--id", help="Column with the customer's id.")]
TargetColumn = Annotated[
    str | None,
    Option("--target", parser=text, help="Column that says who left; not needed for a later table."),
]
ValueColumn = Annotated[
    str | None, Option("--value", parser=text, help="Column with the monthly margin in EUR, for offers.")
]
Positive = Annotated[
    str | None,
    Option(parser=text, help="Label of those who left; auto: 1, yes and the like, else the rarer one."),
]
Without = Annotated[str, Option(help="Columns to leave out, separated by commas.")]
Groups = Annotated[
    Any, Option(parser=grouped, help="YAML file of tiers: a name and its list of columns each.")
]
Keep = Annotated[
    int, Option(callback=at_least(1), help="How many of the newest snapshots to keep, per table and date.")
]
Days = Annotated[int, Option(callback=at_least(0), help="Keep snapshots younger than this many days.")]
Customer = Annotated[str, Argument(help="Id of the customer whose rows are removed.")]
Purpose = Annotated[str, Option("--reason", help="Why; kept in manifests, so leave out the id.")]

ExperimentId = Annotated[str, Option("--id", help="E0 to E8, or another file in experiments/.")]
Model = Annotated[str, Option(help="xgboost, forest or logistic.")]
Trials = Annotated[int, Option(callback=at_least(1), help="Sets of hyperparameters to try.")]
StudyName = Annotated[
    str | None, Option(parser=text, help="Name of the search; auto: made from id and model.")
]
Workers = Annotated[
    int,
    Option(callback=at_least(1), help="Trials to run at once; the same command elsewhere shares the search."),
]
Patience = Annotated[
    int, Option(callback=at_least(0), help="End early after this many trials without improvement; 0: never.")
]
Ids = Annotated[str, Option(help="Experiments, separated by commas.")]
Models = Annotated[str, Option(help="Models, separated by commas.")]
RunId = Annotated[
    str | None, Option("--run", parser=text, help="Experiment run; auto: the one that the rule chooses.")
]

Named = Annotated[str, Argument(help="Version number or alias.")]
Challenger = Annotated[str, Option("--version", help="Version number or alias.")]
OtherStore = Annotated[str, Option("--to", help="URI of the tracking server or store to copy to.")]
Group = Annotated[
    str | None, Option(parser=text, help="Model package group; without it, the registered model's name.")
]
History = Annotated[bool, Option("--history", help="Copy all finished runs of the experiment as well.")]
Reason = Annotated[str, Option(help="Why; kept with the version.")]
Override = Annotated[
    str, Option(help="Why it may be promoted without a passed verdict; shown with it from then on.")
]
OfOffers = Annotated[bool, Option("--offers/--churn", help="Of the model that knows what offers change.")]
Rescore = Annotated[bool, Option("--rescore", help="Score again with the version that becomes champion.")]
Watch = Annotated[bool, Option("--watch", help="Keep reconciling until interrupted.")]
Every = Annotated[int, Option(callback=at_least(1), help="Seconds between two checks.")]
Origin = Annotated[str, Argument(help="A score file, a customer's id, a version or alias, or gold.")]
Spreadsheet = Annotated[
    Path | None, Option(parser=path, help="CSV file to write: every customer whose risk tier changes.")
]

Alias = Annotated[str, Option(help="Version or alias that scores, or whose training table is the reference.")]
BackendName = Annotated[str, Option(help="local, or sagemaker (see the SPANISHGAS_TRANSFORM_ settings).")]
Current = Annotated[
    date | None, Option(parser=day("--current"), help="As-of date of the scores; auto: the newest.")
]
Last = Annotated[int, Option(callback=at_least(1), help="How many of the newest windows to show.")]
From = Annotated[date, Option("--from", parser=day("--from"), help="Day of the first step.")]
To = Annotated[date, Option("--to", parser=day("--to"), help="Last day on which a step may fall.")]
EveryStep = Annotated[str, Option("--every", help="From step to step: months or days, such as 1M or 14D.")]
NO_FILES: Any = [AUTO]
Policies = Annotated[list[str], Option("--policy", help="A policy file, repeated to compare in EUR.")]
Replays = Annotated[Path, Option("--out", help="Folder of the replays; a killed one goes on from there.")]
LabelFile = Annotated[
    Path | None, Argument(parser=path, help="CSV or Parquet: customer_id, churn, optionally label_date.")
]
Labels = Annotated[Path | None, Option(parser=path, help="The same file, given as an option.")]
Relocate = Annotated[
    bool, Option("--relocate", help="First make a moved tracking store find its artefacts again.")
]
Port = Annotated[int, Option(min=1, max=65535, help="Port to serve on.")]
Address = Annotated[
    str, Option(help="Address to listen on; other than this machine's, showing customers takes a login.")
]


def require_tracking(*, writes: bool = True) -> None:
    """Fail early where the tracking server cannot be reached.

    A local store of an older MLflow is upgraded by verbs that write, which say so; one that only looks is refused.
    """
    import mlflow

    from spanishgas.lifecycle import local_store, runs

    if writes:
        local_store.upgrade(mlflow.get_tracking_uri(), lambda words: echo(words, err=True))
    runs.connect()
