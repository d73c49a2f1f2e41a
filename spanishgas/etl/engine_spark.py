"""Spark behind the same expressions, and how it opens the hours.

The session is the one that spark-submit or the caller gave, else one on this machine.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from ibis.formats.pyarrow import PyArrowData

from spanishgas.config.reading import packaged
from spanishgas.errors import SpanishGasError
from spanishgas.etl import hours
from spanishgas.etl.engine import DuckEngine, duckdb, held
from spanishgas.etl.hours import READINGS
from spanishgas.etl.parquet import is_text
from spanishgas.etl.source import Source
from spanishgas.lake import SCHEME
from spanishgas.lifetime import temporary_folder
from spanishgas.raw_files import HOURS
from spanishgas.settings import settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROWS_PER_PART = 1_000_000
"""Rows of one Parquet part; the driver holds one part at a time."""
SMALL = 10 * 2**20
"""Bytes of a table that every executor gets whole: else Spark sorts all hours to join the calendar."""
WAY_OUT = "install Java 17 and the extra 'spark' (make dev, or pip install 'spanishgas[spark]'), or use --engine duckdb"
SETTINGS: Mapping[str, dict[str, str]] = packaged(__file__)


class SparkEngine:
    """A session of its own on the given one's cluster: its views and settings are nobody else's."""

    name = "spark"

    def __init__(self, session: SparkSession, reader: DuckEngine, scratch: Path) -> None:
        self.session = session.newSession()
        self.reader, self.scratch = reader, scratch
        self.con = ibis.pyspark.connect(self.session, **SETTINGS["queries"])
        self._order: dict[str, Sequence[str]] = {}

    @property
    def local(self) -> bool:
        """Whether the executors run on the driver's machine."""
        return str(self.session.sparkContext.master).startswith("local")

    def view(self, name: str, frame: DataFrame) -> ir.Table:
        """`frame` under `name`, not computed yet."""
        frame.createOrReplaceTempView(name)
        return held(name, self.con.table(name).schema())

    def import_table(self, name: str, table: ir.Table | pa.Table) -> ir.Table:
        """Bring a table of the driver to Spark."""
        from pyspark.sql import functions as F

        rows = self.reader.fetch(table) if isinstance(table, ir.Table) else table
        frame = self.session.createDataFrame(rows)
        return self.view(name, F.broadcast(frame) if rows.nbytes < SMALL else frame)

    def fetch(self, table: ir.Table) -> pa.Table:
        """The rows of `table` on the driver, typed as its schema says."""
        return PyArrowData.convert_table(self._frame(table).toArrow(), table.schema())

    def materialize(self, name: str, table: ir.Table, by: Sequence[str] = ()) -> ir.Table:
        """Compute `table` once and keep it under `name`, all rows of a `by[0]` side by side in the order of `by`."""
        frame = self._frame(table)
        self._order[name] = by
        frame = _sorted(frame.repartition(by[0]), by) if by else frame
        return self.view(name, frame.localCheckpoint())  # its plan is cut, so later ones do not grow with it

    def write(self, table: ir.Table, folder: Path) -> None:
        """Write a materialized table as Parquet parts into `folder`, on the driver and a part at a time."""
        from pyspark.sql import functions as F

        frame = self.session.table(table.get_name())
        by = self._order[table.get_name()]
        count = max(1, -(-frame.count() // ROWS_PER_PART))
        whole = frame.coalesce(1) if count == 1 else frame.repartitionByRange(count, *by)
        whole = _sorted(whole, by).localCheckpoint()
        for part in range(count):
            rows = whole.filter(F.spark_partition_id() == part).toArrow()
            pq.write_table(rows, folder / f"part-{part:05d}.parquet", compression="zstd")

    def streaming(self) -> AbstractContextManager[None]:
        """As ever."""
        return nullcontext()

    def _frame(self, table: ir.Table) -> DataFrame:
        return self.session.sql(self.con.compile(table))


def _sorted(frame: DataFrame, by: Sequence[str]) -> DataFrame:
    """Each partition in order, nulls last as on DuckDB."""
    return frame.sortWithinPartitions(*(frame[name].asc_nulls_last() for name in by))


@contextmanager
def spark() -> Iterator[SparkEngine]:
    """Open Spark; a session that was there before stays open. `SpanishGasError` without pyspark or Java."""
    if not importlib.util.find_spec("pyspark"):
        raise SpanishGasError(f"engine 'spark' needs pyspark, which is not installed: {WAY_OUT}")
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    session = active or start()
    try:
        with duckdb() as reader, temporary_folder() as scratch:
            yield SparkEngine(session, reader, scratch)
    finally:
        if not active:
            session.stop()


def start() -> SparkSession:
    """A new session: what spark-submit or SPARK_MASTER says, else all cores of this machine."""
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    builder: Any = SparkSession.builder.appName("spanishgas")
    if master := os.environ.get("SPARK_MASTER"):
        builder = builder.master(master)
    elif (
        "PYSPARK_GATEWAY_PORT" not in os.environ
    ):  # which spark-submit sets, with a master and memory of its own
        builder = builder.master(f"local[{settings().threads or '*'}]").config(map=SETTINGS["local"])
    try:
        session: SparkSession = builder.getOrCreate()
    except PySparkRuntimeError as fault:
        raise SpanishGasError(f"Spark does not start ({str(fault).splitlines()[0]}): {WAY_OUT}") from fault
    return session


def open_hours(source: Source, engine: SparkEngine) -> ir.Table:
    """customer_id, hour (naive timestamp), elec and gas (kWh, m3), the three as written; errors as on DuckDB.

    Nothing is read yet, unless times or readings are text, which engines read differently, or floats of 16 bits, which
    Spark does not know: DuckDB then writes the hours anew, which takes a driver whose files the executors see.
    """
    columns, alike = source.columns(HOURS), dict[str, list[str]]()
    if not hours.is_parquet(source) or not source.format(HOURS).typed_hours_stand:
        return _rewritten(source, engine)
    for part in hours.parts_of(source):
        schema = ds.dataset(part, format="parquet").schema
        kinds = [
            schema.field(columns[name]).type for name in ("timestamp", *READINGS.values()) if name in columns
        ]
        if any(is_text(kind) or pa.types.is_float16(kind) for kind in kinds):
            return _rewritten(source, engine)
        alike.setdefault(str(schema.remove_metadata()), []).append(_address(part, source, engine))
    # Parts whose columns differ in type are read apart: Spark casts none of them by itself.
    whole, *others = [_named(engine.session.read.parquet(*paths), columns) for paths in alike.values()]
    for frame in others:
        whole = whole.unionByName(frame)
    return hours.typed(engine.view("hours", whole), {name: name for name in columns})


def _rewritten(source: Source, engine: SparkEngine) -> ir.Table:
    opened = hours.open_hours(source, engine.reader)
    # as text, for Spark reads nanoseconds as numbers
    opened = opened.cast({name: "string" for name in opened.columns if name.startswith("written")})
    with engine.reader.streaming(), hours.reading(source.file(HOURS)):
        engine.reader.write(opened, engine.scratch)
    return engine.view("hours", engine.session.read.parquet(str(engine.scratch)))


def _address(part: Path, source: Source, engine: SparkEngine) -> str:
    """Where the executors find a part, not as a pattern: those of other machines not in the driver's downloads."""
    if engine.local or not source.place.startswith(SCHEME):
        return re.sub(r"[\[\]{}*?]", r"\\\g<0>", str(part))
    return f"{source.place.rstrip('/')}/{part.relative_to(source.folder)}"


def _named(frame: DataFrame, columns: Mapping[str, str]) -> DataFrame:
    """The columns under our names; ids are text, and times are as they are written, to the microsecond."""
    theirs = {ours: f"`{name.replace('`', '``')}`" for ours, name in columns.items()}
    how = {"customer_id": "{}::string", "timestamp": "{}::timestamp_ntz"}
    if dict(frame.dtypes)[columns["timestamp"]] == "bigint":  # nanoseconds
        how["timestamp"] = "timestamp_micros({} div 1000)::timestamp_ntz"
    return frame.selectExpr(
        *(f"{how.get(ours, '{}').format(name)} AS {ours}" for ours, name in theirs.items())
    )


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
