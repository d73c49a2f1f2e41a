"""From the chosen experiment to a registered version with a verdict: the one place that opens the holdout.

chosen run -> fit, calibrate and choose the threshold out of fold -> holdout, once -> version @challenger -> gate
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from spanishgas import code
from spanishgas.evaluation import charts
from spanishgas.evaluation.metrics import bootstrap, decisions, ranking, with_intervals
from spanishgas.evaluation.value import realised_value
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import gate, registry, runs
from spanishgas.lifecycle.experiments import CHOSEN, SOURCES, chosen_run, markdown, training_side
from spanishgas.lifecycle.gate import Verdict
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.runs import StageRun
from spanishgas.lifecycle.standing import DIGEST, PASSED, REFUSED, VERDICT, WORDS, digest_of
from spanishgas.training.calibration import Fitted, fit_chosen
from spanishgas.training.experiment import ModelKind, Policy, as_data, load_experiment, load_policy
from spanishgas.training.matrix import in_holdout, labelled
from spanishgas.training.model import FLAG, PROBABILITY, ChurnModel
from spanishgas.training.threshold import sensitivity

SENSITIVITY = (
    "The threshold of greatest expected value under each assumption of policy.yaml halved, as it stands and doubled, "
    "with what it would have brought out of fold. The assumptions are not measured."
)


@dataclass(frozen=True)
class Evaluated:
    """A registered version, its verdict, and its holdout metrics."""

    version: ModelVersion
    verdict: Verdict
    metrics: Mapping[str, float]


def evaluate(run_id: str | None, *, lake: Lake) -> Evaluated:
    """Register the experiment of `run_id` (the one that the selection rule picks if None) and judge it.

    The same run, policy and code give the version that is there already; the holdout is not opened again for it.
    """
    run_id = run_id or chosen_run(lake)
    chosen, policy = runs.artifact(run_id, CHOSEN), load_policy()
    gold = lake.at(chosen["gold"], "gold_master")
    fingerprint = code.fingerprint("evaluate", chosen, as_data(policy), code.digest(*SOURCES, "lifecycle"))
    if known := registry.find({"fingerprint": fingerprint}):
        found = runs.artifact(known.run_id or "", "verdict.json")
        return Evaluated(known, Verdict.model_validate(found["verdict"]), found["metrics"])
    title = f"{chosen['experiment']} {chosen['model']}"
    params = {
        "experiment": chosen["experiment"],
        "model": chosen["model"],
        "of_run": run_id,
        "seed": chosen["seed"],
    }
    with runs.stage("evaluate", f"evaluate {title}", params=params, tags={"fingerprint": fingerprint}) as run:
        run.read(gold, "training")
        model = _fit(run, gold, chosen, policy)
        info = registry.log_model(model, f"churn-{chosen['experiment']}-{chosen['model']}", params)
        metrics = _open_holdout(run, gold, model, policy, chosen["seed"])
        mlflow.log_metrics(metrics, model_id=info.model_id, dataset=runs.dataset(gold))
        verdict = gate.judge(metrics, policy)
        run.document({"verdict": verdict.model_dump(mode="json"), "metrics": metrics}, "verdict.json")
        version = _register(run, info.model_uri, chosen, gold, verdict, metrics, fingerprint)
    return Evaluated(version, verdict, metrics)


def _fit(run: StageRun, gold: Snapshot, chosen: Mapping[str, Any], policy: Policy) -> ChurnModel:
    experiment, kind = load_experiment(chosen["experiment"]), ModelKind.of(chosen["model"])
    training = training_side(gold.pandas(), experiment, kind, policy, chosen["seed"])
    fitted = fit_chosen(training, chosen["params"], policy)
    _log_choices(run, fitted, training.y, policy)
    return fitted.model


def _log_choices(run: StageRun, fitted: Fitted, y: np.ndarray[Any, Any], policy: Policy) -> None:
    """How curve and threshold were chosen, all of it out of fold."""
    found, threshold = fitted.chosen_on, fitted.model.threshold
    out_of_fold = decisions(y, (found.probability >= threshold).astype("int64"))
    run.log(
        params={"threshold": threshold, "threshold.rule": policy.threshold.rule, "calibration": found.curve},
        metrics={f"cv.{name}": value for name, value in out_of_fold.items()}
        | {f"cv.brier.{curve}": score for curve, score in found.brier.items()},
    )
    table = sensitivity(found.probability, y, policy.threshold.retention)
    run.text(f"{SENSITIVITY}\n\n{markdown(table)}\n", "threshold_sensitivity.md")


def _open_holdout(
    run: StageRun, gold: Snapshot, model: ChurnModel, policy: Policy, seed: int
) -> dict[str, float]:
    """Metrics with intervals on customers that nothing so far has seen; the opening is counted first."""
    rows = labelled(gold.pandas())
    rows = rows[in_holdout(rows["customer_id"], policy.holdout)].reset_index(drop=True)
    run.log(tags={"holdout_opening": registry.count_opening()})
    y = rows["churn"].to_numpy(dtype="int64")
    scored = model.predict(rows)
    probability, flag = scored[PROBABILITY].to_numpy(), scored[FLAG].to_numpy()
    value = realised_value(probability, flag, y, rows["avg_monthly_margin"].to_numpy(), policy.offers)

    def measure(at: np.ndarray[Any, np.dtype[np.intp]]) -> dict[str, float]:
        return (
            ranking(y[at], probability[at])
            | decisions(y[at], flag[at])
            | {"value_eur": float(value[at].sum())}
        )

    everyone = np.arange(len(y))
    run.figure(
        charts.curves_chart(y, probability, model.threshold, f"Holdout, {len(y):,} customers"), "holdout.png"
    )
    return with_intervals("holdout", measure(everyone), bootstrap(measure, y, seed)) | {
        "holdout.rows": float(len(y))
    }


def _register(
    run: StageRun,
    model_uri: str,
    chosen: Mapping[str, Any],
    gold: Snapshot,
    verdict: Verdict,
    metrics: Mapping[str, float],
    fingerprint: str,
) -> ModelVersion:
    manifest = gold.manifest
    tags = {
        "fingerprint": fingerprint,
        "experiment": chosen["experiment"],
        "model": chosen["model"],
        "data.uri": gold.uri,
        "data.digest": manifest.digest,
        "data.as_of": manifest.as_of.isoformat(),
        VERDICT: PASSED if verdict.passed else REFUSED,
        WORDS: verdict.words,
        DIGEST: digest_of(verdict.model_dump(mode="json")),
        "waivers": json.dumps([w.check for w in verdict.waivers]),
    }
    words = card(chosen, verdict, metrics)
    version = registry.register(model_uri, tags, words)
    registry.point(Alias.CHALLENGER, str(version.version))
    run.log(tags={"version": version.version, VERDICT: tags[VERDICT]})
    run.describe(words)
    return version


def card(chosen: Mapping[str, Any], verdict: Verdict, metrics: Mapping[str, float]) -> str:
    """The version's description: what it is, what it reached, and the gate's verdict as a table."""
    lines = [
        f"**{chosen['experiment']} {chosen['model']}** on {len(chosen['features'])} features, trained as of "
        f"{chosen['as_of']}. Gate: **{PASSED if verdict.passed else REFUSED}**.",
        "",
        "| holdout metric | value | 95 % interval |",
        "|---|---|---|",
    ]
    for name in ("average_precision", "roc_auc", "brier", "ece", "precision", "recall", "value_eur"):
        key = f"holdout.{name}"
        lines.append(
            f"| {name} | {metrics[key]:.4f} | {metrics[f'{key}.low']:.4f} to {metrics[f'{key}.high']:.4f} |"
        )
    return "\n".join([*lines, "", verdict.table()])


def training_table(version: ModelVersion, lake: Lake) -> pd.DataFrame:
    """The gold table that a version was trained and evaluated on, by its recorded digest."""
    return lake.at(version.tags["data.digest"], "gold_master").pandas()
