"""Drift: the newest scored gold against the champion's own training table, by Evidently.

The reference is the table that the champion was trained on, found by its recorded digest, never the first batch
scored. Predictions are compared on the holdout side alone: on its training rows the model is too sure of itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from spanishgas import code
from spanishgas.errors import DataError, UsageError
from spanishgas.lake import Lake
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.registry import Alias
from spanishgas.training.experiment import DriftLimits, as_data, load_policy
from spanishgas.training.matrix import in_holdout, is_text, labelled
from spanishgas.training.model import PROBABILITY

if TYPE_CHECKING:
    from evidently.core.report import Snapshot as Evaluated


@dataclass(frozen=True)
class Drift:
    """What a drift report found."""

    run_id: str
    as_of: date
    version: str
    alarm: bool
    statistic: float
    """The largest standardised effect over the champion's features; the alarm rings above `threshold`."""
    threshold: float
    reasons: Sequence[str]
    """Sentences, the weightiest first."""
    share: float
    drifted: Mapping[str, float]
    prediction: float


def drift(current: str | None, alias: str = Alias.CHAMPION, *, lake: Lake) -> Drift:
    """Report the drift of `current` (an as-of date; the newest scored one if None) and log it.

    The same tables, champion and code give the report that is there already.
    """
    version = registry.resolve(alias)
    scores = lake.current("scores", _date(current))
    gold = lake.at(scores.manifest.built_from["gold_master"], "gold_master")
    reference = lake.at(version.tags["data.digest"], "gold_master")
    policy = load_policy()
    fingerprint = code.fingerprint(
        "drift",
        [gold.manifest.digest, scores.manifest.digest, reference.manifest.digest],
        version.version,
        as_data(policy.drift),
        code.digest("monitoring", "training"),
    )
    if known := runs.find({"stage": "drift", "fingerprint": fingerprint}):
        return _found(known[0].info.run_id)
    title = f"drift as of {gold.manifest.as_of} against {reference.manifest.as_of}"
    with runs.stage(
        "drift", title, params={"version": version.version}, tags={"fingerprint": fingerprint}
    ) as run:
        run.read(reference, "reference")
        run.read(gold, "current")
        model = registry.load(str(version.version)).model
        rows = labelled(reference.pandas())
        unseen = in_holdout(rows["customer_id"], policy.holdout)
        inputs = compare(rows, gold.pandas(), model.kinds, policy.drift.min_effect)
        before = model.predict(rows[unseen])[[PROBABILITY]]
        predictions = compare(
            before, scores.pandas([PROBABILITY]), {PROBABILITY: "numeric"}, policy.drift.min_effect
        )
        reports = {"inputs": inputs, "predictions": predictions}
        return _log(run, reports, policy.drift, gold.manifest.as_of, str(version.version))


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"current must be a date such as 2025-03-31, but got '{text}'") from None


def compare(
    reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str], min_effect: float
) -> Evaluated:
    """Evidently's drift report over the columns of `kinds`: effect sizes, not p-values, decide.

    Numbers: Wasserstein distance in standard deviations of the reference; categories: Jensen-Shannon distance.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    texts = [c for c, kind in kinds.items() if is_text(kind)]
    numbers = [c for c in kinds if c not in texts and reference[c].notna().any() and current[c].notna().any()]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)

    def typed(frame: pd.DataFrame) -> Dataset:
        columns = frame[numbers].astype("float64").join(frame[texts].astype(object).fillna("missing"))
        return Dataset.from_pandas(columns.reset_index(drop=True), data_definition=definition)

    preset = DataDriftPreset(
        num_method="wasserstein",
        num_threshold=min_effect,
        cat_method="jensenshannon",
        cat_threshold=min_effect,
    )
    return Report([preset]).run(current_data=typed(current), reference_data=typed(reference))


def effects(report: Evaluated) -> dict[str, float]:
    """Effect size per column, read from an Evidently report."""
    found = {}
    for metric in report.dict()["metrics"]:
        column = metric.get("config", {}).get("column")
        if column is not None:
            found[str(column)] = float(metric["value"])
    if not found:
        raise DataError(
            "the drift report names no column: its format changed, or no column could be compared"
        )
    return found


def _log(
    run: runs.StageRun, reports: Mapping[str, Evaluated], limits: DriftLimits, as_of: date, version: str
) -> Drift:
    sizes = effects(reports["inputs"])
    prediction = effects(reports["predictions"])[PROBABILITY]
    drifted = {c: s for c, s in sorted(sizes.items(), key=lambda item: -item[1]) if s >= limits.min_effect}
    share = len(drifted) / len(sizes)
    statistic = max(share / limits.column_share, prediction / limits.min_effect)
    alarm = statistic >= 1
    metrics = {f"drift.feature.{c}": s for c, s in sizes.items()}
    metrics |= {"drift.share": share, "drift.columns": len(drifted), "prediction_drift": prediction}
    metrics |= {"drift.alarm": alarm, "drift.statistic": statistic, "drift.threshold": 1}
    summary = {
        "as_of": as_of.isoformat(),
        "version": version,
        "alarm": alarm,
        "statistic": statistic,
        "threshold": 1.0,
        "share": share,
        "drifted": drifted,
        "prediction": prediction,
    }
    summary["reasons"] = [words(summary)]
    run.log(
        metrics=metrics,
        params={"features": len(sizes)},
        tags={"alarm": yes(alarm), "as_of": as_of, "version": version},
    )
    run.document(summary, "drift.json")
    with tempfile.TemporaryDirectory() as folder:
        for name, report in reports.items():
            page = Path(folder) / f"drift-{name}.html"
            report.save_html(str(page))
            run.file(page)
            run.text(report.json(), f"drift-{name}.json")
    run.describe(words(summary))
    return _drift(run.run_id, summary)


def yes(alarm: bool) -> str:
    """As the tag and the command line say it."""
    return "yes" if alarm else "no"


def words(found: Mapping[str, Any]) -> str:
    """A drift report in a sentence or two."""
    moved = ", ".join(f"{c} ({s:.2f})" for c, s in list(found["drifted"].items())[:5]) or "no column"
    return (
        f"{found['share']:.0%} of the model's inputs moved: {moved}. The predicted probability moved by "
        f"{found['prediction']:.2f} standard deviations."
    )


def _found(run_id: str) -> Drift:
    return _drift(run_id, runs.artifact(run_id, "drift.json"))


def _drift(run_id: str, summary: Mapping[str, Any]) -> Drift:
    return Drift(run_id, **{**summary, "as_of": date.fromisoformat(summary["as_of"])})
