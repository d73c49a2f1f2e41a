"""Any table as numbers and texts: what each column holds is learned once, and applied to every later table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from spanishgas.errors import DataError

NUMERIC, CATEGORY = "numeric", "category"
RARE, MOST = "(rare)", 30
ROLES = {
    **dict.fromkeys(("integer", "floating", "mixed-integer-float", "decimal"), NUMERIC),
    **dict.fromkeys(("date", "datetime", "datetime64"), "date"),
    **dict.fromkeys(("timedelta", "timedelta64"), "duration"),
    "period": "period",
}
"""What a column of Python objects is, by the kind that pandas infers; anything else is a category."""
LARGEST = float(np.finfo("float32").max)
"""XGBoost and forests hold no larger number."""


class LearnsColumns:
    """What an estimator of any table knows of its columns.

    After `_learn_columns`: `roles_` (numeric, category, date, duration or period by column) and `kept_` (the values of
    each category that are frequent enough to be told apart).
    """

    def _learn_columns(self, table: pd.DataFrame) -> None:
        """Learn the columns of `table`, as `table_of` gives it."""
        self.feature_names_in_ = np.array([str(c) for c in table.columns], dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        self.roles_ = {str(name): _role(table[name]) for name in table.columns}
        self.kept_: dict[str, list[str]] = {}
        for name, role in self.roles_.items():
            if role == CATEGORY:
                counts = _texts(table[name]).value_counts()
                self.kept_[name] = sorted(counts[counts >= 2].index[:MOST]) or sorted(counts.index[:1])

    def _checked(self, X: Any) -> pd.DataFrame:
        """`X` as a table with every column that was learned; DataError names those that it lacks."""
        table = table_of(X)
        if missing := [c for c in self.feature_names_in_ if c not in table.columns]:
            raise DataError(f"the table lacks the columns {missing} that the model was fitted on: add them")
        return table

    def _prepared(self, table: pd.DataFrame) -> pd.DataFrame:
        """Float64 for numbers and times, texts for categories, the columns in the order learned."""
        columns: dict[str, Any] = {}
        for name, role in self.roles_.items():
            if role == CATEGORY:
                text = _texts(table[name])
                columns[name] = text.where(text.isin(self.kept_[name]) | text.isna(), RARE)
            else:
                columns[name] = _numbers(table[name], name, role)
        return pd.DataFrame(columns, index=table.index)


def table_of(X: Any) -> pd.DataFrame:
    """`X` as a table with texts as column names and rows counted from 0; DataError where names are no names."""
    table = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X)
    table = table.set_axis([str(c) for c in table.columns], axis=1).reset_index(drop=True)
    twice = table.columns[table.columns.duplicated()].unique().tolist()
    if twice:
        raise DataError(f"the table has several columns named {twice}: rename them")
    if table.shape[1] == 0:
        raise DataError("the table has no columns: give at least one to learn from")
    return table


def _role(column: pd.Series) -> str:
    if pd.api.types.is_complex_dtype(column.dtype):
        raise DataError(f"column {column.name!r} holds complex numbers: give their parts as columns")
    if pd.api.types.is_bool_dtype(column.dtype) or pd.api.types.is_numeric_dtype(column.dtype):
        return NUMERIC
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return "date"
    return ROLES.get(pd.api.types.infer_dtype(column.dropna()), CATEGORY)


def _texts(column: pd.Series) -> pd.Series:
    text = column.astype(object)
    present = text.notna()
    return text.where(~present, text[present].map(str)).where(present, np.nan)


def _numbers(column: pd.Series, name: str, role: str) -> pd.Series:
    """Float64, with what float32 cannot hold as missing, infinities too; dates and durations in days."""
    try:
        if role == "period":
            column = pd.Series(pd.PeriodIndex(column).to_timestamp(), index=column.index)
        if role in ("date", "period"):
            moment = pd.to_datetime(column, utc=True)
            return (moment - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
        if role == "duration":
            return pd.to_timedelta(column) / pd.Timedelta(days=1)
        number = pd.to_numeric(column, errors="raise").astype("float64")
    except (TypeError, ValueError) as fault:
        words = "numbers" if role == NUMERIC else f"{role}s"
        raise DataError(
            f"column {name!r} held {words} when the model was fitted, but now: {fault}"
        ) from fault
    return number.where(number.abs() <= LARGEST, np.nan)
