"""The holdout once it is open: what a model says of customers whom nothing so far has seen, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from spanishgas.config.policy import Holdout, Offers
from spanishgas.evaluation.bootstrap import Judged, performance
from spanishgas.evaluation.metrics import Array, Labels, with_intervals
from spanishgas.evaluation.value import realised_value
from spanishgas.training.model import FLAG, PROBABILITY, ChurnModel
from spanishgas.training.sides import in_holdout, labelled


@dataclass(frozen=True)
class HoldoutResult:
    """The held-out rows with what the model says of each, beside the rows that it was trained on."""

    trained: pd.DataFrame
    rows: pd.DataFrame
    probability: Array
    flag: Labels
    value: Array
    """EUR per customer."""

    @property
    def y(self) -> Labels:
        """The labels of the held-out rows."""
        return self.rows["churn"].to_numpy(dtype="int64")

    def metrics(self, seed: int) -> dict[str, float]:
        """`holdout.*` with 95 % intervals."""
        figures = performance(Judged(self.y, self.probability, self.flag, self.value), seed=seed)
        return with_intervals("holdout", *figures) | {"holdout.rows": float(len(self.y))}


def open_holdout(model: ChurnModel, gold: pd.DataFrame, holdout: Holdout, offers: Offers) -> HoldoutResult:
    """Score the labelled customers of `gold` that are held out."""
    rows = labelled(gold)
    aside = in_holdout(rows["customer_id"], holdout)
    trained, rows = (rows[side].reset_index(drop=True) for side in (~aside, aside))
    scored = model.predict(rows)
    probability, flag = scored[PROBABILITY].to_numpy(), scored[FLAG].to_numpy()
    y, margin = rows["churn"].to_numpy(dtype="int64"), rows["avg_monthly_margin"].to_numpy()
    return HoldoutResult(
        trained, rows, probability, flag, realised_value(probability, flag, y, margin, offers)
    )
