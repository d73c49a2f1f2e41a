"""Open the hourly readings on Spark, in the columns that `hours.open_hours` gives on DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.dataset as ds

from spanishgas.etl import hours
from spanishgas.etl.engine_spark import SparkEngine
from spanishgas.etl.hours import READINGS
from spanishgas.etl.parquet import is_text
from spanishgas.etl.source import Source
from spanishgas.lake import SCHEME
from spanishgas.raw_files import CSV, HOURS

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def open_hours(source: Source, engine: SparkEngine) -> ir.Table:
    """customer_id, hour (naive timestamp), elec and gas (kWh, m3), the three as written; errors as on DuckDB.

    Nothing is read yet, unless times or readings are text, which engines read differently, or floats of 16 bits, which
    Spark does not know: DuckDB then writes the hours anew, which takes a driver whose files the executors see.
    """
    columns, alike = source.columns(HOURS), dict[str, list[str]]()
    if source.present(HOURS).name.endswith(CSV):
        return _rewritten(source, engine)
    for part in hours.parts_of(source):
        schema = ds.dataset(part, format="parquet").schema
        kinds = [schema.field(columns[name]).type for name in ("timestamp", *READINGS.values())]
        if any(is_text(kind) or pa.types.is_float16(kind) for kind in kinds):
            return _rewritten(source, engine)
        alike.setdefault(str(schema.remove_metadata()), []).append(_address(part, source, engine))
    # Parts whose columns differ in type are read apart: Spark casts none of them by itself.
    frames = [_named(engine.session.read.parquet(*paths), columns) for paths in alike.values()]
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.unionByName(frame)
    return engine.view("hours", whole)


def _rewritten(source: Source, engine: SparkEngine) -> ir.Table:
    with engine.reader.streaming(), hours.reading(source.file(HOURS)):
        engine.reader.write(hours.open_hours(source, engine.reader), engine.scratch)
    return engine.view("hours", engine.session.read.parquet(str(engine.scratch)))


def _address(part: Path, source: Source, engine: SparkEngine) -> str:
    """Where the executors find a part: those of other machines not in the driver's downloads."""
    if engine.local or not source.place.startswith(SCHEME):
        return str(part)
    return f"{source.place.rstrip('/')}/{part.relative_to(source.folder)}"


def _named(frame: DataFrame, columns: Mapping[str, str]) -> DataFrame:
    theirs = {ours: f"`{name.replace('`', '``')}`" for ours, name in columns.items()}
    nanoseconds = dict(frame.dtypes)[columns["timestamp"]] == "bigint"
    time = f"timestamp_micros({theirs['timestamp']} div 1000)" if nanoseconds else theirs["timestamp"]
    readings = [f"{theirs[column]}::double AS {name}" for name, column in READINGS.items()]
    times = [f"{time}::timestamp_ntz AS hour", f"{time}::timestamp_ntz::string AS written"]
    readings += [f"{theirs[column]}::string AS written_{name}" for name, column in READINGS.items()]
    return frame.selectExpr(f"{theirs['customer_id']}::string AS customer_id", *times, *readings)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn a page of Parquet that cannot be decoded into a `ContractError`."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JJavaError, PySparkException) as fault:
        if "FAILED_READ_FILE" not in str(fault) and "parquet" not in str(fault):
            raise
        raise hours.unreadable(file, fault) from fault
