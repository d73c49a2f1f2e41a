"""What the model's inputs are tested by, once labels show whether they count for more or less than they did.

    input -> columns: what it adds to the model's log odds (contributions), and its rank, or its commonest values

The first sees a reason of the model that fades or grows whatever its shape, the second one that the model never had.
Where an input moved, churn at a given value may change without any reason to: a price that told provinces apart tells
them apart no more. Such an input is unfamiliar, which is not to say that it is a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from spanishgas.evaluation.importance import contributions
from spanishgas.evaluation.metrics import Array
from spanishgas.monitoring.parts import shares
from spanishgas.training.matrix import is_text
from spanishgas.training.model import ChurnModel

MOVED = 0.1
"""Share of customers with another value, from which an input is unfamiliar."""
VALUES = 4
"""The commonest values of a category have columns: so many."""
DISTINCT = 1e-3
"""Columns that vary by less than so much of what the first does add nothing."""


@dataclass(frozen=True)
class TestedInput:
    """One input of the customers of two samples."""

    columns: Array
    """Shape (customers, 1 to 5), the reference's first; uncorrelated."""
    moved: float
    """Share of customers who are elsewhere in it than the reference's are."""


def tested_inputs(model: ChurnModel, reference: pd.DataFrame, cohort: pd.DataFrame) -> dict[str, TestedInput]:
    """The model's inputs by name, without those that do not vary in both samples; gold rows, the reference's first."""
    kinds = {name: model.kinds[name] for name in model.features}
    before, after = model.prepared(reference), model.prepared(cohort)
    divided = shares(before, after, kinds)
    moved = (divided["after"] - divided["before"]).abs().groupby(level="feature").sum() / 2
    added = contributions(model, pd.concat([reference, cohort], ignore_index=True))
    both, split = pd.concat([before, after], ignore_index=True), len(before)
    inputs = dict[str, TestedInput]()
    for name, kind in kinds.items():
        columns = np.column_stack([added[name], _seen(both[name], is_text(kind))])
        varies = (np.ptp(columns[:split], axis=0) > 0) & (np.ptp(columns[split:], axis=0) > 0)
        if varies.any():
            inputs[name] = TestedInput(_uncorrelated(columns[:, varies]), float(moved[name]))
    return inputs


def _seen(values: pd.Series[Any], text: bool) -> Array:
    """Ranks from 0 to 1, the middle where there is none; of a category, who has each of its commonest values."""
    if not text:
        return np.asarray(values.astype("float64").rank(pct=True).fillna(0.5), dtype="float64")[:, None]
    named = values.astype(object).where(values.notna(), "missing").map(str).to_numpy()
    commonest = pd.Series(named).value_counts().index[:VALUES].to_numpy()
    return np.asarray(named[:, None] == commonest, dtype="float64")


def _uncorrelated(columns: Array) -> Array:
    u, size, _ = np.linalg.svd((columns - columns.mean(axis=0)) / columns.std(axis=0), full_matrices=False)
    kept: Array = u[:, size > DISTINCT * size[0]] * np.sqrt(len(columns))
    return kept
