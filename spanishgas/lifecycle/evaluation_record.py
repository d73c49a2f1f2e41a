"""What an evaluation leaves in its run beside the verdict: how curve and threshold were chosen, card and pictures."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from spanishgas.config.policy import Judgement
from spanishgas.evaluation import card, charts, leakage, slices
from spanishgas.evaluation.metrics import decisions
from spanishgas.lifecycle.runs import StageRun
from spanishgas.lifecycle.verdict import Verdict
from spanishgas.rendering import as_markdown
from spanishgas.training.calibration import Fitted, sensitivity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SENSITIVITY = (
    "The threshold of greatest expected value under each assumption of policy.yaml halved, as it stands and doubled, "
    "with what it would have brought out of fold. The assumptions are not measured."
)


def log_choices(run: StageRun, fitted: Fitted, y: np.ndarray[Any, Any], policy: Judgement) -> None:
    """How curve and threshold were chosen, all of it out of fold."""
    chosen_on, threshold = fitted.chosen_on, fitted.model.threshold
    out_of_fold = decisions(y, (chosen_on.probability >= threshold).astype("int64"))
    run.log(
        params={
            "threshold": threshold,
            "threshold.rule": policy.threshold.rule,
            "calibration": chosen_on.curve,
        },
        metrics={f"cv.{name}": value for name, value in out_of_fold.items()}
        | {f"cv.brier.{curve}": score for curve, score in chosen_on.brier.items()},
    )
    table = sensitivity(chosen_on.probability, y, policy.threshold.retention)
    run.text(f"{SENSITIVITY}\n\n{as_markdown(table)}\n", "threshold_sensitivity.md")


def leave(run: StageRun, evaluation: card.Evaluation, verdict: Verdict) -> None:
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
    run.text(card.html(text, f"{title}: model card", [_png(curves), _png(bars)]), "model_card.html")


def _png(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    return drawn.getvalue()
