"""What of a lake's extracts was known on a day, as the raw files of a lake that holds nothing else.

- An extract is known from its as-of date on.
- A row with a day in a column `known_at` (of a CSV, Parquet or JSON file) is known from that day on, be it late or a
  correction: it takes the place of the row with the same key that was known before.
- Labels without `known_at` are known `label_horizon_months` after the as-of date; who left later than the day had not
  left yet.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from spanishgas.contracts import contract
from spanishgas.errors import DataError
from spanishgas.etl.labels import LEFT, OBSERVED
from spanishgas.etl.source import Source, extract_date, header, open_source
from spanishgas.lake import Lake
from spanishgas.monitoring.labels import ID, LABEL, WHEN
from spanishgas.raw_files import CSV, HOURS, JSON, LABELS, MAPPING, PARQUET
from spanishgas.stages import digest
from spanishgas.training.sides import matures

KNOWN_AT = "known_at"
KEYS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((LABELS, "customer_attributes", "customer_contracts"), (ID,)),
    "price_history": (ID, "pricing_date"),
    "costs_by_province_month": ("province", "month"),
    HOURS: (ID, "timestamp"),
}
"""Columns by which a later row corrects an earlier one; a contact corrects none."""


@dataclass(frozen=True)
class View:
    """A lake as it was known on a day, in the raw folders of a lake of its own."""

    source: Lake
    lake: Lake
    horizon_months: int
    """Months after which labels that do not say since when they were known are."""

    def extracts(self, day: date = date.max) -> list[date]:
        """As-of dates of the extracts that were known, oldest first."""
        return [as_of for as_of in map(extract_date, self.source.raw_extracts()) if as_of <= day]

    def show(self, as_of: date, day: date) -> str:
        """Put the files of an extract as they were known on `day` into the view; a digest of them."""
        source = open_source(self.source.raw(as_of), None, self.source.store.downloads)
        folder = Path(str(self.lake.raw(as_of)))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if (mapping := source.folder / MAPPING).exists():
            shutil.copy(mapping, folder)
        begin = dict.fromkeys(source.found, as_of) | {LABELS: matures(as_of, self.horizon_months)}
        shown = [_show(source, table, folder, begin[table], day) for table in sorted(source.found)]
        return digest([shown, dict(source.renamed)])


def _show(source: Source, table: str, folder: Path, begin: date, day: date) -> object:
    """Put one file into the folder, a link where its rows tell no days; labels that nobody knew yet are left out."""
    file, theirs = source.found[table], source.columns(table)
    rows = _read(source, table, {KNOWN_AT, *((LEFT, WHEN, OBSERVED) if table == LABELS else ())})
    if rows is None:
        if begin <= day:
            (folder / file.name).symlink_to(file.resolve())
        return [file.name, file.stat().st_size, file.stat().st_mtime_ns, begin <= day]
    rows = as_known(rows.rename(columns={t: ours for ours, t in theirs.items()}), table, begin, day)
    if table != LABELS or not rows.empty:
        _write(rows.rename(columns=theirs), source, table, folder / file.name)
    return [file.name, pd.util.hash_pandas_object(rows.astype(str), index=False).to_numpy().tobytes().hex()]


def as_known(rows: pd.DataFrame, table: str, begin: date, day: date) -> pd.DataFrame:
    """The rows of a raw table as they were known on `day`, without `known_at`; those that name no day are from `begin`.

    DataError names what should be a date and is none.
    """
    since, today = pd.Series(pd.Timestamp(begin), rows.index), pd.Timestamp(day)
    if KNOWN_AT in rows:
        since, rows = _days(rows[KNOWN_AT]).fillna(since), rows.drop(columns=KNOWN_AT)
    rows = rows.loc[since[since <= today].sort_values(kind="stable").index]
    if (key := [*KEYS.get(table, ())]) and {*key} <= {*rows}:
        rows = rows.drop_duplicates(key, keep="last")
    rows = rows.sort_index()
    for name in {LEFT, WHEN} & {*rows} if table == LABELS else ():
        later = _days(rows[name]) > today
        rows = rows.assign(**{name: rows[name].mask(later, ""), LABEL: rows[LABEL].mask(later, "0")})
    if table == LABELS and OBSERVED in rows:
        rows = rows.assign(**{OBSERVED: rows[OBSERVED].mask(_days(rows[OBSERVED]) > today, str(day))})
    return rows


def _days(texts: pd.Series) -> pd.Series:
    told = texts.where(texts.notna() & texts.ne(""))
    days = pd.to_datetime(told, format="ISO8601", errors="coerce")
    if len(bad := told[told.notna() & days.isna()]):
        raise DataError(f"'{bad.iloc[0]}' in column '{texts.name}' is no date: write it as 2025-03-31")
    return days


def _read(source: Source, table: str, columns: set[str]) -> pd.DataFrame | None:
    """The rows of a file that has one of `columns`, those of a CSV file as text; None of another file."""
    file, how = source.found[table], source.format(table)
    if file.name.endswith(PARQUET) and file.is_file():
        return pd.read_parquet(file) if columns & {*pq.read_schema(file).names} else None
    if file.name.endswith(JSON):
        rows = pd.read_json(file, dtype=False, convert_dates=False, lines=".jsonl" in file.name)
    elif file.name.endswith(CSV):
        delimiter = _delimiter(source, table)
        encoding = how.encoding.replace("utf-8", "utf-8-sig")
        rows = pd.read_csv(file, sep=delimiter, dtype="str", keep_default_na=False, encoding=encoding)
    else:
        return None
    return rows if columns & {*rows} else None


def _delimiter(source: Source, table: str) -> str:
    """That of a CSV file, told by the columns that it must have."""
    needed = contract(table).fields
    theirs = [column for ours, column in source.columns(table).items() if ours in needed]
    return header(source.found[table], theirs, source.format(table))[1]


def _write(rows: pd.DataFrame, source: Source, table: str, file: Path) -> None:
    if file.name.endswith(PARQUET):
        rows.to_parquet(file, index=False)
    elif file.name.endswith(JSON):
        rows.to_json(file, orient="records", lines=".jsonl" in file.name)
    else:
        how = source.format(table)
        delimiter = _delimiter(source, table)
        rows.to_csv(file, index=False, sep=delimiter, encoding=how.encoding)
