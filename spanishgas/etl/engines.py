"""The two engines by name.

duckdb   in this process, on one thread: the same bytes on every run
spark    a Spark session, this machine's or the cluster's
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from spanishgas.errors import UsageError
from spanishgas.etl.engine import DuckEngine, duckdb
from spanishgas.etl.engine_spark import SparkEngine, spark

Engine = DuckEngine | SparkEngine
ENGINES: Mapping[str, Callable[[], AbstractContextManager[Engine]]] = {"duckdb": duckdb, "spark": spark}


def connect(name: str) -> AbstractContextManager[Engine]:
    """Open the named engine; what it spills to disk is gone afterwards. `UsageError` for another name."""
    if name not in ENGINES:
        raise UsageError.unknown("engine", name, ENGINES)
    return ENGINES[name]()
