"""DuckDB as the engine of the stages' Ibis expressions; engine_spark.py has Spark, with the same methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.duckdb import Backend
from ibis.formats.pyarrow import PyArrowData

from spanishgas.lifetime import temporary_folder
from spanishgas.settings import settings

MEMORY = "400MB"
"""What DuckDB may hold before it spills to disk; the roll-up's groups of 20,000 customers need half of it."""


@cache
def held(name: str, schema: ibis.Schema) -> ir.Table:
    """The table that an engine holds under `name`, as expressions see it.

    It is bound to no connection, and equal tables are one object: what is made of it can be kept for the next build.
    """
    return ibis.table(schema, name=name)


class DuckEngine:
    """DuckDB on a connection of its own. What each method promises holds for `SparkEngine` too."""

    name = "duckdb"

    def __init__(self, con: Backend, scratch: Path) -> None:
        self.con, self.scratch = con, scratch
        self.unpacked: dict[Path, list[Path]] = {}

    @property
    def reader(self) -> DuckEngine:
        """The DuckDB of this process, which reads the six small raw files on either engine: itself."""
        return self

    def import_table(self, name: str, table: ir.Table | pa.Table) -> ir.Table:
        """A table of the reader or of memory, for use in this engine's expressions under `name`."""
        if isinstance(table, ir.Table):
            return table
        self.con.con.register(name, table)
        return held(name, ibis.Schema.from_pyarrow(table.schema))

    def materialize(self, name: str, table: ir.Table, by: Sequence[str] = ()) -> ir.Table:
        """Compute `table` once and keep it under `name`, the rows of each group by `by[0]` in the order of `by`.

        Sums of floats over such a group are then the same on every run: a single thread reads them in that order.
        """
        schema = table.schema()
        insert = _sql(table.order_by(list(by)).op() if by else table.op())
        self.con.raw_sql(f'{_empty(name, schema)}; INSERT INTO "{name}" {insert}')
        return held(name, schema)

    def fetch(self, table: ir.Table) -> pa.Table:
        """The rows of `table` in memory, typed as its schema says."""
        rows = self.con.raw_sql(_sql(table.op())).to_arrow_table()
        return PyArrowData.convert_table(rows, table.schema())

    def write(self, table: ir.Table, folder: Path) -> None:
        """Write a materialized table into `folder` as Parquet, in the order in which it is kept."""
        self.con.to_parquet(table, folder / "part-00000.parquet", compression="zstd")

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """The time of passes over the hours, whose sums are of integers: all threads, in any order."""
        self.con.raw_sql(f"SET threads = {settings().cores}")
        self.con.raw_sql("SET preserve_insertion_order = false")
        try:
            yield
        finally:
            self.con.raw_sql("SET threads = 1")
            self.con.raw_sql("SET preserve_insertion_order = true")


@contextmanager
def duckdb() -> Iterator[DuckEngine]:
    """DuckDB with one thread."""
    with temporary_folder() as spill:
        con = ibis.duckdb.connect(threads=1, memory_limit=MEMORY, temp_directory=str(spill))
        try:
            con.raw_sql("SET TimeZone = 'UTC'")  # in which an instant is cast to a stamp
            con.raw_sql("CREATE TEMP MACRO rint(number) AS number")  # its cast to whole numbers rounds so
            (scratch := spill / "scratch").mkdir()
            yield DuckEngine(con, scratch)
        finally:
            con.disconnect()


@lru_cache(maxsize=1024)
def _sql(table: ops.Node) -> str:
    """DuckDB's SQL of an expression, once a process: on small tables compiling takes longer than running."""
    query: str = ibis.duckdb.compile(table.to_expr())
    return query


@lru_cache(maxsize=256)
def _empty(name: str, schema: ibis.Schema) -> str:
    """The statement that makes an empty table of Ibis's types, for DuckDB sums whole numbers to 128 bits."""
    columns = ", ".join(column.sql("duckdb") for column in schema.to_sqlglot_column_defs("duckdb"))
    return f'CREATE OR REPLACE TEMP TABLE "{name}" ({columns})'
