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
    by_window: dict[tuple[str, str], Window] = {}
    seen = _outcomes()
    for run in reversed(runs.find({"stage": "drift"})):
        tags = run.data.tags
        if "alarm" in tags:
            key = (tags["as_of"], tags["version"])
            earlier = by_window.pop(key, None)
            by_window[key] = _window(run, seen.get(key, {}), earlier)
    return sorted(by_window.values(), key=lambda w: w.as_of)


def _window(run: Run, outcome: Mapping[str, float], earlier: Window | None) -> Window:
    tags, values = run.data.tags, run.data.metrics
    return Window(
        date.fromisoformat(tags["as_of"]),
        tags["version"],
        run.info.run_id,
        tags["alarm"] == "yes",
        values.get("drift.rows"),
        values.get("drift.share"),
        values.get("drift.statistic"),
        values.get("drift.threshold"),
        values.get("prediction_drift"),
        outcome.get("estimated.average_precision"),
        outcome.get("outcomes.average_precision"),
        # A report made again does not undo what an earlier one of its window set off.
        tags.get(RETRAIN) or (earlier.retrain if earlier else ""),
        tags.get(f"{RETRAIN}.process") or (earlier.process if earlier else ""),
        None if (drifted := outcome.get("concept.drift")) is None else bool(drifted),
    )


def _outcomes() -> dict[tuple[str, str], dict[str, float]]:
    """Metrics of the newest outcome runs by as-of date and version."""
    by_window: dict[tuple[str, str], dict[str, float]] = {}
    for run in reversed(runs.find({"stage": "outcomes"})):
        tags = run.data.tags
        by_window.setdefault((tags.get("as_of", ""), tags.get("version", "")), {}).update(run.data.metrics)
    return by_window


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
