"""The whole chain on one page: what `main` and `retrain` join, in the order of the data.

raw -> bronze, silver, gold -> E0..E8 -> version -> gate -> @champion -> scores -> recommendations -> drift
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any

import pandas as pd

from spanishgas import rendering
from spanishgas.config.experiment import experiment_ids
from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST
from spanishgas.errors import DataError, SpanishGasError, TrackingError
from spanishgas.etl.source import BASE, extract_date
from spanishgas.evaluation.selection import Compared, sentence
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.lake import Lake, location
from spanishgas.lifecycle import history, promotion, recalibration, registry, runs
from spanishgas.lifecycle.data import etl, simulate
from spanishgas.lifecycle.evaluation import evaluate
from spanishgas.lifecycle.experiments import Progress, experiment_inputs, run_experiment, start_of
from spanishgas.lifecycle.ladder import ladder_inputs, run_ladder
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.version import Version
from spanishgas.monitoring import alerts, loop
from spanishgas.monitoring.drift import Drift, drift, yes
from spanishgas.rendering import as_markdown
from spanishgas.scoring.recommend import recommend
from spanishgas.scoring.score import score
from spanishgas.training.model import TIER

LATER = date(2025, 3, 31)
AT_RISK = ("Medium", "High", "Critical")
TRIALS, SEED = 8, 7
"""Trials and seed of a retrain that nobody gave others for."""


def main(customers: int, trials: int, *, lake: Lake, seed: int, progress: Progress) -> str:
    """The whole chain in one run with a child per stage, reusing what is unchanged; what came of it as Markdown."""
    params = {"customers": customers, "trials": trials, "lake": lake.root, "seed": seed}
    tags = {runs.LAKE: location(lake.root)}
    with runs.stage("main", f"main, {customers:,} customers", params=params, tags=tags) as run:
        draw_if_empty(customers, seed, lake=lake, progress=progress)
        for raw in lake.raw_extracts():
            etl(raw, lake=lake, as_of=extract_date(raw))
        rungs = {"trials": trials, "lake": lake, "seed": seed, "progress": progress}
        ladder = run_ladder(ladder_inputs(experiment_ids(), [XGBOOST], **rungs))
        version = evaluate(next(c.rung.run_id for c in ladder if c.chosen), lake=lake)
        promote_if_passed(version, "best of the ladder, gate passed")
        summary = "\n".join([*_trained(ladder, version), "", *_acted(lake)])
        run.text(summary, "summary.md")
        run.describe(summary)
    return summary


def draw_if_empty(customers: int, seed: int, *, lake: Lake, progress: Progress) -> None:
    """A labelled extract and a later one without labels, where the lake holds no raw extract yet."""
    if lake.raw_extracts():
        return
    for as_of, labelled in ((BASE, True), (LATER, False)):
        told = partial(progress, f"simulate {as_of}")
        drawn: dict[str, Any] = {"customers": customers, "seed": seed, "labelled": labelled}
        simulate(lake.raw(as_of), as_of=as_of, progress=told, **drawn)


def promote_if_passed(version: Version, reason: str) -> None:
    """Promote a version that passed its gate and was never rolled back, where the policy lets a machine do so."""
    policy = load_policy().promotion
    marked = history.read().rolled_back(version.number) is not None
    if version.verdict.passed and policy.automatic and not policy.approvers and not marked:
        promotion.promote(version.number, reason)


def _trained(ladder: list[Compared], version: Version) -> list[str]:
    rungs = [
        {
            "": "*" if c.chosen else "",
            "experiment": c.rung.experiment,
            "features": c.rung.features,
            "average precision": c.rung.score,
        }
        for c in ladder
    ]
    metrics = {name.removeprefix("holdout."): value for name, value in version.metrics.items()}
    return [
        "## Ladder",
        as_markdown(pd.DataFrame(rungs)),
        "",
        sentence(ladder),
        "",
        f"## Version {version.number}",
        f"Holdout average precision {metrics['average_precision']:.3f} "
        f"({metrics['average_precision.low']:.3f} to {metrics['average_precision.high']:.3f}), "
        f"recall {metrics['recall']:.2f} at precision {metrics['precision']:.2f}. Gate {version.verdict.words}.",
    ]


def _acted(lake: Lake) -> list[str]:
    """Score, recommend and watch with whatever `champion` points to, and say what came of it."""
    champion = registry.aliases().get(Alias.CHAMPION)
    if champion is None:
        return ["## Not promoted", "There is no champion, so nothing was scored."]
    scores = score(Alias.CHAMPION, lake=lake).pandas()
    offers = int((recommend(lake=lake).pandas(["action"])["action"] != NO_OFFER).sum())
    report = drift(None, lake=lake)
    tiers, unseen = scores[TIER].value_counts(), scores[~scores["in_training"]]
    counts = ", ".join(f"{tiers.get(tier, 0):,} {tier}" for tier in AT_RISK)
    return [
        f"## Customers, scored by champion version {champion}",
        f"{scores[TIER].isin(AT_RISK).sum():,} of {len(scores):,} at risk ({counts}); expected loss "
        f"{scores['expected_monthly_loss'].sum():,.0f} EUR of margin a month; an offer pays for {offers:,}. Of the "
        f"{len(unseen):,} whom the model did not train on, {unseen[TIER].isin(AT_RISK).sum():,} are at risk.",
        "",
        "## Drift",
        f"Alarm: {yes(report.alarm)}.",
        *map(rendering.markdown, report.reasons),
    ]


def watched(
    current: date | None,
    alias: str,
    *,
    lake: Lake,
    progress: Progress,
    say: Callable[[str], None],
    trials: int = TRIALS,
    seed: int = SEED,
    pages: bool = True,
) -> Drift:
    """The drift report, the alerts of its alarm, and the retrain that the policy asks for because of it."""

    def again(run_id: str) -> str:
        version = retrain(trials, lake=lake, seed=seed, progress=progress, triggered_by=run_id)
        champion = registry.aliases().get(Alias.CHAMPION) == version.number
        promoted = "promoted" if champion else "not promoted"
        return f"retrained: version {version.number}, gate {version.verdict.words}, {promoted}"

    report = drift(current, alias, lake=lake, pages=pages)
    alerts.send(report.run_id)
    alerts.put_metrics(
        {"DriftShare": report.share, "PredictionDrift": report.prediction, "DriftAlarm": report.alarm}
    )
    loop.close(report, lake, again, say)
    return report


def retrain(
    trials: int, *, lake: Lake, seed: int, progress: Progress, triggered_by: str = "a person or a schedule"
) -> Version:
    """Search the champion's experiment again on the newest labelled gold, from its parameters, and judge the winner.

    It is promoted if its gate passed and the policy lets a machine promote; else it stays the challenger, with its
    verdict, and the champion is untouched.
    """
    champion = registry.champion()
    record = champion.record if champion else None
    name, model = (record.chosen.experiment, record.chosen.model) if record else ("E5", XGBOOST)
    inputs = experiment_inputs(name, model, trials=trials, lake=lake, seed=seed, progress=progress)
    begin = inputs.space, inputs.protocol.holdout
    start = start_of(record.chosen, record.of_run, *begin) if record else None
    params, tags = {"trials": trials, "seed": seed}, {"retrain.triggered_by": triggered_by}
    with runs.stage("retrain", f"retrain {name} {model}", params=params, tags=tags):
        version = evaluate(run_experiment(inputs, start=start, reuse=True), lake=lake)
        promote_if_passed(version, "retrained, gate passed")
    return version


def recalibrate(*, lake: Lake) -> Version:
    """The champion with its calibration fitted to the newest labels; promoted as a retrained version is."""
    version = recalibration.recalibrate(lake=lake)
    promote_if_passed(version, "recalibrated, gate passed")
    return version


def reconcile(*, lake: Lake) -> str:
    """Settle the moves of `champion`, then start what it drives: scores, recommendations and the drift report.

    What is up to date is left as it is. A champion whose verdict has not passed, or whose bytes are not those that were
    judged, is refused by TrackingError or DataError, and the alert sinks are told.
    """
    try:
        version = promotion.scorable(Alias.CHAMPION)
    except (TrackingError, DataError) as fault:
        if champion := registry.aliases().get(Alias.CHAMPION):
            alerts.send_refusal(champion, str(fault))
        raise
    scores = score(Alias.CHAMPION, lake=lake)
    recommend(lake=lake)
    report = drift(None, lake=lake)
    alerts.send(report.run_id)
    return (
        f"champion: version {version.number}, {scores.manifest.rows:,} customers scored as of "
        f"{scores.manifest.as_of}, drift alarm: {yes(report.alarm)}"
    )


def watch(*, lake: Lake, every: float, say: Callable[[str], None]) -> None:
    """Reconcile every so many seconds until interrupted; says what it found whenever that has changed."""
    said = None
    while True:
        try:
            with runs.translated_errors():
                change = reconcile(lake=lake)
        except SpanishGasError as fault:
            change = f"not scored: {fault}"
        if change != said:
            say(change)
            said = change
        time.sleep(every)
