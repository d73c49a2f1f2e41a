"""The windows that were watched: a version, an as-of date, what its newest drift report found and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date

import pandas as pd
from mlflow.entities import Run

from spanishgas.lifecycle import runs
from spanishgas.rendering import as_markdown as table

NOTHING = "No drift report yet: run `spanishgas score`, then `spanishgas drift`."
SHOWN = {
    "as of": ("as_of", ""),
    "version": ("version", ""),
    "customers": ("rows", ",.0f"),
    "inputs moved": ("share", ".0%"),
    "statistic": ("statistic", ".2f"),
    "threshold": ("threshold", ".2f"),
    "alarm": ("alarm", ""),
    "predictions moved": ("prediction", ".2f"),
    "estimated AP": ("estimated", ".3f"),
    "measured AP": ("measured", ".3f"),
    "concept drift": ("concept", ""),
    "retrain": ("retrain", ""),
}
"""Field and format of each column of the table."""
MEASURED = {
    "rows": "drift.rows",
    "share": "drift.share",
    "statistic": "drift.statistic",
    "threshold": "drift.threshold",
    "prediction": "prediction_drift",
    "estimated": "estimated.average_precision",
    "measured": "outcomes.average_precision",
}
"""Metric of each field of a window that is one."""
RETRAIN = "retrain"
"""Tag of a drift run: what the loop did about it."""


@dataclass(frozen=True)
class Window:
    """One row of the history; what was not measured is None."""

    as_of: date
    version: str
    run_id: str
    alarm: bool
    rows: float | None
    share: float | None
    statistic: float | None
    threshold: float | None
    prediction: float | None
    estimated: float | None
    """Average precision, before labels arrived."""
    measured: float | None
    """Average precision, by labels."""
    retrain: str
    """What the loop did, in a word or two; empty where nothing was due."""
    process: str = ""
    """Which process retrains or retrained."""
    concept: bool | None = None
    """Whether labels showed concept drift; None before they came, or where it could not be tested."""


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
        **{field: metrics.get(name) for field, name in MEASURED.items()},
    )


def as_json(windows: Sequence[Window]) -> str:
    """The windows as JSON, oldest first."""
    return json.dumps([asdict(w) for w in windows], indent=1, default=str)


def as_markdown(windows: Sequence[Window]) -> str:
    """The windows as a table, oldest first; what to run where there are none."""
    if not windows:
        return NOTHING
    shown = [{title: _cell(getattr(w, name), form) for title, (name, form) in SHOWN.items()} for w in windows]
    return table(pd.DataFrame(shown))


def _cell(value: object, form: str) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    return format(value, form)
