"""The hourly roll-up on Spark beside DuckDB: the same files, the same customer-months to the last bit.

Spark runs on this machine alone; its start is timed apart. Each engine reads the files once before it is timed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from spanishgas.etl import hours, rollup
from spanishgas.etl.engine import duckdb
from spanishgas.etl.rollup import hours_of
from spanishgas.etl.source import Source, open_source
from spanishgas.raw_files import HOURS
from spanishgas.simulate import write_extract

AS_OF = date(2024, 12, 31)
ROUNDS = 3


def on_duckdb(source: Source) -> pd.DataFrame:
    """Customer-months by DuckDB."""
    with duckdb() as engine:
        rolled = rollup.roll_up(hours.open_hours(source, engine), AS_OF, engine)
        return _sorted(engine.fetch(rollup.customer_months(rolled.slots, AS_OF)).to_pandas())


def on_spark(source: Source) -> pd.DataFrame:
    """Customer-months by Spark, on the session that is there."""
    from spanishgas.etl import engine_spark

    with engine_spark.spark() as engine:
        rolled = hours_of(source, AS_OF, engine)
        return _sorted(engine.fetch(rollup.customer_months(rolled.slots, AS_OF)).to_pandas())


def main(customers: int = 2_000) -> None:
    """Print the seconds of each engine and their ratio."""
    from spanishgas.etl import engine_spark

    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        write_extract(raw, customers=customers, seed=7, as_of=AS_OF, labelled=True)
        source = open_source(raw)
        started = time.monotonic()
        session = engine_spark.start()
        start = time.monotonic() - started
        try:
            pd.testing.assert_frame_equal(on_spark(source), on_duckdb(source), check_exact=True)
            spark, duck = _seconds(on_spark, source), _seconds(on_duckdb, source)
            cores = session.sparkContext.defaultParallelism
        finally:
            session.stop()
        print(
            f"{pq.read_metadata(source.file(HOURS)).num_rows:,} hours of {customers:,} customers, {cores} cores"
        )
        print(
            f"DuckDB {duck:.1f} s, Spark {spark:.1f} s ({spark / duck:.1f} times), and {start:.1f} s to start it"
        )


def _seconds(run: Callable[[Source], pd.DataFrame], source: Source) -> float:
    """The median of some runs."""
    taken = []
    for _ in range(ROUNDS):
        started = time.monotonic()
        run(source)
        taken.append(time.monotonic() - started)
    return sorted(taken)[ROUNDS // 2]


def _sorted(months: pd.DataFrame) -> pd.DataFrame:
    return months.sort_values(["customer_id", "month"], ignore_index=True)[sorted(months.columns)]


def run(quick: bool) -> None:
    """The benchmark, on a tenth of the customers if `quick`."""
    main(200 if quick else 2_000)


if __name__ == "__main__":
    main()
