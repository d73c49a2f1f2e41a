"""The table as it is in its file: CSV, Parquet or Excel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from spanishgas.errors import DataError, UsageError
from spanishgas.etl.packed import NEEDS
from spanishgas.raw_files import DELIMITERS, WORKBOOKS

MOST_COLUMNS = 500


def read_table(path: Path, id_column: str) -> pd.DataFrame:
    """The rows of `path`, its ids as text; UsageError for the file, DataError for what is in it."""
    if not path.is_file():
        raise UsageError(f"{path} is no file: name a CSV, Parquet or Excel file")
    try:
        table = _read(path, id_column)
    except UsageError:
        raise
    except ImportError as fault:
        raise UsageError(f"{path.name}: {NEEDS}") from fault
    except (ValueError, OSError, UnicodeError) as fault:
        words = str(fault).strip().splitlines()[0] if str(fault).strip() else type(fault).__name__
        raise DataError(
            f"{path} cannot be read as a table ({words}): save it again, as CSV in UTF-8"
        ) from fault
    table.columns = [str(name) for name in table.columns]
    return _checked(table, path, id_column)


def _read(path: Path, id_column: str) -> pd.DataFrame:
    ending = path.suffix.lower()
    if ending in (".parquet", ".pq"):
        return pd.read_parquet(path)
    if ending in (*WORKBOOKS, ".xlsm"):
        return pd.read_excel(path, dtype={id_column: "string"}, engine="calamine")
    if ending in (".csv", ".tsv", ".txt"):
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(DELIMITERS, key=header.count)
        return pd.read_csv(
            path,
            sep=separator,
            encoding="utf-8-sig",
            dtype={id_column: "string"},
            low_memory=False,
            float_precision="round_trip",
        )
    raise UsageError(
        f"{path} ends in '{ending}', but is to be .csv, .parquet or .xlsx: save it as one of them"
    )


def _checked(table: pd.DataFrame, path: Path, id_column: str) -> pd.DataFrame:
    if len(table.columns) > MOST_COLUMNS:
        raise DataError(
            f"{path} has {len(table.columns):,} columns, more than {MOST_COLUMNS}: keep those that say something "
            "about a customer, for example by `spanishgas.training.tune` on a sample, and adopt that table"
        )
    if id_column not in table.columns:
        raise UsageError.unknown("column for --id", id_column, table.columns)
    none = table[id_column].isna().to_numpy()
    if none.any():
        rows = f"{none.sum()} rows, first in row {none.argmax() + 1}"
        raise DataError(f"{path}: column '{id_column}' has no id in {rows}: mend them, or name another --id")
    text = table[id_column].map(label).astype("string")
    if text.duplicated().any():
        again = text[text.duplicated()]
        raise DataError(
            f"{path}: column '{id_column}' repeats in {len(again):,} rows, for example '{again.iloc[0]}': a table has "
            "one row per customer, so aggregate it, or name another --id"
        )
    return table.assign(**{id_column: text})


def label(value: object) -> str:
    """A value as text: whole numbers without a point, truth values as 0 or 1."""
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return str(value).strip()
