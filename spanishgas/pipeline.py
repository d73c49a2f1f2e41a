"""The whole chain on one page: what `main` and `retrain` join, in the order of the data.

raw -> bronze, silver, gold -> E0..E8 -> version -> gate -> @champion -> scores -> recommendations -> drift
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import pandas as pd

from spanishgas import rendering
from spanishgas.config.experiment import experiment_ids
from spanishgas.config.policy import load_policy
from spanishgas.config.search import ModelKind
from spanishgas.errors import DataError, SpanishGasError, TrackingError
from spanishgas.etl.source import BASE, extract_date
from spanishgas.evaluation.selection import Compared, sentence
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.lake import Lake
from spanishgas.lifecycle import history, promotion, registry, runs
from spanishgas.lifecycle.data import etl, simulate
from spanishgas.lifecycle.evaluation import Evaluated, evaluate
from spanishgas.lifecycle.experiments import (
    ExperimentInputs,
    Start,
    experiment_inputs,
    run_experiment,
    start_from,
)
from spanishgas.lifecycle.ladder import ladder_inputs, run_ladder
from spanishgas.lifecycle.reconcile import scorable
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.version import Version
from spanishgas.monitoring import alerts, loop
from spanishgas.monitoring.drift import Drift, drift, yes
from spanishgas.rendering import as_markdown
from spanishgas.scoring.recommend import recommend
from spanishgas.scoring.score import score
from spanishgas.training.model import TIER

LATER = date(2025, 3, 31)
TRIALS, SEED = 8, 7
"""Trials and seed of a retrain that nobody gave others for."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Found:
    """What a run of the whole chain found; scores and drift are None where there is no champion to score with."""

    ladder: list[Compared]
    evaluated: Evaluated
    champion: str | None
    tiers: dict[str, int] | None
    unseen: dict[str, int]
    """Tiers of the scored customers whom the model did not train on: the others' scores are flattered."""
    offers: int
    expected_loss: float
    drift: Drift | None


def main(customers: int, trials: int, *, lake: Lake, seed: int, progress: Progress) -> Found:
    """The whole chain in one run with a child per stage; what is unchanged since the last time is reused."""
    params = {"customers": customers, "trials": trials, "lake": lake.root, "seed": seed}
    with runs.stage("main", f"main, {customers:,} customers", params=params) as run:
        draw_if_empty(customers, seed, lake=lake, progress=progress)
        for raw in lake.raw_extracts():
            etl(raw, lake=lake, as_of=extract_date(raw))
        rungs = {"trials": trials, "lake": lake, "seed": seed, "progress": progress}
        ladder = run_ladder(ladder_inputs(experiment_ids(), [ModelKind.XGBOOST], reuse=True, **rungs))
        winner = next(c.rung for c in ladder if c.chosen)
        evaluated = evaluate(winner.run_id, lake=lake)
        promote_if_passed(evaluated, "best of the ladder, gate passed")
        result = act(ladder, evaluated, lake=lake)
        run.text(summary(result), "summary.md")
        run.describe(summary(result))
    return result


def draw_if_empty(customers: int, seed: int, *, lake: Lake, progress: Progress) -> None:
    """A labelled extract and a later one without labels, where the lake holds no raw extract yet."""
    if lake.raw_extracts():
        return
    for as_of, labelled in ((BASE, True), (LATER, False)):
        simulate(
            lake.raw(as_of),
            customers=customers,
            seed=seed,
            as_of=as_of,
            labelled=labelled,
            progress=lambda done, total, day=as_of: progress(f"simulate {day}", done, total),  # type: ignore[misc]
        )


def promote_if_passed(evaluated: Evaluated, reason: str) -> None:
    """Promote a version that passed its gate and was never rolled back, where the policy lets a machine do so."""
    policy = load_policy().promotion
    marked = history.read().rolled_back(evaluated.version.number) is not None
    if evaluated.verdict.passed and policy.automatic and not policy.approvers and not marked:
        promotion.promote(evaluated.version.number, reason)


def act(ladder: list[Compared], evaluated: Evaluated, *, lake: Lake) -> Found:
    """Score, recommend and watch with whatever `champion` points to."""
    champion = registry.aliases().get(Alias.CHAMPION)
    if champion is None:
        return Found(ladder, evaluated, None, None, {}, 0, 0.0, None)
    scores = score(Alias.CHAMPION, lake=lake).pandas()
    actions = recommend(lake=lake).pandas(["action"])["action"]
    return Found(
        ladder,
        evaluated,
        champion,
        _counts(scores[TIER]),
        _counts(scores[TIER][~scores["in_training"]]),
        int((actions != NO_OFFER).sum()),
        float(scores["expected_monthly_loss"].sum()),
        drift(None, lake=lake),
    )


