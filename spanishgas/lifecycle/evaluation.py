"""From the chosen experiment to a registered version with a verdict: the one place that opens the holdout.

chosen run -> fit, calibrate and choose the threshold out of fold -> holdout, once: metrics, leakage, slices
           -> gate -> model card -> version @challenger
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from spanishgas import code, escaping
from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import Policy, load_policy
from spanishgas.config.reading import as_data
from spanishgas.config.search import ModelKind
from spanishgas.errors import LakeError, UsageError
from spanishgas.evaluation import card, charts, leakage, slices
from spanishgas.evaluation.importance import importance
from spanishgas.evaluation.metrics import Array, Labels, bootstrap, decisions, ranking, with_intervals
from spanishgas.evaluation.value import realised_value
from spanishgas.features import load_tiers
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import gate, registry, runs
from spanishgas.lifecycle.evidence import gather
from spanishgas.lifecycle.experiments import HOLDOUT, SOURCES, chosen_run, training_side
from spanishgas.lifecycle.gate import Verdict
from spanishgas.lifecycle.outcome import CHOSEN
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.runs import StageRun
from spanishgas.lifecycle.standing import DIGEST, PASSED, REFUSED, VERDICT, WORDS, digest_of
from spanishgas.training.calibration import Fitted, fit_chosen
from spanishgas.training.fitting import Training, refit
from spanishgas.training.matrix import in_holdout, labelled
from spanishgas.training.model import FLAG, PROBABILITY, ChurnModel
from spanishgas.training.threshold import sensitivity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SENSITIVITY = (
    "The threshold of greatest expected value under each assumption of policy.yaml halved, as it stands and doubled, "
    "with what it would have brought out of fold. The assumptions are not measured."
)
SHUFFLED_FOLDS = 2
"""Enough to see whether the procedure learns from shuffled labels."""


@dataclass(frozen=True)
class Evaluated:
    """A registered version, its verdict, and its holdout metrics."""

    version: ModelVersion
    verdict: Verdict
    metrics: Mapping[str, float]


def evaluate(run_id: str | None, *, lake: Lake) -> Evaluated:
    """Register the experiment of `run_id` (the one that the selection rule picks if None) and judge it.

    The same run, policy and code give the version that is there already; the holdout is not opened again for it. A run
    that set other customers aside than the policy does now is refused: it may have chosen by those held out now.
    """
    run_id = run_id or chosen_run(lake)
    chosen, policy = runs.artifact(run_id, CHOSEN), load_policy()
    if chosen["holdout"] != str(policy.holdout):
        raise UsageError(
            f"run {run_id} set other customers aside ({chosen['holdout']!r}) than experiments/policy.yaml does now "
            f"({str(policy.holdout)!r}), and may have chosen by those held out now: run the experiment again"
        )
    gold = lake.at(chosen["gold"], "gold_master")
    made_from = fingerprint(chosen, policy)
    if known := registry.find({"fingerprint": made_from}):
        named = registry.aliases().get(Alias.CHALLENGER, "0")
        if int(named) < int(known.version):  # killed between registering and naming it
            registry.point(Alias.CHALLENGER, str(known.version))
        left = runs.artifact(known.run_id or "", "verdict.json")
        return Evaluated(known, Verdict.model_validate(left["verdict"]), left["metrics"])
    title = f"{chosen['experiment']} {chosen['model']}"
    params = {
        "experiment": chosen["experiment"],
        "model": chosen["model"],
        "of_run": run_id,
        "seed": chosen["seed"],
    }
    with runs.stage("evaluate", f"evaluate {title}", params=params, tags={"fingerprint": made_from}) as run:
        run.read(gold, "training")
        experiment, kind = load_experiment(chosen["experiment"]), ModelKind.of(chosen["model"])
        table = gold.pandas()
        training = training_side(table, experiment, kind, policy, chosen["seed"])
        fitted = fit_chosen(training, chosen["params"], policy)
        model = fitted.model
        _log_choices(run, fitted, training.y, policy)
        info = registry.log_model(model, f"churn-{chosen['experiment']}-{chosen['model']}", params)
        opened = _open_holdout(run, _with_province(table, gold, lake), model, policy)
        metrics = opened.metrics(chosen["seed"])
        mlflow.log_metrics(metrics, model_id=info.model_id, dataset=runs.dataset(gold))
        found = _study(opened, metrics, gold, training, model, chosen, policy)
        verdict = gate.judge(
            gather(
                model,
                info.model_uri,
                table,
                opened.rows,
                metrics,
                found.findings,
                found.slices,
                policy,
                chosen["seed"],
            ),
            policy,
        )
        run.document({"verdict": verdict.model_dump(mode="json"), "metrics": metrics}, "verdict.json")
        _leave(run, found, opened, model, verdict)
        version = _register(run, info.model_uri, chosen, gold, verdict, found, made_from)
    return Evaluated(version, verdict, metrics)


def fingerprint(chosen: Mapping[str, Any], policy: Policy) -> str:
    """Digest of what makes a version: the chosen experiment, the policy and the code that fits and judges."""
    return code.fingerprint("evaluate", chosen, as_data(policy), code.digest(*SOURCES, "lifecycle"))


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
    run.text(f"{SENSITIVITY}\n\n{card.as_markdown(table)}\n", "threshold_sensitivity.md")


@dataclass(frozen=True)
class Opened:
    """The holdout once it is open: its rows, those that trained, and what the model says of each held-out customer."""

    trained: pd.DataFrame
    rows: pd.DataFrame
    y: Labels
    probability: Array
    flag: Labels
    value: Array
    """EUR per customer."""
    openings: int

    def metrics(self, seed: int) -> dict[str, float]:
        """`holdout.*` with 95 % intervals."""

        def measure(at: np.ndarray[Any, np.dtype[np.intp]]) -> dict[str, float]:
            y, probability = self.y[at], self.probability[at]
            figures = ranking(y, probability) | decisions(y, self.flag[at])
            return figures | {"value_eur": float(self.value[at].sum())}

        points = measure(np.arange(len(self.y)))
        return with_intervals("holdout", points, bootstrap(measure, self.y, seed)) | {
            "holdout.rows": float(len(self.y))
        }


def _open_holdout(run: StageRun, table: pd.DataFrame, model: ChurnModel, policy: Policy) -> Opened:
    """The customers that nothing so far has seen, scored; the opening is counted first."""
    rows = labelled(table)
    held = in_holdout(rows["customer_id"], policy.holdout)
    trained, rows = (rows[side].reset_index(drop=True) for side in (~held, held))
    openings = registry.count_opening()
    run.log(tags={"holdout_opening": openings})
    y = rows["churn"].to_numpy(dtype="int64")
    scored = model.predict(rows)
    probability, flag = scored[PROBABILITY].to_numpy(), scored[FLAG].to_numpy()
    value = realised_value(probability, flag, y, rows["avg_monthly_margin"].to_numpy(), policy.offers)
    return Opened(trained, rows, y, probability, flag, value, openings)


def _with_province(table: pd.DataFrame, gold: Snapshot, lake: Lake) -> pd.DataFrame:
    """The gold table with each customer's province, which is no feature, where the silver table is still there."""
    digest = gold.manifest.built_from.get("silver_customer")
    try:
        silver = lake.at(digest or "", "silver_customer").pandas(["customer_id", "province_code"])
    except LakeError:
        return table
    return table.merge(silver, on="customer_id", how="left", validate="1:1")


