"""Who left, by the target column, and which other columns know it already."""

from __future__ import annotations

import pandas as pd

from spanishgas.adopt.reading import label
from spanishgas.config.adopted import TableMap, Target
from spanishgas.config.tiers import Tiers
from spanishgas.errors import DataError, UsageError
from spanishgas.evaluation.leakage.columns import skills
from spanishgas.training.matrix import matrix

FEWEST, THE_TARGET = 50, 0.95
"""Customers of either label at least; skill of one column beyond which it is the target by another name."""
LEFT = ("1", "yes", "true", "y", "si", "churned", "churn", "left")
"""Labels that say by themselves who left."""


def read_target(values: pd.Series, name: str, positive: str | None) -> Target:
    """What the two labels mean; DataError where there are not two, or too few rows of one."""
    labels = values.dropna().map(label)
    counts = labels.value_counts()
    if len(counts) != 2:
        shown = ", ".join(f"'{value}' ({count:,} rows)" for value, count in counts.head(4).items())
        more = " and more" * (len(counts) > 4)
        raise DataError(
            f"target column '{name}' has {len(counts)} values instead of two, {shown or 'none'}{more}: name a column "
            "that says who left and who stayed, or leave other rows empty"
        )
    if counts.min() < FEWEST:
        raise DataError(
            f"target column '{name}' has only {counts.min():,} rows of '{counts.idxmin()}' among {len(labels):,}: at "
            f"least {FEWEST} of either label are needed to train, to validate and to hold out"
        )
    if positive is not None and positive not in counts.index:
        raise UsageError.unknown(f"label of '{name}' for --positive", positive, counts.index)
    plain = [value for value in counts.index if str(value).casefold() in LEFT]
    churns = positive or (str(plain[0]) if len(plain) == 1 else str(counts.idxmin()))
    (stays,) = (str(value) for value in counts.index if value != churns)
    return Target(column=name, churns=churns, stays=stays)


def strengths(gold: pd.DataFrame, tiers: Tiers, columns: TableMap) -> pd.Series:
    """How far each feature alone goes from chance to perfect average precision, the strongest first.

    DataError names the columns that are the target under another name.
    """
    rows = gold[gold["churn"].notna()]
    y = rows["churn"].to_numpy(dtype="int64")
    kinds = {feature: tiers.kind(feature) for feature in tiers.features()}
    strength = skills(matrix(rows, list(kinds), kinds), y, seed=0).sort_values(ascending=False)
    if same := [columns.columns[f].column for f in strength[strength > THE_TARGET].index]:
        raise DataError(
            f"who left can be told by one column alone, {' or '.join(map(repr, same))}, which is the target under "
            f"another name or was written after it: leave it out with --without '{','.join(same)}'"
        )
    return strength
