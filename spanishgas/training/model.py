"""The shipped object: preprocessing, fills, model, calibrator, threshold and risk tiers in one fitted artefact.

What the holdout measured is byte for byte what is registered and served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline

from spanishgas.config.search import family
from spanishgas.training.curves import CalibratedMargins
from spanishgas.training.matrix import matrix

if TYPE_CHECKING:
    from spanishgas.training.hazard import HazardModel

PROBABILITY, FLAG, TIER = "churn_probability", "churn_flag", "risk_tier"


class ChurnModel(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted churn model that answers with a table.

    - `predict` takes any frame that holds the model's features (others are ignored) and gives one row per row:
      churn_probability in [0, 1], churn_flag (1 at or above the threshold), risk_tier
    - `predict_proba` gives the same probabilities in scikit-learn's shape (rows, 2)
    - with a `hazard` model, which says when customers leave, `predict` adds the columns `curve_columns`
    - a missing feature is a `DataError` that names it; nothing scores silently without its inputs
    """

    hazard: HazardModel | None = None
    """Set on the object where labels have dates, so that the bytes of other models stay as they are."""

    def __init__(
        self,
        calibrated: CalibratedMargins | CalibratedClassifierCV,
        features: Sequence[str],
        kinds: Mapping[str, str],
        threshold: float,
        risk_tiers: Mapping[str, float],
    ) -> None:
        self.calibrated = calibrated
        self.features = features
        self.kinds = kinds
        self.threshold = threshold
        self.risk_tiers = risk_tiers

    def __sklearn_is_fitted__(self) -> bool:
        """The calibrated model arrives fitted."""
        return True

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The labels 0 (stays) and 1 (churns)."""
        classes: NDArray[np.int64] = self.calibrated.classes_
        return classes

    @property
    def pipeline(self) -> Pipeline:
        """Preprocessing and estimator beneath the curve; versions of before hold scikit-learn's calibrator."""
        if isinstance(self.calibrated, CalibratedMargins):
            return self.calibrated.estimator
        return self.calibrated.calibrated_classifiers_[0].estimator

    @property
    def packages(self) -> Sequence[str]:
        """What is imported of it beyond what every model needs."""
        from spanishgas.training.families import family_of

        return family(family_of(self.pipeline[-1])).packages

    @property
    def outputs(self) -> dict[str, str]:
        """Columns that `predict` gives, with MLflow's types."""
        return {PROBABILITY: "double", FLAG: "long", TIER: "string"} | dict.fromkeys(
            self.curve_columns, "double"
        )

    @property
    def curve_columns(self) -> list[str]:
        """Columns of when customers leave, after the others."""
        return list(self.hazard.columns) if self.hazard else []

    def prepared(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The model's columns of `frame` in the types it was trained on."""
        return matrix(frame, self.features, self.kinds)

    def predict_proba(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Calibrated probabilities, shape (rows, 2)."""
        prepared = self.prepared(frame)
        if len(prepared) == 0:
            return np.empty((0, 2))
        probabilities: NDArray[np.float64] = self.calibrated.predict_proba(prepared)
        return probabilities

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table of probability, flag and tier, and when, indexed like `frame`."""
        probability = self.predict_proba(frame)[:, 1]
        table = pd.DataFrame(
            {
                PROBABILITY: probability,
                FLAG: (probability >= self.threshold).astype("int64"),
                TIER: risk_tier(probability, self.risk_tiers),
            },
            index=frame.index,
        )
        return table.join(self.hazard.told(self.prepared(frame), probability)) if self.hazard else table


def risk_tier(probability: NDArray[np.float64], lower_edges: Mapping[str, float]) -> NDArray[np.object_]:
    """Name of the tier each probability falls into; a tier holds its lower edge."""
    names = np.array(list(lower_edges), dtype=object)
    tiers: NDArray[np.object_] = names[
        np.searchsorted(list(lower_edges.values()), probability, side="right") - 1
    ]
    return tiers
