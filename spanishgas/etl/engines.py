"""The two engines by name: how each is opened, and how it opens and rolls up the hours.

duckdb   in this process, on one thread: the same bytes on every run
spark    a Spark session, this machine's or the cluster's
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import date

from spanishgas.errors import UsageError
from spanishgas.etl import hours
from spanishgas.etl.engine import DuckEngine, Engine, duckdb
from spanishgas.etl.rollup import DuckSums, RollUp, roll_up
from spanishgas.etl.source import Source
from spanishgas.raw_files import HOURS

ENGINES = ("duckdb", "spark")


def connect(name: str) -> AbstractContextManager[Engine]:
    """Open the named engine; what it spills to disk is gone afterwards. `UsageError` for another name."""
    if name not in ENGINES:
        raise UsageError.unknown("engine", name, ENGINES)
    if name == "duckdb":
        return duckdb()
    from spanishgas.etl import engine_spark

    return engine_spark.spark()


def hours_of(source: Source, as_of: date, engine: Engine) -> RollUp:
    """The hours of an extract, opened and rolled up by the engine."""
    file = source.file(HOURS)
    if isinstance(engine, DuckEngine):
        opened = hours.open_hours(source, engine)
        with hours.reading(file):
            return roll_up(opened, as_of, engine, DuckSums(engine, source))
    from spanishgas.etl import engine_spark

    assert isinstance(engine, engine_spark.SparkEngine)
    with engine_spark.reading(file):
        opened = engine_spark.open_hours(source, engine)
        return roll_up(opened, as_of, engine, engine_spark.SparkSums(engine))