def _study(
    opened: Opened,
    metrics: Mapping[str, float],
    gold: Snapshot,
    training: Training,
    model: ChurnModel,
    chosen: Mapping[str, Any],
    policy: Policy,
) -> card.Evaluation:
    """Everything else that is asked of a model: leakage, slices, importance, and E5 beside E8."""
    seed, params = chosen["seed"], chosen["params"]

    def out_of_fold(y: Labels) -> Array:
        return refit(replace(training, y=y, folds=SHUFFLED_FOLDS, repeats=1), params)[1]

    return card.Evaluation(
        experiment=load_experiment(chosen["experiment"]),
        model=chosen["model"],
        features=list(training.features),
        as_of=gold.manifest.as_of,
        digest=gold.manifest.digest,
        policy=policy,
        threshold=model.threshold,
        cv=float(np.mean(chosen["fold_scores"])),
        openings=opened.openings,
        metrics=metrics,
        trained=opened.trained,
        held_out=opened.rows,
        findings=leakage.check(
            opened.trained,
            opened.rows,
            list(training.features),
            training.kinds,
            as_of=gold.manifest.as_of,
            waivers=policy.waivers,
            out_of_fold=out_of_fold,
            seed=seed,
        ),
        slices=slices.measure(opened.y, opened.probability, opened.flag, slices.groups(opened.rows), seed),
        importance=importance(model, opened.rows, training, params, load_tiers()),
        beside=_beside(gold, chosen),
    )


