"""Drift: the newest scored gold against the champion's own training table.

    training table, by its recorded digest --+-- baseline variation (baseline.py, own_months.py) --> alarm (alarm.py)
    gold that was scored last ---------------+-- attributions of the champion ------> the first page (reports.py)
    gold of the months before ---------------+-- Evidently (reports.py) ------------> the full reports behind it

The reference is never a batch scored, so it changes when and only when the alias does. Predictions are compared on the
holdout side alone: on its training rows the model is too sure of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from spanishgas import rendering
from spanishgas.config.policy import AlarmLimits, load_policy
from spanishgas.evaluation.importance import contributions
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.stage import Work, recorded, through
from spanishgas.lifecycle.version import TrainingTable, Version
from spanishgas.lifetime import temporary_folder
from spanishgas.monitoring import baseline, reports
from spanishgas.monitoring.alarm import judge
from spanishgas.monitoring.baseline import Baseline
from spanishgas.monitoring.own_months import OwnMonths, described, monthly
from spanishgas.monitoring.parts import shares
from spanishgas.stages import Stage
from spanishgas.training.model import PROBABILITY
from spanishgas.training.sides import labelled

if TYPE_CHECKING:
    from evidently.core.report import Snapshot as Evaluated

ID = "customer_id"
EXPLAINED = 2_000
"""Customers whose attributions weigh the inputs."""
PAGE = "drift.html"
BY_PREDICTION = {PROBABILITY: "numeric"}
FULL = {
    "the model's inputs": "drift-inputs.html",
    "the predictions": "drift-predictions.html",
    "data quality": "drift-quality.html",
}


class Drift(BaseModel):
    """What a drift report found."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    as_of: date
    version: str
    alarm: bool
    statistic: float
    """The largest standardised effect over the champion's features; the alarm rings above `threshold`."""
    threshold: float
    months: int
    """Own months that the alarm went by."""
    calibrated: bool
    """Whether they suffice for the false-alarm rate to be promised."""
    reasons: list[str]
    """Sentences, the weightiest first."""
    share: float
    """Share of the model's inputs whose effect size, as Evidently measures it, reaches the policy's."""
    drifted: dict[str, float]
    prediction: float
    """Effect size of the predicted probability, in standard deviations."""


@dataclass(frozen=True)
class DriftInputs:
    """What a drift report depends on."""

    reference: Snapshot
    current: Snapshot
    months: tuple[Snapshot, ...]
    """Gold of earlier as-of dates, a month apart or more, oldest first."""
    scores: Snapshot
    version: Version
    training: TrainingTable
    """The reference as it was divided for the version."""
    limits: AlarmLimits
    baseline: Baseline
    pages: bool = True
    """Whether Evidently's pages are made."""


DRIFT = Stage[DriftInputs]("drift", (__name__,))


def drift(current: date | None, alias: str = Alias.CHAMPION, *, lake: Lake, pages: bool = True) -> Drift:
    """Report the drift of `current` (an as-of date; the newest scored one if None) and log it.

    The same tables, champion, limits, baseline variation and code give the report that is there already.
    """
    inputs = replace(drift_inputs(current, alias, lake), pages=pages)
    return through(
        DRIFT,
        inputs,
        _report,
        title=f"drift as of {inputs.current.manifest.as_of} against {inputs.reference.manifest.as_of}",
        recall=lambda key: recorded(DRIFT, key, Drift, "drift.json"),
        params={"version": inputs.version.number},
    )


def drift_inputs(current: date | None, alias: str, lake: Lake) -> DriftInputs:
    """The report as lake, registry and configuration have it now."""
    version = registry.resolve(alias).checked()
    scores = lake.current("scores", current)
    training, limits = version.training_table(lake), load_policy().drift
    scored = lake.by_digest(scores.manifest.built_from["gold_master"], "gold_master")
    return DriftInputs(
        reference=training.table,
        current=scored,
        months=monthly(lake, scored.manifest.as_of),
        scores=scores,
        version=version,
        training=training,
        limits=limits.part(AlarmLimits),
        baseline=baseline.read(limits.baseline or baseline.SHIPPED),
    )


def own_months(alias: str = Alias.CHAMPION, *, lake: Lake) -> tuple[OwnMonths, pd.DataFrame]:
    """What the months before the newest scored table tell the alarm, and that as a table for people."""
    inputs = drift_inputs(None, alias, lake)
    before, _, own = _learned(inputs)
    return own, described(own, inputs.baseline, len(before))


