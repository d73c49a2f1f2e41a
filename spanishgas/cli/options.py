"""What the verbs' options have in common: their types, their checks, and how a typed value is read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from spanishgas.errors import UsageError

AUTO = "auto"


def at_least(low: int) -> Callable[[typer.CallbackParam, int], int]:
    """Refuses an option's number below `low`; the message echoes it."""

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
LakeOption = Annotated[
    str, typer.Option("--lake", help="Folder or s3:// prefix of raw extracts and published tables.")
]
Seed = Annotated[int, typer.Option(callback=at_least(0), help="Seed: the same seed gives the same result.")]
Trials = Annotated[int, typer.Option(callback=at_least(1), help="Sets of hyperparameters to try.")]
Workers = Annotated[
    int,
    typer.Option(
        callback=at_least(1), help="Trials at once; the same command elsewhere shares the search too."
    ),
]
Reason = Annotated[str, typer.Option(help="Why; kept with the version.")]


def given(value: str) -> str | None:
    """The value, or None where it stands for "not given"."""
    return None if value in ("", AUTO) else value


def path(value: str) -> Path | None:
    """The value as a path, or None where it stands for "not given"."""
    return Path(value) if given(value) else None


def day_of(value: str, option: str) -> date:
    """The value as a date; UsageError that names the option where it is none."""
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise UsageError(f"{option} must be a date such as 2024-12-31, but got '{value}'") from None


def listed(value: str) -> list[str]:
    """The parts of a list with commas, none where it stands for "not given"."""
    return [part.strip() for part in (given(value) or "").split(",") if part.strip()]


def require_tracking(*, writes: bool = True) -> None:
    """Fail early where the tracking server cannot be reached.

    A local store of an older MLflow is upgraded by verbs that write, which say so; one that only looks is refused.
    """
    import mlflow

    from spanishgas.lifecycle import runs, schema

    uri = mlflow.get_tracking_uri()
    schema.upgrade(uri, lambda words: typer.echo(words, err=True)) if writes else schema.look(uri)
    runs.connect()
