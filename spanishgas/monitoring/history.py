"""The windows that were watched: a version, an as-of date, what its newest drift report found and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Annotated, NamedTuple, get_origin, get_type_hints

import pandas as pd
from mlflow.entities import Run

from spanishgas.lifecycle import runs
from spanishgas.rendering import as_markdown as table

NOTHING = "No drift report yet: run `spanishgas score`, then `spanishgas drift`."
RETRAIN = "retrain"
"""Tag of a drift run: what the loop did about it."""


class Column(NamedTuple):
    """What the table shows of a field: under which title, in which format, and which metric of MLflow it is, if one."""

    title: str
    form: str = ""
    metric: str = ""


@dataclass(frozen=True)
class Window:
    """One row of the history; what was not measured is None."""

    as_of: Annotated[date, Column("as of")]
    version: Annotated[str, Column("version")]
    rows: Annotated[float | None, Column("customers", ",.0f", "drift.rows")]
    share: Annotated[float | None, Column("inputs moved", ".0%", "drift.share")]
    statistic: Annotated[float | None, Column("statistic", ".2f", "drift.statistic")]
    threshold: Annotated[float | None, Column("threshold", ".2f", "drift.threshold")]
    months: Annotated[float | None, Column("own months", ".0f", "drift.months")]
    """Own months that the alarm went by."""
    alarm: Annotated[bool, Column("alarm")]
    prediction: Annotated[float | None, Column("predictions moved", ".2f", "prediction_drift")]
    estimated: Annotated[float | None, Column("estimated AP", ".3f", "estimated.average_precision")]
    """Average precision, before labels arrived."""
    measured: Annotated[float | None, Column("measured AP", ".3f", "outcomes.average_precision")]
    """Average precision, by labels."""
    concept: Annotated[bool | None, Column("concept drift")]
    """Whether labels showed concept drift; None before they came, or where it could not be tested."""
    retrain: Annotated[str, Column("retrain")]
    """What the loop did, in a word or two; empty where nothing was due."""
    process: str
    """Which process retrains or retrained."""
    run_id: str


COLUMNS: dict[str, Column] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Window, include_extras=True).items()
    if get_origin(hint) is Annotated
}


def windows() -> list[Window]:
    """All windows, oldest first; of several reports of one the newest counts."""
    tags, metrics = dict[tuple[str, str], dict[str, str]](), dict[tuple[str, str], dict[str, float]]()
    for run in reversed(runs.find({"stage": "drift"})):
        if "alarm" in run.data.tags:
            key = _about(run)
            # A report made again does not undo what an earlier one of its window set off.
            tags[key] = tags.pop(key, {}) | run.data.tags | {"run_id": run.info.run_id}
            metrics[key] = dict(run.data.metrics)
    for run in reversed(runs.find({"stage": "outcomes"})):
        metrics.setdefault(_about(run), {}).update(run.data.metrics)
    return sorted((_window(told, metrics[key]) for key, told in tags.items()), key=lambda w: w.as_of)


def _about(run: Run) -> tuple[str, str]:
    return run.data.tags.get("as_of", ""), run.data.tags.get("version", "")


def _window(tags: Mapping[str, str], metrics: Mapping[str, float]) -> Window:
    drifted = metrics.get("concept.drift")
    return Window(
        as_of=date.fromisoformat(tags["as_of"]),
        version=tags["version"],
        run_id=tags["run_id"],
        alarm=tags["alarm"] == "yes",
        retrain=tags.get(RETRAIN, ""),
        process=tags.get(f"{RETRAIN}.process", ""),
        concept=None if drifted is None else bool(drifted),
        **{name: metrics.get(column.metric) for name, column in COLUMNS.items() if column.metric},
    )


def as_json(windows: Sequence[Window]) -> str:
    """The windows as JSON, oldest first."""
    return json.dumps([asdict(w) for w in windows], indent=1, default=str)


def as_markdown(windows: Sequence[Window]) -> str:
    """The windows as a table, oldest first; what to run where there are none."""
    if not windows:
        return NOTHING
    cells = [[_cell(getattr(w, name), column.form) for name, column in COLUMNS.items()] for w in windows]
    return table(pd.DataFrame(cells, columns=[column.title for column in COLUMNS.values()]))


def _cell(value: object, form: str) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return format(value, form)