def _beside(gold: Snapshot, chosen: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Cross-validated average precision of the newest E5 and E8 on the same rows with the same model and seed."""
    found: dict[str, tuple[float, float, float]] = {}
    same = {"seed": str(chosen["seed"]), HOLDOUT: chosen["holdout"]}
    for name in card.BESIDE:
        tags = {
            "stage": "experiment",
            "gold": gold.manifest.digest,
            "model": chosen["model"],
            "experiment": name,
        }
        for known in runs.find(tags, same)[:1]:
            metrics = known.data.metrics
            value, low, high = (metrics[f"cv.average_precision{end}"] for end in ("", ".low", ".high"))
            found[name] = (value, low, high)
    return found


def _leave(
    run: StageRun, found: card.Evaluation, opened: Opened, model: ChurnModel, verdict: Verdict
) -> None:
    """What the run keeps: the card, its tables and its pictures."""
    run.log(metrics={f"leakage.{f.name}": f.value for f in found.findings})
    run.tables(
        {
            "leakage.json": leakage.table(found.findings),
            "slices.json": slices.table(found.slices),
            "importance.json": found.importance.features,
        }
    )
    title = f"{found.experiment.id} {found.model}"
    curves = charts.curves_chart(
        opened.y, opened.probability, model.threshold, f"{title}, holdout of {len(opened.y):,} customers"
    )
    bars = charts.importance_chart(found.importance.features, f"{title}: what it lives on")
    run.figure(curves, "holdout.png")
    run.figure(bars, "importance.png")
    text = card.markdown(found, verdict.words)
    run.text(text, "model_card.md")
    run.text(card.html(text, f"{title}: model card", [_png(curves), _png(bars)]), "model_card.html")


def _png(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    return drawn.getvalue()


def _register(
    run: StageRun,
    model_uri: str,
    chosen: Mapping[str, Any],
    gold: Snapshot,
    verdict: Verdict,
    found: card.Evaluation,
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
    words = short_card(found, verdict, f"runs:/{run.run_id}/model_card.html")
    version = registry.register(model_uri, tags, words)
    registry.point(Alias.CHALLENGER, str(version.version))
    run.log(tags={"version": version.version, VERDICT: tags[VERDICT]})
    run.describe(words)
    return version


def short_card(found: card.Evaluation, verdict: Verdict, where: str) -> str:
    """The version's description: what it is, what it reached, what was found, the verdict, and where the card is."""
    worse = [escaping.markdown(f"{s.dimension} {s.value}") for s in found.slices if s.worse]
    leaks = [f"{f.name} ({'declared' if f.declared else 'NOT declared'})" for f in found.findings if f.found]
    return "\n\n".join(
        [
            f"**{found.experiment.id} {found.model}** on {len(found.features)} features, trained as of {found.as_of}: "
            f"{found.experiment.question} Gate: **{PASSED if verdict.passed else REFUSED}**.",
            "It ranks who carries the churn label; the source has no date of leaving, so it cannot say by when.",
            card.as_markdown(card.metrics_table(found.metrics)),
            f"Leakage findings: {', '.join(leaks) or 'none'}. Slices worse than chance would allow: "
            f"{', '.join(worse) or 'none'}. The whole card: `{where}`.",
            verdict.table(),
        ]
    )
