"""An adopted table as gold: the columns that its map names, read as it says, under the contract of its dictionary."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd

from spanishgas.adopt.columns import numbers_in
from spanishgas.adopt.reading import label
from spanishgas.config.adopted import TableColumn, TableMap, Target
from spanishgas.config.tiers import Tiers
from spanishgas.contracts import check_pandas, contract
from spanishgas.errors import DataError, UsageError
from spanishgas.training.columns import RARE


def gold_rows(table: pd.DataFrame, columns: TableMap, tiers: Tiers, as_of: date) -> pd.DataFrame:
    """One row per customer in the order of the ids; without the target column nobody is labelled.

    DataError and ContractError name the column of the table that is missing or is not as it was.
    """
    wanted = [columns.id, *(c.column for c in columns.columns.values()), *filter(None, [columns.value])]
    for missing in [name for name in wanted if name not in table]:
        raise UsageError.unknown("column of table.yaml", missing, table.columns)
    if extra := {*columns.columns} ^ {*tiers.features()}:
        raise UsageError(
            f"table.yaml and tiers.yaml differ in {', '.join(sorted(extra))}: name it in both or in neither"
        )
    made: dict[str, object] = {
        "customer_id": table[columns.id].astype("string"),
        "churn": churn(table, columns.target),
        "avg_monthly_margin": _floats(table, columns.value) if columns.value else np.nan,
        **dict.fromkeys(("total_margin_2024", "contracted_power_kw"), np.nan),
        "is_urban": pd.array([pd.NA] * len(table), dtype="Int64"),
    }
    for feature, column in columns.columns.items():
        values = _read(table, column, as_of)
        whole = tiers.kind(feature) == "flag" and values.notna().all() and (values % 1 == 0).all()
        made[feature] = values.astype("int64") if whole else values
    rows = pd.DataFrame(made, index=table.index)[list(contract("gold_master", tiers).of(made).fields)]
    return check_pandas("gold_master", rows.sort_values("customer_id", ignore_index=True), tiers)


def churn(table: pd.DataFrame, target: Target) -> pd.Series:
    """1 for who left, 0 for who stayed, null for the others, and for all where the table has no such column."""
    if target.column not in table:
        return pd.Series(pd.NA, table.index, dtype="Int64")
    labels = table[target.column].map(label, na_action="ignore")
    odd = labels[labels.notna() & ~labels.isin((target.churns, target.stays))]
    if len(odd):
        raise DataError(
            f"target column '{target.column}' holds '{odd.iloc[0]}' in row {odd.index[0] + 1}, but table.yaml says "
            f"'{target.churns}' or '{target.stays}'"
        )
    return labels.map({target.churns: 1, target.stays: 0}).astype("Int64")


def _read(table: pd.DataFrame, column: TableColumn, as_of: date) -> pd.Series:
    name = column.column
    if column.read == "number":
        return _floats(table, name)
    if column.read == "days":
        days = (pd.Timestamp(as_of) - pd.to_datetime(table[name], errors="coerce", format="ISO8601")).dt.days
        if (days < 0).any():
            raise DataError(
                f"column '{name}' holds dates after {as_of}, for example in row {(days < 0).to_numpy().argmax() + 1}: "
                "nothing dated after as-of may be a feature"
            )
        return days.astype("float64")
    text = table[name].map(label, na_action="ignore").astype("string")
    if column.keep is not None:
        text = text.where(text.isin(column.keep) | text.isna(), RARE)
    return text.astype(object)


def _floats(table: pd.DataFrame, name: str) -> pd.Series:
    values = numbers_in(name, table[name]) if table[name].notna().any() else table[name].astype("float64")
    if not pd.api.types.is_numeric_dtype(values.dtype):
        raise DataError(f"column '{name}' holds '{table[name].dropna().iloc[0]}', but is to hold numbers")
    return values