def _learned(inputs: DriftInputs) -> tuple[pd.DataFrame, dict[str, str], OwnMonths]:
    """The reference as the model takes it, the kinds of its inputs, and the own months in the reference's parts."""
    model = inputs.version.model
    kinds = {f: model.kinds[f] for f in model.features}
    before = model.prepared(labelled(inputs.reference.pandas()).set_index(ID))
    return before, kinds, OwnMonths.of(inputs.months, before, kinds, model.prepared)


def _report(run: Work, inputs: DriftInputs) -> Drift:
    model, limits = inputs.version.model, inputs.limits
    now = inputs.current.pandas().set_index(ID)
    (before, kinds, own), after = _learned(inputs), model.prepared(now)
    customers = (len(before), len(after))
    dates = (inputs.reference.manifest.as_of, inputs.current.manifest.as_of)
    divided = shares(before, after, kinds)
    judged = judge(divided, customers, dates, inputs.baseline, limits, own)
    weighed = reports.weighed(
        judged.effects, contributions(model, reports.sampled(now, EXPLAINED)).abs().mean()
    )
    predicted = _predictions(inputs)
    sizes = reports.sizes(before, after, kinds)
    prediction = reports.sizes(*predicted, BY_PREDICTION)[PROBABILITY]
    drifted = {c: s for c, s in sorted(sizes.items(), key=lambda item: -item[1]) if s >= limits.min_effect}
    report = Drift(
        run_id=run.run_id,
        as_of=dates[1],
        version=inputs.version.number,
        alarm=judged.alarm,
        statistic=judged.statistic,
        threshold=judged.threshold,
        months=own.seen,
        calibrated=judged.calibrated,
        reasons=[*judged.reasons, moved_by(prediction)],
        share=len(drifted) / len(sizes),
        drifted=drifted,
        prediction=prediction,
    )
    shown = {
        "version": report.version,
        "dates": dates,
        "customers": customers,
        "source": inputs.baseline.source,
        "rate": limits.false_alarm_rate,
        "prediction": moved_by(prediction),
        "files": FULL if inputs.pages else {},
        "rows": f"{reports.MOST_ROWS:,} customers of each" if max(customers) > reports.MOST_ROWS else "",
    }
    run.text(reports.html(judged, weighed, reports.quality(divided, before, after, kinds), shown), PAGE)
    _log(run, report, weighed, {"drift.rows": len(now), **_named("drift.feature", sizes)})
    if inputs.pages:
        least = limits.min_effect
        _attach(
            run,
            {
                "inputs": reports.compare(before, after, kinds, least),
                "predictions": reports.compare(*predicted, BY_PREDICTION, least),
                "quality": reports.summarise(before, after, kinds),
            },
        )
    return report


def _predictions(inputs: DriftInputs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the champion says of customers that it did not learn from, beside what it said of those scored last."""
    unseen = inputs.version.model.predict(inputs.training.held_out().set_index(ID))
    return unseen, inputs.scores.pandas([ID, PROBABILITY]).set_index(ID)


def moved_by(prediction: float) -> str:
    """The drift of the predictions in a sentence."""
    return (
        f"The predicted probability moved by {prediction:.2f} standard deviations, what time alone does included: no "
        "part of the alarm."
    )


def _named(prefix: str, values: Mapping[Any, float]) -> dict[str, float]:
    return {f"{prefix}.{name}": value for name, value in values.items()}


def _log(run: runs.StageRun, report: Drift, weighed: pd.DataFrame, measured: Mapping[str, float]) -> None:
    metrics = {
        **measured,
        **_named("drift.standardised", weighed["effect"].to_dict()),
        **_named(
            "drift",
            {name: getattr(report, name) for name in ("alarm", "statistic", "threshold", "months", "share")},
        ),
        "drift.columns": len(report.drifted),
        "drift.weighted": float(weighed["matters"].sum()),
        "prediction_drift": report.prediction,
    }
    tags = {"as_of": report.as_of, "version": report.version}
    tags |= {name: yes(getattr(report, name)) for name in ("alarm", "calibrated")}
    run.log(metrics=metrics, params={"features": len(weighed)}, tags=tags)
    run.tables({"drift-features.json": weighed.reset_index()})
    run.document(report.model_dump(mode="json"), "drift.json")
    reasons = [f"- {rendering.markdown(reason)}" for reason in report.reasons]
    run.describe("\n".join([f"**Alarm: {yes(report.alarm)}**", "", *reasons]))


def _attach(run: runs.StageRun, evaluated: Mapping[str, Evaluated]) -> None:
    with temporary_folder() as folder:
        for name, report in evaluated.items():
            full = folder / f"drift-{name}.html"
            report.save_html(str(full))
            run.file(full)
            run.text(report.json(), f"drift-{name}.json")


def yes(answer: bool) -> str:
    """As the tag and the command line say it."""
    return "yes" if answer else "no"
