"""Open the hourly readings: Parquet (a file or a folder of parts) or CSV, judged by schema or header alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.dataset as ds

from spanishgas.errors import ContractError
from spanishgas.etl.engine import DuckEngine
from spanishgas.etl.source import CSV, MEND, Source, check_header, header
from spanishgas.etl.source import HOURS as TABLE

READINGS = {"elec": "consumption_elec_kwh", "gas": "consumption_gas_m3"}


def open_hours(source: Source, engine: DuckEngine) -> ir.Table:
    """customer_id, hour (naive timestamp; as `written`: text), elec and gas (kWh, m3), nothing read yet.

    A time that does not parse is null, a reading that does not is NaN.

    Raises `ContractError` for a file that is missing or cannot be read, and for columns missing or of another type.
    """
    file, columns = source.present(TABLE), source.columns(TABLE)
    if not is_parquet(source):
        names, delimiter = header(file, columns.values())
        hours = _open_csv(file, len(names), delimiter, engine)
        columns = {ours: f"c{names.index(theirs)}" for ours, theirs in columns.items()}
    else:
        hours = engine.con.read_parquet([str(part) for part in parts_of(source)], union_by_name=True)
    return hours.select(
        customer_id=hours[columns["customer_id"]].cast("string"),
        hour=_typed(hours[columns["timestamp"]], "timestamp"),
        written=hours[columns["timestamp"]].cast("string"),
        **{name: _number(hours[columns[reading]]) for name, reading in READINGS.items()},
    )


def is_parquet(source: Source) -> bool:
    """Whether the hours are Parquet: a file or a folder of parts."""
    return not source.present(TABLE).name.endswith(CSV)


def parts_of(source: Source) -> list[Path]:
    """The Parquet files of the hours, their columns and types held; errors as of `open_hours`."""
    file = source.present(TABLE)
    parts = sorted(file.rglob("*.parquet")) if file.is_dir() else [file]
    if not parts:
        raise ContractError.broken(file.name, ["the folder holds no .parquet file"], MEND)
    for part in parts:
        _check_schema(part, source.columns(TABLE))
    return parts


def _open_csv(file: Path, width: int, delimiter: str, engine: DuckEngine) -> ir.Table:
    # Named by place: a header may hold names that DuckDB takes for the same, and columns that nobody asked for.
    names = {f"c{place}": "VARCHAR" for place in range(width)}
    return engine.con.read_csv(str(file), columns=names, header=True, delim=delimiter, quote='"', escape='"')


def _typed(column: ir.Column, kind: str) -> ir.Value:
    return column.try_cast(kind) if column.type().is_string() else column.cast(kind)


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
    kinds = {ours: schema.field(theirs).type for ours, theirs in columns.items()}
    faults = [
        f"column '{columns[ours]}' is {kinds[ours]}, expected {words}"
        for ours, (words, fits) in _EXPECTED.items()
        if not fits(kinds[ours])
    ]
    if faults:
        raise ContractError.broken(part.name, faults, MEND)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain)
    )


def _is_time(kind: pa.DataType) -> bool:
    return is_text(kind) or (pa.types.is_timestamp(kind) and kind.tz is None)


def _is_number(kind: pa.DataType) -> bool:
    plain = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    return bool(plain) or is_text(kind)


_EXPECTED: Mapping[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "customer_id": ("text", is_text),
    "timestamp": ("a timestamp without time zone", _is_time),
    **dict.fromkeys(READINGS.values(), ("a number", _is_number)),
}
