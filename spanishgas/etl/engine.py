"""The engine that runs the Ibis expressions: opened here, and nowhere else named."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from spanishgas.errors import UsageError
from spanishgas.settings import settings

MEMORY = "400MB"
"""What DuckDB may hold before it spills to disk; the roll-up's groups of 20,000 customers need half of it."""


class Engine:
    """A connection, and the two things the stages ask of it: hold a table, write a table."""

    def __init__(self, con: Backend) -> None:
        self.con = con

    def hold(self, name: str, table: ir.Table, by: Sequence[str] = ()) -> ir.Table:
        """Compute `table` once and keep it under `name`, sorted by `by`.

        A single thread reads it back in that order, so that sums of floats are the same on every run.
        """
        held: ir.Table = self.con.create_table(
            name, table.order_by(list(by)) if by else table, temp=True, overwrite=True
        )
        return held

    def write(self, table: ir.Table, folder: Path) -> None:
        """Write a held table as Parquet into `folder`."""
        self.con.to_parquet(table, folder / "part-00000.parquet", compression="zstd")

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """All threads, no order: for passes over the hours, whose sums are of integers."""
        self.con.raw_sql(f"SET threads = {_threads()}")
        self.con.raw_sql("SET preserve_insertion_order = false")
        try:
            yield
        finally:
            self.con.raw_sql("SET threads = 1")
            self.con.raw_sql("SET preserve_insertion_order = true")


@contextmanager
def connect(name: str) -> Iterator[Engine]:
    """Open the named engine with one thread; what it spills to disk is gone afterwards."""
    if name == "spark":
        raise UsageError(
            "engine 'spark' comes with the extra 'spark' in a later version: use --engine duckdb"
        )
    if name != "duckdb":
        raise UsageError.unknown("engine", name, ["duckdb", "spark"])
    with tempfile.TemporaryDirectory(prefix="spanishgas-") as spill:
        con = ibis.duckdb.connect(threads=1, memory_limit=MEMORY, temp_directory=spill)
        try:
            yield Engine(con)
        finally:
            con.disconnect()


def _threads() -> int:
    import os

    return settings().threads or os.cpu_count() or 1
