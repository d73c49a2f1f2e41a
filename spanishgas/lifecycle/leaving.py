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
from spanishgas.training.calibration import Array, Fitted, cross_calibrated, out_of_fold
from spanishgas.training.fitting import Training
from spanishgas.training.hazard import HazardModel, fit_hazard
from spanishgas.training.matrix import matrix
from spanishgas.training.model import ChurnModel
from spanishgas.training.sides import in_holdout, of_days
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
    by_day = of_days(rows, holdout.half_life_months)._asdict()
    everybody = replace(training, X=matrix(rows, training.features, training.kinds), **by_day)
    key = [name for name in ("customer_id", "as_of") if name in rows]
    learned = training_rows(table, holdout)[key].assign(probability=_out_of_fold(training, fitted, params))
    probability = rows[key].merge(learned, on=key, how="left")["probability"].to_numpy(copy=True)
    unseen = np.isnan(probability)
    probability[unseen] = fitted.model.predict_proba(rows[unseen])[:, 1]
    return fit_hazard(everybody, Times.of(rows), params, probability)


def _out_of_fold(training: Training, fitted: Fitted, params: Mapping[str, Value]) -> Array:
    """The classifier's probability for each row that it learned from, by a fit that did not see the customer.

    Forward in time, folds say so of the newest day alone; folds by customer say it of all.
    """
    if training.forward is None:
        return fitted.chosen_on.probability
    t, by_customer = training, out_of_fold(replace(training, forward=None), params)
    return cross_calibrated(by_customer, t.y, t.folds, t.seed, fitted.chosen_on.curve, t.groups)


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
