"""What each column of a table holds, and whether it may be a feature: nothing becomes one without being named.

Numbers, truth values and texts of few values are features. Ids, dates, free texts and columns of one value are left out
with the reason; whoever wants a date in moves it to `columns` of table.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from spanishgas.config.adopted import TableColumn
from spanishgas.config.tiers import BESIDE, Entry
from spanishgas.errors import DataError
from spanishgas.training.columns import LARGEST, MOST

ID_NAMES = re.compile(r"(^|_)(id|ids|uuid|guid|key|no|nr|num|number|nif|dni|cups)$")


class Recognised(NamedTuple):
    """A column that may be a feature: how it is read, and its row in the data dictionary."""

    column: TableColumn
    entry: Entry


def recognise(name: str, values: pd.Series) -> Recognised | str:
    """What the column is as a feature, or why it is none; DataError for one that holds two kinds of values."""
    present = values.dropna()
    if present.map(lambda value: isinstance(value, (list, dict, np.ndarray))).any():
        return "holds lists"
    if present.nunique() < 2:
        return "has no values" if present.empty else "has one value alone"
    values = numbers_in(name, values)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return f"holds dates: to use days before as-of, put {{column: {name}, read: days}} under columns"
    if pd.api.types.is_numeric_dtype(values.dtype):
        return _number(name, values.astype("float64"))
    return _text(name, values.astype("string"))


def numbers_in(name: str, values: pd.Series) -> pd.Series:
    """The column as numbers, dates or texts, whichever all its values are; DataError names two that differ."""
    if pd.api.types.is_complex_dtype(values.dtype):
        raise DataError(f"column '{name}' holds complex numbers: {WAY_OUT.format(name)}")
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
        return values.astype("float64")
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        return values.dt.tz_localize(None) if getattr(values.dt, "tz", None) else values
    present = values.dropna()
    kind = pd.api.types.infer_dtype(present)
    if kind in ("date", "datetime", "boolean"):
        return values.astype("float64") if kind == "boolean" else pd.to_datetime(values)
    number = pd.to_numeric(present.astype("string").str.strip(), errors="coerce")
    if number.notna().all():
        return pd.to_numeric(values, errors="coerce").astype("float64")
    if number.notna().any() and (kind.startswith("mixed") or number.notna().mean() > 0.5):
        raise _mixed(name, present, number.notna().to_numpy())
    days = pd.to_datetime(present.astype("string"), errors="coerce", format="ISO8601")
    if days.notna().mean() > 0.95:
        return pd.to_datetime(values.astype("string"), errors="coerce", format="ISO8601")
    return values


WAY_OUT = "write it in one way and missing values as empty cells, or leave it out with --without '{}'"


def _mixed(name: str, present: pd.Series, numeric: np.ndarray) -> DataError:
    row, other = present.index[int(numeric.argmax())], present.index[int((~numeric).argmax())]
    return DataError(
        f"column '{name}' holds numbers and texts, for example {present[row]!r} in row {row + 1} and "
        f"{present[other]!r} in row {other + 1}: {WAY_OUT.format(name)}"
    )


def _number(name: str, values: pd.Series) -> Recognised | str:
    low, high = float(values.min()), float(values.max())
    if max(-low, high) > LARGEST:
        raise DataError(
            f"column '{name}' holds {high if high > LARGEST else low:g}, which is not finite in single precision: "
            + WAY_OUT.format(name)
        )
    whole = values.notna().all() and bool((values % 1 == 0).all())
    if whole and values.is_unique and (ID_NAMES.search(slug(name)) or high - low < 2 * len(values)):
        return "looks like an id: every row has another whole number"
    column = TableColumn(column=name, read="number")
    words, title = f"column '{name}', {low:g} to {high:g} in the table", name.replace("_", " ")
    if values.notna().all() and values.isin((0, 1)).all():
        return Recognised(column, Entry(kind="flag", words=title, definition=words))
    low, high = 0.0 if low >= 0 else 2 * low - high, 2 * high - low
    nulls = _null_limit(values)
    entry = Entry(kind="numeric", words=title, definition=words, low=low, high=high, max_null=nulls)
    return Recognised(column, entry)


def _text(name: str, values: pd.Series) -> Recognised | str:
    counts = values.value_counts()
    rows, example = len(values.dropna()), str(counts.index[0])
    if len(counts) > MOST and len(counts) > rows / 2:
        free = values.dropna().str.count(r"\s").mean() >= 3
        return "holds free text" if free else "looks like an id: nearly every row has another value"
    most = sorted(str(v) for v in counts[counts >= 2].index[:MOST])
    keep = most if len(counts) > MOST else None
    kept = f", of which {len(keep)} are told apart" if keep else ""
    words = f"column '{name}', {len(counts)} values in the table{kept}, most often {example[:40]}"
    entry = Entry(
        kind="category", words=name.replace("_", " "), definition=words, max_null=_null_limit(values)
    )
    return Recognised(TableColumn(column=name, read="text", keep=keep), entry)


def _null_limit(values: pd.Series) -> float:
    """Twice the share of missing values there are now, and a twentieth more."""
    return min(1.0, round(2 * float(values.isna().mean()) + 0.05, 2))


def slug(name: str) -> str:
    """The column's name as a feature's: small letters, digits and underscores."""
    plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
    return plain if re.match("[a-z]", plain) else f"c_{plain}".rstrip("_")


def feature_names(columns: Iterable[str]) -> dict[str, str]:
    """A feature's name for each column, no two alike and none that stands beside gold's features."""
    names: dict[str, str] = {}
    for column in columns:
        name, number = slug(column), 2
        while name in BESIDE or name in names.values():
            name, number = f"{slug(column)}_{number}", number + 1
        names[column] = name
    return names
