"""The model of when customers leave, beside a candidate: fitted on whom that learns from, judged on the held-out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from spanishgas.config.policy import Holdout, Judgement
from spanishgas.config.reading import Value
from spanishgas.evaluation import charts
from spanishgas.evaluation.metrics import with_intervals
from spanishgas.evaluation.survival import survival, weights
from spanishgas.lifecycle.experiments import training_rows
from spanishgas.lifecycle.runs import StageRun
from spanishgas.training.calibration import Fitted
from spanishgas.training.fitting import Training
from spanishgas.training.hazard import HazardModel, fit_hazard
from spanishgas.training.matrix import matrix
from spanishgas.training.model import ChurnModel
from spanishgas.training.sides import aged, in_holdout
from spanishgas.training.times import Times, timed


def hazard_of(
    training: Training, fitted: Fitted, table: pd.DataFrame, params: Mapping[str, Value], holdout: Holdout
) -> HazardModel | None:
    """The hazards of the customers of `table` who are not held out, by the chosen parameters; None without dates.

    `fitted` is the classifier of the labelled ones among them, `training`.
    """
    rows = timed(table)
    if rows.empty:
        return None
    rows = rows[~in_holdout(rows["customer_id"], holdout)].reset_index(drop=True)
    groups, weights = aged(rows, holdout.half_life_months) if "as_of" in rows else (None, None)
    everybody = replace(
        training, X=matrix(rows, training.features, training.kinds), groups=groups, weights=weights
    )
    key = [name for name in ("customer_id", "as_of") if name in rows]
    learned = training_rows(table, holdout)[key].assign(probability=fitted.chosen_on.probability)
    probability = rows[key].merge(learned, on=key, how="left")["probability"].to_numpy(copy=True)
    unseen = np.isnan(probability)
    probability[unseen] = fitted.model.predict_proba(rows[unseen])[:, 1]
    return fit_hazard(everybody, Times.of(rows), params, probability)


def judge_when(
    run: StageRun, model: ChurnModel, table: pd.DataFrame, policy: Judgement, seed: int
) -> dict[str, float]:
    """`holdout.when.*`: how well the model says when, of all held-out customers, labelled or not; and the picture."""
    if model.hazard is None:
        return {}
    rows = timed(table)
    rows = rows[in_holdout(rows["customer_id"], policy.holdout)]
    times, probability = Times.of(rows), model.predict_proba(rows)[:, 1]
    curve = model.hazard.curves(model.prepared(rows), probability)
    shares = [weights(times, month)[0] for month in range(1, times.horizon + 1)]
    run.figure(charts.when_chart(curve, np.column_stack(shares)), "when.png")
    return with_intervals("holdout.when", *survival(times, curve, seed))
