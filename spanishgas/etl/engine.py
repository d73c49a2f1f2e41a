"""The engine that runs the Ibis expressions: opened here, and nowhere else named.

duckdb   in this process, on one thread: the same bytes on every run
spark    a Spark session, this machine's or the cluster's (engine_spark.py)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from spanishgas.errors import UsageError
from spanishgas.lifetime import temporary_folder
from spanishgas.settings import settings

MEMORY = "400MB"
"""What DuckDB may hold before it spills to disk; the roll-up's groups of 20,000 customers need half of it."""
ENGINES = ("duckdb", "spark")


class Engine(Protocol):
    """What the stages ask of an engine."""

    name: str

    @property
    def reader(self) -> DuckEngine:
        """The DuckDB of this process, which reads the six small raw files: text parses alike on both engines."""
        ...

    def take(self, name: str, table: ir.Table) -> ir.Table:
        """A table of the reader or of memory, for use in this engine's expressions."""
        ...

    def hold(self, name: str, table: ir.Table, by: Sequence[str] = ()) -> ir.Table:
        """Compute `table` once and keep it under `name`, the rows of each group by `by[0]` in the order of `by`.

        Sums of floats over such a group are then the same on every run.
        """
        ...

    def write(self, table: ir.Table, folder: Path) -> None:
        """Write a held table as Parquet parts into `folder`, in the order in which it is held."""
        ...


class DuckEngine:
    """DuckDB on a connection of its own."""

    name = "duckdb"

    def __init__(self, con: Backend) -> None:
        self.con = con

    @property
    def reader(self) -> DuckEngine:
        """Itself."""
        return self

    def take(self, name: str, table: ir.Table) -> ir.Table:
        """As it is: DuckDB reads what lies in memory."""
        return table

    def hold(self, name: str, table: ir.Table, by: Sequence[str] = ()) -> ir.Table:
        """Compute `table` once and keep it under `name`, sorted by `by`: a single thread reads it in that order."""
        ordered = table.order_by(list(by)) if by else table
        # Only where a table is replaced: Ibis then copies it once more.
        overwrite = name in self.con.list_tables(database=("temp", "main"))
        held: ir.Table = self.con.create_table(name, ordered, temp=True, overwrite=overwrite)
        return held

    def write(self, table: ir.Table, folder: Path) -> None:
        """Write a held table as one Parquet file into `folder`."""
        self.con.to_parquet(table, folder / "part-00000.parquet", compression="zstd")

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """All threads, no order: for passes over the hours, whose sums are of integers."""
        self.con.raw_sql(f"SET threads = {settings().cores}")
        self.con.raw_sql("SET preserve_insertion_order = false")
        try:
            yield
        finally:
            self.con.raw_sql("SET threads = 1")
            self.con.raw_sql("SET preserve_insertion_order = true")


def connect(name: str) -> AbstractContextManager[Engine]:
    """Open the named engine; what it spills to disk is gone afterwards. `UsageError` for another name."""
    if name not in ENGINES:
        raise UsageError.unknown("engine", name, ENGINES)
    if name == "duckdb":
        return duckdb()
    from spanishgas.etl import engine_spark

    return engine_spark.spark()


@contextmanager
def duckdb() -> Iterator[DuckEngine]:
    """DuckDB with one thread."""
    with temporary_folder() as spill:
        con = ibis.duckdb.connect(threads=1, memory_limit=MEMORY, temp_directory=str(spill))
        try:
            yield DuckEngine(con)
        finally:
            con.disconnect()
