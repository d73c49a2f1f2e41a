"""How sure the model is of a customer: Venn-Abers intervals of the probability of churn (Vovk & Petej 2014).

The holdout's customers calibrate: the model did not learn from them. One of the two ends is a calibrated probability,
whatever the model and the data, as long as customers to be scored are like those. The model's own probability may
lie outside where its calibration curve differs from what the holdout shows.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.lifecycle.version import TrainingTable
from spanishgas.training.model import ChurnModel

Array = NDArray[np.float64]
EXACT = 20_000
"""Up to so many calibration customers scores are taken as they are; beyond, rounded to four digits to save time."""


@dataclass(frozen=True)
class Calibration:
    """Scores of customers whose label is known and that the model did not learn from."""

    scores: Array
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, model: ChurnModel, table: TrainingTable) -> Calibration:
        """The customers that were held out of the model's own training."""
        rows = table.held_out()
        labels = rows["churn"].to_numpy(dtype="int64")
        return cls(model.predict_proba(rows)[:, 1], labels)

    def intervals(self, probability: pd.Series) -> tuple[Array, Array]:
        """Lower and upper end per customer; 0 and 1 where nobody can calibrate."""
        from mapie.calibration import VennAbers

        if len(self.labels) == 0:
            return np.zeros(len(probability)), np.ones(len(probability))
        if len(probability) == 0:
            return np.empty(0), np.empty(0)
        fitted = VennAbers()
        with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
            # MAPIE divides by the width of empty steps, and leaves those steps out afterwards.
            warnings.simplefilter("ignore", RuntimeWarning)
            fitted.fit(_both(self.scores), self.labels, precision=None if len(self.labels) <= EXACT else 4)
            _, ends = fitted.predict_proba(_both(probability.to_numpy(dtype="float64")))
        return np.clip(ends.min(axis=1), 0, 1), np.clip(ends.max(axis=1), 0, 1)


def _both(probability: Array) -> Array:
    return np.column_stack([1 - probability, probability])