def _counts(tiers: pd.Series) -> dict[str, int]:
    return {str(k): int(v) for k, v in tiers.value_counts().items()}


def watched(
    current: date | None, alias: str, *, lake: Lake, progress: Progress, say: Callable[[str], None]
) -> Drift:
    """The drift report, the alerts of its alarm, and the retrain that the policy asks for because of it."""

    def again(run_id: str) -> str:
        done = retrain(TRIALS, lake=lake, seed=SEED, progress=progress, triggered_by=run_id)
        champion = registry.aliases().get(Alias.CHAMPION) == done.version.number
        promoted = "promoted" if champion else "not promoted"
        return f"retrained: version {done.version.number}, gate {done.verdict.words}, {promoted}"

    report = drift(current, alias, lake=lake)
    alerts.send(report.run_id)
    alerts.put_metrics(
        {"DriftShare": report.share, "PredictionDrift": report.prediction, "DriftAlarm": report.alarm}
    )
    loop.close(report, lake, again, say)
    return report


def retrain(
    trials: int, *, lake: Lake, seed: int, progress: Progress, triggered_by: str = "a person or a schedule"
) -> Evaluated:
    """Search the champion's experiment again on the newest labelled gold, from its parameters, and judge the winner.

    It is promoted if its gate passed and the policy lets a machine promote; else it stays the challenger, with its
    verdict, and the champion is untouched.
    """
    version = registry.champion()
    chosen = version.record.chosen if version else None
    name, model = (chosen.experiment, str(chosen.model)) if chosen else ("E5", str(ModelKind.XGBOOST))
    inputs = experiment_inputs(name, model, trials=trials, lake=lake, seed=seed, progress=progress)
    tagged = {"retrain.triggered_by": triggered_by}
    with runs.stage(
        "retrain", f"retrain {name} {model}", params={"trials": trials, "seed": seed}, tags=tagged
    ):
        run_id = run_experiment(inputs, start=_start(version, inputs), reuse=True)
        evaluated = evaluate(run_id, lake=lake)
        promote_if_passed(evaluated, "retrained, gate passed")
    return evaluated


def _start(version: Version | None, inputs: ExperimentInputs) -> Start | None:
    if version is None:
        return None
    return start_from(version.record.of_run, inputs.space, inputs.protocol.holdout)


def reconcile(*, lake: Lake) -> str:
    """Settle the moves of `champion`, then start what it drives: scores, recommendations and the drift report.

    What is up to date is left as it is. A champion whose verdict has not passed, or whose bytes are not those that were
    judged, is refused by TrackingError or DataError, and the alert sinks are told.
    """
    try:
        version = scorable(Alias.CHAMPION)
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


def summary(result: Found) -> str:
    """What was found, in words and a small table."""
    table = pd.DataFrame(
        [
            {
                "": "*" if c.chosen else "",
                "experiment": c.rung.experiment,
                "features": c.rung.features,
                "average precision": c.rung.score,
            }
            for c in result.ladder
        ]
    )
    metrics, version = result.evaluated.metrics, result.evaluated.version
    lines = [
        "## Ladder",
        as_markdown(table),
        "",
        sentence(result.ladder),
        "",
        f"## Version {version.number}",
        f"Holdout average precision {metrics['holdout.average_precision']:.3f} "
        f"({metrics['holdout.average_precision.low']:.3f} to {metrics['holdout.average_precision.high']:.3f}), "
        f"recall {metrics['holdout.recall']:.2f} at precision {metrics['holdout.precision']:.2f}. "
        f"Gate {result.evaluated.verdict.words}.",
        "",
    ]
    return "\n".join(lines + _acted(result))


def _acted(result: Found) -> list[str]:
    if result.champion is None or result.tiers is None or result.drift is None:
        return ["## Not promoted", "There is no champion, so nothing was scored."]
    tiers = ("Medium", "High", "Critical")
    at_risk = {tier: result.tiers.get(tier, 0) for tier in tiers}
    unseen = sum(result.unseen.get(tier, 0) for tier in tiers)
    counts = ", ".join(f"{count:,} {tier}" for tier, count in at_risk.items())
    return [
        f"## Customers, scored by champion version {result.champion}",
        f"{sum(at_risk.values()):,} of {sum(result.tiers.values()):,} at risk ({counts}); expected loss "
        f"{result.expected_loss:,.0f} EUR of margin a month; an offer pays for {result.offers:,}. Of the "
        f"{sum(result.unseen.values()):,} whom the model did not train on, {unseen:,} are at risk.",
        "",
        "## Drift",
        f"Alarm: {yes(result.drift.alarm)}.",
        *map(rendering.markdown, result.drift.reasons),
    ]
