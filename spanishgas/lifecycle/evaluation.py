"""From the chosen experiment to a registered version with a verdict: the one place that opens the holdout.

chosen run -> candidate, fitted and calibrated out of fold -> holdout, opened once -> study: leakage, slices, importance
           -> gate, beside the champion -> model card -> version @challenger
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd

from spanishgas import provenance
from spanishgas.config.experiment import Experiment, load_experiment
from spanishgas.config.policy import Judgement, load_policy
from spanishgas.config.tiers import Tiers, read_tiers
from spanishgas.errors import LakeError, UsageError
from spanishgas.evaluation import card, charts, leakage, slices
from spanishgas.evaluation.metrics import fold_interval, with_intervals
from spanishgas.evaluation.study import Candidate, HoldoutResult, open_holdout, study
from spanishgas.lake import Lake, Snapshot
from spanishgas.lake.digests import json_digest
from spanishgas.lifecycle import gate, overview, registry, runs, seal
from spanishgas.lifecycle.experiments import HOLDOUT
from spanishgas.lifecycle.ladder import chosen_run
from spanishgas.lifecycle.leaving import hazard_of, judge_when
from spanishgas.lifecycle.records import CHOSEN, ExperimentRecord, JudgedVersion, Verdict, VersionRecord
from spanishgas.lifecycle.refit import fitted_as, log_choices
from spanishgas.lifecycle.registration import as_it_came_back, register, registered
from spanishgas.lifecycle.stage import Work, through
from spanishgas.lifecycle.version import PASSED, REFUSED, TrainingTable, Version
from spanishgas.stages import Stage, unkeyed
from spanishgas.training.model import ChurnModel

CANDIDATE_KEY = "candidate"
"""Tag of a version: the key of its candidate, whoever was champion when it was judged."""


@dataclass(frozen=True)
class CandidateInputs:
    """What a candidate, and all of its verdict but the comparison with the champion, depends on."""

    table: TrainingTable
    of_run: str
    chosen: ExperimentRecord
    experiment: Experiment
    policy: Judgement
    tiers: Tiers
    dirty: bool
    """Whether uncommitted code counts against it and runs here."""


@dataclass(frozen=True)
class EvaluateInputs:
    """What an evaluation depends on."""

    training: Snapshot
    candidate: CandidateInputs
    champion: Version | None
    silver: Snapshot | None = unkeyed("follows from gold, which names it; without it provinces are no slices")
    beside: Mapping[str, tuple[float, float, float]] = unkeyed(
        "stands on the card for the reader: a later run of E8 is no reason to open the holdout again"
    )


CANDIDATE = Stage[CandidateInputs]("candidate", (__name__,))
EVALUATE = Stage[EvaluateInputs]("evaluate", (__name__,))


def evaluate(run_id: str | None, *, lake: Lake) -> Version:
    """Register the experiment of `run_id` (the one that the selection rule picks if None) and judge it.

    - The same run, policy, champion and code give the version that is there already; the holdout is not opened again
      for it. The champion itself is not judged against itself.
    - A run that set other customers aside than the policy does now is refused: it may have chosen by those held out
      now.
    """
    return evaluated(evaluate_inputs(run_id or chosen_run(lake), lake))


def evaluated(inputs: EvaluateInputs) -> Version:
    """The version that comes of these inputs, judged; the one that is there already if there is one."""
    chosen = inputs.candidate.chosen
    version = through(
        EVALUATE,
        inputs,
        _evaluate,
        title=f"{'recalibrate' if chosen.recalibrated else 'evaluate'} {chosen.experiment} {chosen.model}",
        recall=lambda key: _recalled(key, inputs),
        params=_params(inputs.candidate),
    )
    overview.refresh()
    return version


def evaluate_inputs(run_id: str, lake: Lake) -> EvaluateInputs:
    """The evaluation of an experiment run as configuration, registry and lake have it now."""
    return inputs_of(runs.record(ExperimentRecord, run_id, CHOSEN), run_id, lake)


def inputs_of(chosen: ExperimentRecord, run_id: str, lake: Lake) -> EvaluateInputs:
    """The evaluation of what a record says was chosen by a run."""
    policy = load_policy()
    if chosen.holdout != policy.holdout:
        raise UsageError(
            f"run {run_id} set other customers aside ({str(chosen.holdout)!r}) than experiments/policy.yaml does now "
            f"({str(policy.holdout)!r}), and may have chosen by those held out now: run the experiment again"
        )
    table = TrainingTable.of(chosen, policy.holdout, lake)
    candidate = CandidateInputs(
        table=table,
        of_run=run_id,
        chosen=chosen,
        experiment=load_experiment(chosen.experiment),
        policy=policy.part(Judgement),
        tiers=read_tiers().rules(),
        dirty=policy.gate.clean_work_tree and provenance.dirty(),
    )
    judged = table.judged
    return EvaluateInputs(judged, candidate, registry.champion(), _silver(judged, lake), _beside(chosen))


def _silver(gold: Snapshot, lake: Lake) -> Snapshot | None:
    try:
        return lake.by_digest(gold.manifest.built_from.get("silver_customer", ""), "silver_customer")
    except LakeError:
        return None


def _beside(chosen: ExperimentRecord) -> dict[str, tuple[float, float, float]]:
    """Cross-validated average precision of the newest E5 and E8 on the same rows with the same model and seed."""
    figures: dict[str, tuple[float, float, float]] = {}
    same = {"seed": str(chosen.seed), HOLDOUT: str(chosen.holdout)}
    for name in card.BESIDE:
        tags = {"stage": "experiment", "gold": chosen.gold, "model": str(chosen.model), "experiment": name}
        for run in runs.find(tags, same)[:1]:
            value, low, high = (
                run.data.metrics[f"cv.average_precision{end}"] for end in ("", ".low", ".high")
            )
            figures[name] = (value, low, high)
    return figures


def _recalled(key: str, inputs: EvaluateInputs) -> Version | None:
    """The champion if it is this candidate, else the version that was judged beside the same champion."""
    candidate, champion = CANDIDATE.key(inputs.candidate), inputs.champion
    if champion and champion.tags.get(CANDIDATE_KEY) == candidate:
        return champion
    return registered(key)


def _params(inputs: CandidateInputs) -> dict[str, object]:
    chosen = inputs.chosen
    return {
        "experiment": chosen.experiment,
        "model": chosen.model,
        "of_run": inputs.of_run,
        "seed": chosen.seed,
    }


def _evaluate(run: Work, inputs: EvaluateInputs) -> Version:
    made, chosen, policy = inputs.candidate, inputs.candidate.chosen, inputs.candidate.policy
    table = inputs.training.pandas()
    fitted, training, learned = fitted_as(chosen, policy, made.table)
    fitted.model.hazard = hazard_of(training, fitted, learned, chosen.params, policy.holdout)
    log_choices(run, fitted, policy)
    info = registry.log_model(fitted.model, f"churn-{chosen.experiment}-{chosen.model}", _params(made))
    with as_it_came_back(ChurnModel, info.model_uri) as (model, folder):
        candidate = Candidate(model, training, chosen.params)
        evaluation = _opened(run, candidate, _with_province(table, inputs.silver), inputs)
        measured_on = runs.dataset(inputs.training)
        ranked = {**evaluation.metrics, **_in_folds(chosen)}
        mlflow.log_metrics(ranked, model_id=info.model_id, dataset=measured_on)
        faults = gate.contract_faults(table, made.tiers)
        beside = {"contract_faults": faults, "dirty": made.dirty}
        gathered = gate.gather(evaluation, candidate, folder, inputs.champion, **beside)
        record = VersionRecord(
            of_run=made.of_run,
            chosen=chosen,
            policy=policy,
            opening=evaluation.openings,
            manifest=_manifest(folder, candidate, evaluation.holdout, made),
        )
    verdict = gate.judge(gathered, policy)
    _leave(run, evaluation, verdict)
    judged = JudgedVersion(verdict=verdict, metrics=dict(evaluation.metrics), record=record)
    return _register(run, info.model_uri, evaluation, judged, inputs)


def _in_folds(chosen: ExperimentRecord) -> dict[str, float]:
    """Average precision as its experiment measured it: MLflow ranks versions beside rungs by it."""
    name, scores = "average_precision", chosen.fold_scores
    mean, interval = float(np.mean(scores)), fold_interval(scores, chosen.repeats)
    return with_intervals("cv", {name: mean}, {name: interval})


def _opened(run: Work, candidate: Candidate, rows: pd.DataFrame, inputs: EvaluateInputs) -> card.Evaluation:
    """What comes of opening the holdout, which is counted first."""
    made, chosen, policy = inputs.candidate, inputs.candidate.chosen, inputs.candidate.policy
    openings = registry.count_opening()
    run.log(tags={"holdout_opening": openings})
    holdout = open_holdout(candidate.model, rows, policy.holdout, policy.offers)
    subject = card.Subject(
        made.experiment,
        str(chosen.model),
        list(chosen.kinds),
        candidate.model.threshold,
        float(np.mean(chosen.fold_scores)),
        chosen.as_of,
        chosen.gold,
    )
    asked = study(candidate, holdout, chosen.as_of, policy.waivers, made.tiers)
    metrics = holdout.metrics(chosen.seed) | judge_when(run, candidate.model, rows, policy, chosen.seed)
    for day in made.table.earlier[-1:]:
        on_that_day = open_holdout(candidate.model, day.pandas(), policy.holdout, policy.offers)
        of_it = on_that_day.metrics(chosen.seed)
        metrics |= {f"same_day.{name.removeprefix('holdout.')}": value for name, value in of_it.items()}
    return card.Evaluation(subject, policy, holdout, openings, metrics, asked, inputs.beside)


def _manifest(
    folder: Path, candidate: Candidate, holdout: HoldoutResult, made: CandidateInputs
) -> seal.SealManifest:
    return seal.SealManifest(
        files=seal.files(folder),
        signature=json_digest(registry.signature(candidate.model).to_dict()),
        policy=json_digest(made.policy.model_dump(mode="json")),
        code=provenance.source_digest(),
        gold=made.chosen.gold,
        customers=json_digest(sorted(made.table.customers)),
        holdout=json_digest(sorted(holdout.rows["customer_id"])),
    )


def _leave(run: Work, evaluation: card.Evaluation, verdict: Verdict) -> None:
    """What the run keeps: the card, its tables and its pictures."""
    study, holdout, subject = evaluation.study, evaluation.holdout, evaluation.subject
    run.log(metrics={f"leakage.{f.name}": f.value for f in study.findings})
    run.tables(
        {
            "leakage.json": leakage.table(study.findings),
            "slices.json": slices.table(study.slices),
            "importance.json": study.importance.features,
        }
    )
    title = f"{subject.experiment.id} {subject.model}"
    curves = charts.curves_chart(
        holdout.y, holdout.probability, subject.threshold, f"{title}, holdout of {len(holdout.y):,} customers"
    )
    bars = charts.importance_chart(study.importance.features, f"{title}: what drives the predictions")
    run.figure(curves, "holdout.png")
    run.figure(bars, "importance.png")
    text = card.markdown(evaluation, verdict.words)
    run.text(text, "model_card.md")
    run.text(
        card.html(text, f"{title}: model card", [charts.as_png(curves), charts.as_png(bars)]),
        "model_card.html",
    )


def _with_province(table: pd.DataFrame, silver: Snapshot | None) -> pd.DataFrame:
    """The gold table with each customer's province, which is no feature, where the silver table is still there."""
    with suppress(LakeError):
        if silver is not None:
            provinces = silver.pandas(["customer_id", "province_code"])
            return table.merge(provinces, on="customer_id", how="left", validate="1:1")
    return table


def _register(
    run: Work, model_uri: str, evaluation: card.Evaluation, judged: JudgedVersion, inputs: EvaluateInputs
) -> Version:
    """The version, with what its page says of it."""
    gold, chosen, verdict = inputs.candidate.table.table, inputs.candidate.chosen, judged.verdict
    tags = {
        CANDIDATE_KEY: CANDIDATE.key(inputs.candidate),
        "experiment": chosen.experiment,
        "model": str(chosen.model),
        "data.uri": gold.uri,
        "data.digest": gold.manifest.digest,
        "data.as_of": gold.manifest.as_of.isoformat(),
        **{f"data.earlier.{n}": digest for n, digest in enumerate(chosen.earlier)},
        **({"data.recalibrated": chosen.recalibrated} if chosen.recalibrated else {}),
        "waivers": json.dumps([w.check for w in verdict.waivers]),
    }
    gate = PASSED if verdict.passed else REFUSED
    words = card.short(evaluation, gate, verdict.table(), f"runs:/{run.run_id}/model_card.html")
    return register(run, model_uri, judged, tags, words)
