"""The shipped object that says what each offer changes of a customer's probability to leave.

What the held-out customers judged is byte for byte what is registered and recommends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from sklearn.base import BaseEstimator

from spanishgas.training.matrix import matrix
from spanishgas.training.uplift import UpliftModel


class OfferModel(BaseEstimator):  # type: ignore[misc]
    """The effect of each offer, by a model of its own, on the columns `features` of kinds `kinds`.

    `predict` takes any frame that holds them and gives a column per offer: what it adds to P(churn), below zero where
    it keeps the customer. A missing column is a `DataError` that names it.
    """

    packages = ("xgboost",)
    """What is imported of it beyond what every model needs."""

    def __init__(
        self, features: Sequence[str], kinds: Mapping[str, str], effects: Mapping[str, UpliftModel]
    ) -> None:
        self.features = features
        self.kinds = kinds
        self.effects = effects

    def __sklearn_is_fitted__(self) -> bool:
        """The effects arrive fitted."""
        return True

    @property
    def outputs(self) -> dict[str, str]:
        """Columns that `predict` gives, with MLflow's types."""
        return dict.fromkeys(self.effects, "double")

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The table of effects, indexed like `frame`."""
        rows = matrix(frame, self.features, self.kinds)
        return pd.DataFrame(
            {name: model.predict(rows) for name, model in self.effects.items()}, index=frame.index
        )


def kinds_of(rows: pd.DataFrame, columns: Sequence[str]) -> dict[str, str]:
    """Whether each of the columns holds numbers or categories, in the words of tiers.yaml."""
    numeric = pd.api.types.is_numeric_dtype
    return {name: "number" if numeric(rows[name].dtype) else "category" for name in columns}
