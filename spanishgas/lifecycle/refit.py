"""A version's fit, from the record of what was chosen and the tables that it names: to make it, and again."""

from __future__ import annotations

import pandas as pd

from spanishgas.config.policy import Judgement
from spanishgas.evaluation.metrics import decisions
from spanishgas.lifecycle.experiments import training_rows, training_side, training_table
from spanishgas.lifecycle.records import ExperimentRecord
from spanishgas.lifecycle.runs import StageRun
from spanishgas.lifecycle.version import TrainingTable
from spanishgas.rendering import as_markdown
from spanishgas.training.calibration import Fitted, LaterRows, fit_chosen, sensitivity
from spanishgas.training.fitting import Training

SENSITIVITY = (
    "The threshold of greatest expected value under each assumption of policy.yaml halved, as it stands and doubled, "
    "with what it would have brought out of fold. The assumptions are not measured."
)


def fitted_as(
    chosen: ExperimentRecord, policy: Judgement, table: TrainingTable
) -> tuple[Fitted, Training, pd.DataFrame]:
    """The fit, the training side that it is of, and the gold that this is a part of."""

    def side(gold: pd.DataFrame) -> Training:
        return training_side(gold, chosen.kinds, chosen.model, policy, chosen.seed)

    gold = training_table(table.earlier, table.table)
    later, training = None, side(gold)
    if table.recalibrated:
        labelled = table.recalibrated.pandas()
        ids = (training_rows(rows, policy.holdout)["customer_id"] for rows in (labelled, gold))
        later = LaterRows(side(labelled), *ids)
    return fit_chosen(training, chosen.params, policy, later), training, gold


def log_choices(run: StageRun, fitted: Fitted, policy: Judgement) -> None:
    """How curve and threshold were chosen, all of it out of fold."""
    chosen_on, threshold, y = fitted.chosen_on, fitted.model.threshold, fitted.y
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
