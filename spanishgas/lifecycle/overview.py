"""All versions side by side: a table in the registered model's description, and a run with their picture.

    registry + holdout metrics of the versions' runs -> table -> run `versions` (picture, series) -> description

evaluate, promote, rollback and reconcile keep it current. It is there to be read: nothing is decided by it.
"""

from __future__ import annotations

import logging
import math

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas.lifecycle import history, registry, runs
from spanishgas.lifecycle.version import VERDICT
from spanishgas.rendering import as_markdown
from spanishgas.settings import registered_model
from spanishgas.stages import digest

log = logging.getLogger("spanishgas")
HEAD = "## Versions"
"""The heading under which the description is the project's; what stands above it is its reader's."""
LONGEST = 5000
"""Characters that MLflow's database keeps of a description."""
MEASURES = {
    "average_precision": "average precision",
    "ece": "calibration error",
    "value_eur": "value of the offers, EUR",
}
"""Holdout metrics that are shown, in words."""
DRAWN, TABLE, PICTURE = "versions", "versions.json", "versions.png"


def refresh() -> None:
    """Bring description and picture up to date, where a version was evaluated and something has changed since.

    The verb before it has done its work: a server that refuses this is warned of, and the next such verb tries again.
    """
    try:
        rows = side_by_side()
        if rows["average_precision"].notna().any():
            _describe(rows, _drawn(rows))
    except MlflowException as fault:
        log.warning(
            "the table of versions on the registered model's page is not up to date (%s): the next evaluate, promote, "
            "rollback or reconcile writes it",
            fault.message,
        )


def side_by_side() -> pd.DataFrame:
    """A row per version, oldest first: version, role (aliases), experiment, data (as of), gate, and the `MEASURES`.

    Beside a measure stand the ends of its 95 % interval, `.low` and `.high`; NaN where a run has none.
    """
    measured = {run.info.run_id: run.data.metrics for run in runs.find({"stage": "evaluate"}, finished=False)}
    record = history.read()
    rows = []
    for version in registry.versions():
        roles = [alias for alias, number in record.aliases.items() if number == version.number]
        back = ["rolled back"] if record.rolled_back(version.number) is not None else []
        tags, of_run = version.tags, measured.get(version.run_id, {})
        names = {"experiment": f"{tags.get('experiment', '')} {tags.get('model', '')}".strip()}
        names |= {"data": tags.get("data.as_of", ""), "gate": tags.get(VERDICT, "")}
        ends = [f"{name}{end}" for name in MEASURES for end in ("", ".low", ".high")]
        values = {end: of_run.get(f"holdout.{end}", math.nan) for end in ends}
        rows.append(
            {"version": version.number, "role": ", ".join([*sorted(roles), *back]), **names, **values}
        )
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["average_precision"])


def _drawn(rows: pd.DataFrame) -> str:
    """The run that holds these very rows as picture, table and series by version number, made if need be."""
    from spanishgas.evaluation.charts import versions_chart

    of, key = registered_model(), digest(rows.to_json(orient="split"))
    tags = {"registered_model": of, "versions": key}
    for run in runs.find({"stage": DRAWN, **tags}):
        return str(run.info.run_id)
    with runs.stage(DRAWN, f"all versions of {of}", tags=tags) as opened:
        numbers = rows["version"].astype("int64")
        series = {
            f"versions.{name}": dict(zip(numbers[there], rows[name][there], strict=True))
            for name in MEASURES
            if (there := rows[name].notna()).any()
        }
        opened.log(series=series)
        opened.tables({TABLE: rows})
        opened.figure(versions_chart(rows, MEASURES), PICTURE)
    return opened.run_id


def _describe(rows: pd.DataFrame, run_id: str) -> None:
    """Write the newest versions into the description, as many as fit, below what somebody may have written there."""
    client, name = MlflowClient(), registered_model()
    before = client.get_registered_model(name).description or ""
    place = client.get_run(run_id).info.experiment_id
    link = f"[Picture, and all versions](#/experiments/{place}/runs/{run_id}/artifacts/{PICTURE})"

    def text(shown: int) -> str:
        table = as_markdown(in_words(rows.tail(shown)[::-1]))
        parts = (before.partition(HEAD)[0].rstrip(), HEAD, table, f"{shown} of {len(rows)}. {link}")
        return "\n\n".join(filter(None, parts))

    fits = next((t for n in range(len(rows), -1, -1) if len(t := text(n)) <= LONGEST), before)
    if fits != before:
        client.update_registered_model(name, fits)


def in_words(rows: pd.DataFrame) -> pd.DataFrame:
    """The table as a page shows it: a measure and its interval in one column, under a name in words."""
    columns = rows[["version", "role", "experiment", "data", "gate"]].rename(columns={"data": "data as of"})
    for name, title in MEASURES.items():
        digits = 0 if name == "value_eur" else 3
        cells = zip(rows[name], rows[f"{name}.low"], rows[f"{name}.high"], strict=True)
        columns[title] = [_interval(digits, *cell) for cell in cells]
    return columns


def _interval(digits: int, value: float | None, low: float | None, high: float | None) -> str:
    if pd.isna(value):
        return ""
    words = f"{value:,.{digits}f}"
    return words if pd.isna(low) else f"{words} ({low:,.{digits}f} to {high:,.{digits}f})"
