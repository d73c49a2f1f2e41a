"""Open the hourly readings: Parquet (a file or a folder of parts) or CSV, judged by schema or header alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.dataset as ds

from spanishgas.contracts import contract
from spanishgas.errors import ContractError
from spanishgas.etl.engine import DuckEngine, held
from spanishgas.etl.parquet import misfits
from spanishgas.etl.source import MEND, Source, check_header, header
from spanishgas.lake import files_of
from spanishgas.raw_files import CSV
from spanishgas.raw_files import HOURS as TABLE

READINGS = {"elec": "consumption_elec_kwh", "gas": "consumption_gas_m3"}


def open_hours(source: Source, engine: DuckEngine) -> ir.Table:
    """customer_id, hour (naive timestamp), elec and gas (kWh, m3), the three also as `written`, nothing read yet.

    A time that does not parse or names a zone is null, a reading that does not is NaN.

    Raises `ContractError` for a file that is missing or cannot be read, and for columns missing or of another type.
    """
    file, columns = source.present(TABLE), source.columns(TABLE)
    if not is_parquet(source):
        names, delimiter = header(file, columns.values())
        hours = _open_csv(file, len(names), delimiter, engine)
        columns = {ours: f"c{names.index(theirs)}" for ours, theirs in columns.items()}
    else:
        paths = [str(part) for part in parts_of(source)]
        opened = engine.con.read_parquet(paths, table_name="hours", union_by_name=True)
        hours = held("hours", opened.schema())
    return typed(hours, columns)


def typed(hours: ir.Table, columns: Mapping[str, str]) -> ir.Table:
    """The columns of opened hours as `open_hours` has them; `columns` says what each is called."""
    return hours.select(
        customer_id=hours[columns["customer_id"]].cast("string"),
        hour=_time(hours[columns["timestamp"]]),
        written=hours[columns["timestamp"]],
        **{name: _number(hours[columns[reading]]) for name, reading in READINGS.items()},
        **{f"written_{name}": hours[columns[reading]] for name, reading in READINGS.items()},
    )


def is_parquet(source: Source) -> bool:
    """Whether the hours are Parquet: a file or a folder of parts."""
    return not source.present(TABLE).name.endswith(CSV)


def parts_of(source: Source) -> list[Path]:
    """The Parquet files of the hours, their columns and types held; errors as of `open_hours`."""
    file = source.present(TABLE)
    parts = (
        [part for part in files_of(file) if part.suffix.lower() == ".parquet"] if file.is_dir() else [file]
    )
    if not parts:
        raise ContractError.broken(file.name, ["the folder holds no .parquet file"], MEND)
    for part in parts:
        _check_schema(part, source.columns(TABLE))
    return parts


def _open_csv(file: Path, width: int, delimiter: str, engine: DuckEngine) -> ir.Table:
    # Named by place: a header may hold names that DuckDB takes for the same, and columns that nobody asked for.
    names = {f"c{place}": "VARCHAR" for place in range(width)}
    how: dict[str, Any] = {"header": True, "delim": delimiter, "quote": '"', "escape": '"'}
    opened = engine.con.read_csv(str(file), table_name="hours", columns=names, **how)
    return held("hours", opened.schema())


def _typed(column: ir.Column, kind: str) -> ir.Value:
    return column.try_cast(kind) if column.type().is_string() else column.cast(kind)


def _time(column: ir.Column) -> ir.Value:
    if column.type().is_string():  # DuckDB would drop the zone in silence
        column = ibis.ifelse(column.re_search(r":\d\d.*([A-Za-z]|[+-] *\d)"), None, column)
    return _typed(column, "timestamp")


def _number(column: ir.Column) -> ir.Value:
    number = _typed(column, "float64")
    if not column.type().is_string():
        return number
    blank = (column.strip() == "").fill_null(True)
    return ibis.ifelse(blank, None, number.fill_null(float("nan")))


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn a page of Parquet that cannot be decoded, found half-way through the hours, into a `ContractError`."""
    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.BinderException, duckdb.CatalogException):
        raise  # not the file's fault
    except duckdb.Error as fault:
        raise unreadable(file, fault) from fault


def unreadable(file: Path, fault: Exception) -> ContractError:
    """The error for hours that cannot be read, in the words of the engine."""
    form = "CSV" if file.name.endswith(CSV) else "Parquet"
    words = [f"cannot be read as {form}: {str(fault).splitlines()[0]}"]
    return ContractError.broken(file.name, words, MEND)


def _check_schema(part: Path, columns: Mapping[str, str]) -> None:
    try:
        schema = ds.dataset(part, format="parquet").schema
    except (pa.ArrowInvalid, OSError) as fault:
        raise unreadable(part, fault) from fault
    check_header(part, schema.names, list(columns.values()))
    fields = contract(TABLE).fields
    if faults := misfits(schema, {theirs: fields[ours] for ours, theirs in columns.items()}):
        raise ContractError.broken(part.name, faults, MEND)
