"""Open the hourly readings: one Parquet file or a folder of parts, judged by the Parquet schema alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.dataset as ds

from spanishgas.errors import ContractError
from spanishgas.etl.engine import DuckEngine
from spanishgas.etl.source import HOURS as TABLE
from spanishgas.etl.source import MEND, Source

READINGS = {"elec": "consumption_elec_kwh", "gas": "consumption_gas_m3"}


def open_hours(source: Source, engine: DuckEngine) -> ir.Table:
    """customer_id, hour (naive timestamp), elec and gas (kWh, m3), nothing read yet.

    Raises `ContractError` for a file that is missing or no Parquet, and for columns missing or of another type.
    """
    hours = engine.con.read_parquet([str(part) for part in parts_of(source)], union_by_name=True)
    time = hours.timestamp.try_cast("timestamp") if hours.timestamp.type().is_string() else hours.timestamp
    return hours.select(
        customer_id=hours.customer_id.cast("string"),
        hour=time.cast("timestamp"),
        **{name: hours[column].cast("float64") for name, column in READINGS.items()},
    )


def parts_of(source: Source) -> list[Path]:
    """The Parquet files of the hours, their columns and types held; errors as of `open_hours`."""
    file = source.present(TABLE)
    parts = sorted(file.rglob("*.parquet")) if file.is_dir() else [file]
    if not parts:
        raise ContractError.broken(file.name, ["the folder holds no .parquet file"], MEND)
    for part in parts:
        _check_schema(part)
    return parts


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
    """The error for a file that is no Parquet, in the words of the engine."""
    words = [f"cannot be read as Parquet: {str(fault).splitlines()[0]}"]
    return ContractError.broken(file.name, words, MEND)


def _check_schema(part: Path) -> None:
    try:
        schema = ds.dataset(part, format="parquet").schema
    except (pa.ArrowInvalid, OSError) as fault:
        raise unreadable(part, fault) from fault
    faults = [f"missing column '{name}'" for name in _EXPECTED if name not in schema.names]
    faults += [
        f"column '{name}' is {schema.field(name).type}, expected {words}"
        for name, (words, fits) in _EXPECTED.items()
        if name in schema.names and not fits(schema.field(name).type)
    ]
    if faults:
        raise ContractError.broken(part.name, faults, MEND)


def _is_text(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain)
    )


def _is_time(kind: pa.DataType) -> bool:
    return _is_text(kind) or (pa.types.is_timestamp(kind) and kind.tz is None)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


_EXPECTED: Mapping[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "customer_id": ("text", _is_text),
    "timestamp": ("a timestamp without time zone", _is_time),
    **dict.fromkeys(READINGS.values(), ("a number", _is_number)),
}
