"""Open the hourly readings on Spark, in the columns that `hours.open_hours` gives on DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import ibis.expr.types as ir
import pyarrow.dataset as ds

from spanishgas.errors import UsageError
from spanishgas.etl.engine_spark import SparkEngine
from spanishgas.etl.hours import READINGS, parts_of, unreadable
from spanishgas.etl.source import CSV, HOURS, Source

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

TIME = r"^\\s*\\d{4}-\\d{1,2}-\\d{1,2}([ T]\\d{1,2}:\\d{1,2}(:\\d{1,2}([.]\\d+)?)?)?\\s*$"
"""Spark alone would take half a date for a time."""


def open_hours(source: Source, engine: SparkEngine) -> ir.Table:
    """customer_id, hour (naive timestamp), elec and gas (kWh, m3), nothing read yet; errors as on DuckDB.

    Takes Parquet alone: `UsageError` for CSV.
    """
    if source.file(HOURS).name.endswith(CSV):
        raise UsageError(
            f"engine 'spark' reads hours from Parquet, but found {source.file(HOURS).name}: use --engine duckdb"
        )
    alike: dict[str, list[str]] = {}
    for part in parts_of(source):
        alike.setdefault(str(ds.dataset(part, format="parquet").schema), []).append(str(part))
    # Parts whose columns differ in type are read apart: Spark casts none of them by itself.
    frames = [_named(engine.session.read.parquet(*paths), source.columns(HOURS)) for paths in alike.values()]
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.unionByName(frame)
    whole.createOrReplaceTempView("hours")
    return engine.con.table("hours")


def _named(frame: DataFrame, columns: Mapping[str, str]) -> DataFrame:
    kinds = dict(frame.dtypes)
    theirs = {ours: f"`{name.replace('`', '``')}`" for ours, name in columns.items()}
    stamp = theirs["timestamp"]
    time = {
        "string": f"CASE WHEN {stamp} RLIKE '{TIME}' THEN try_cast(trim({stamp}) AS timestamp_ntz) END",
        "bigint": f"timestamp_micros({stamp} div 1000)::timestamp_ntz",  # nanoseconds
    }.get(kinds[columns["timestamp"]], f"{stamp}::timestamp_ntz")
    # A number always fits, and a text that is none is null.
    readings = [f"try_cast({theirs[column]} AS double) AS {name}" for name, column in READINGS.items()]
    return frame.selectExpr(f"{theirs['customer_id']}::string AS customer_id", f"{time} AS hour", *readings)


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
        raise unreadable(file, fault) from fault
