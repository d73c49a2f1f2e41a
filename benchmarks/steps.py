"""What `benchmarks.data` measures, each step in a process: `python -m benchmarks.steps STEP FOLDER [CUSTOMERS]`.

A step prints its seconds, CPU seconds and peak memory as JSON, and where it sums the hours the total in kWh: the
three ways to sum must agree. Imports are outside the seconds and inside the peak.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

AS_OF = date(2024, 12, 31)
CHUNK = 2_000_000
HOURS_OF_YEAR = 8_784
Work = Callable[[], float | None]

DECODE = """SELECT any_value(customer_id), any_value("timestamp"), any_value(consumption_elec_kwh),
                   any_value(consumption_gas_m3) FROM read_parquet('{file}')"""
SLOTS = """
CREATE TEMP TABLE {name} AS
SELECT customer_id, slot, count(*) AS n, sum(code) AS code,
       sum(elec + abs(elec)) / 2 AS elec, sum(gas + abs(gas)) / 2 AS gas
FROM {hours} LEFT JOIN calendar USING (hour) GROUP BY customer_id, slot"""
HOURS = """(SELECT customer_id, "timestamp" AS hour, consumption_elec_kwh AS elec, consumption_gas_m3 AS gas
            FROM read_parquet('{file}'))"""
SUSPECTS = """
CREATE TEMP TABLE suspects AS SELECT DISTINCT customer_id FROM slots JOIN
(SELECT slot, count(*) AS whole, sum(code) AS codes FROM calendar GROUP BY slot) USING (slot)
WHERE n <> whole OR code <> codes"""
EMPTY = "CREATE TEMP TABLE again AS FROM slots LIMIT 0"
ONCE = """(SELECT customer_id, hour, max(elec) AS elec, max(gas) AS gas FROM {hours}
           SEMI JOIN suspects USING (customer_id) GROUP BY customer_id, hour)"""
PIVOT = """
CREATE TEMP TABLE months AS
SELECT customer_id, slot // 10 AS month, sum(elec) AS elec, sum(gas) AS gas,
       sum(elec) FILTER (slot % 10 = 1) AS elec_1, sum(elec) FILTER (slot % 10 = 2) AS elec_2,
       sum(elec) FILTER (slot % 10 = 3) AS elec_3, sum(gas) FILTER (slot % 10 = 1) AS gas_1,
       sum(gas) FILTER (slot % 10 = 2) AS gas_2, sum(gas) FILTER (slot % 10 = 3) AS gas_3
FROM (FROM slots ANTI JOIN suspects USING (customer_id) UNION ALL FROM again) GROUP BY customer_id, month"""


def _hours(folder: Path) -> Path:
    return folder / "raw" / "consumption_hourly_2024.parquet"


def draw(folder: Path, customers: int) -> Work:
    """The simulator draws a whole extract."""
    from spanishgas.simulate import write_extract

    return lambda: write_extract(
        folder / "raw", customers=customers, seed=1, as_of=AS_OF, labelled=True, truth=folder / "truth"
    )


def decode(folder: Path, _: int) -> Work:
    """DuckDB decodes the four columns and does next to nothing with them."""
    import duckdb

    def work() -> None:
        duckdb.connect().execute(DECODE.format(file=_hours(folder)))

    return work


def by_hand(folder: Path, _: int) -> Work:
    """SQL for this file alone: floats in any order, no look at bad values, copies of an hour found by sums of codes."""
    import duckdb

    from spanishgas.etl import calendar

    def work() -> float:
        con = duckdb.connect()
        con.execute("SET preserve_insertion_order = false")
        con.register("frame", calendar.hours(AS_OF))
        con.execute("CREATE TEMP TABLE calendar AS SELECT hour, slot, code::DOUBLE AS code FROM frame")
        hours = HOURS.format(file=_hours(folder))
        con.execute(SLOTS.format(name="slots", hours=hours))
        con.execute(SUSPECTS)
        doubtful = con.execute("SELECT count(*) FROM suspects").fetchall()[0][0]
        con.execute(SLOTS.format(name="again", hours=ONCE.format(hours=hours)) if doubtful else EMPTY)
        con.execute(PIVOT)
        return float(con.execute("SELECT sum(elec) FROM months").fetchall()[0][0])

    return work


def roll_up(folder: Path, _: int) -> Work:
    """Ours: from opening the file to the customer-months."""
    from spanishgas.etl import rollup
    from spanishgas.etl.engine import duckdb
    from spanishgas.etl.rollup import hours_of
    from spanishgas.etl.source import open_source

    def work() -> float:
        with duckdb() as engine:
            rolled = hours_of(open_source(folder / "raw"), AS_OF, engine)
            months = engine.materialize("months", rollup.customer_months(rolled.slots, AS_OF))
            return float(engine.fetch(months.aggregate(kwh=months.monthly_elec_kwh.sum()))["kwh"][0].as_py())

    return work


def pandas(folder: Path, _: int) -> Work:
    """pandas, 2,000,000 rows at a time: the same answer, an hour that stands twice with its larger reading.

    Chunks end where a customer ends, as these files allow, so that copies of an hour meet in one chunk.
    """
    import numpy as np
    import pandas as pd
    import pyarrow.parquet as pq

    from spanishgas.config.tariff import tariff

    amounts = ["consumption_elec_kwh", "consumption_gas_m3"]
    periods = np.array([3] * 8 + [2] * 2 + [1] * 4 + [2] * 4 + [1] * 4 + [2] * 2)
    holidays = [int(day.replace("-", "")) for day in tariff().holidays.fixed]

    def chunk(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows.groupby(["customer_id", "timestamp"], as_index=False)[amounts].max()
        time = rows["timestamp"]
        off = (time.dt.dayofweek >= 5) | (time.dt.month * 100 + time.dt.day).isin(holidays)
        rows["month"] = time.dt.month
        rows["period"] = np.where(off, 3, periods[time.dt.hour])
        rows[amounts] = rows[amounts].clip(lower=0)
        return rows.groupby(["customer_id", "month", "period"], as_index=False)[amounts].sum()

    def work() -> float:
        batches = pq.ParquetFile(_hours(folder)).iter_batches(CHUNK // HOURS_OF_YEAR * HOURS_OF_YEAR)
        parts = pd.concat([chunk(batch.to_pandas()) for batch in batches])
        months = parts.groupby(["customer_id", "month", "period"])[amounts].sum().unstack("period")
        return float(months["consumption_elec_kwh"].to_numpy().sum())

    return work


def gold(folder: Path, _: int) -> Work:
    """The whole ETL into a new lake."""
    from spanishgas.etl.build import build
    from spanishgas.lake import Lake

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as lake:
            build(folder / "raw", Lake(Path(lake)), AS_OF)

    return work


def peak_mb() -> float:
    """This process's largest resident size, from Linux (getrusage's begins at the parent's)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


STEPS: dict[str, Callable[[Path, int], Work]] = {
    step.__name__: step for step in (draw, decode, by_hand, roll_up, pandas, gold)
}


def main(step: str, folder: str, customers: str = "0") -> None:
    """Do one step and print what it took."""
    work = STEPS[step](Path(folder), int(customers))
    started, cpu = time.monotonic(), time.process_time()
    total = work()
    taken = {
        "seconds": time.monotonic() - started,
        "cpu": time.process_time() - cpu,
        "peak_mb": peak_mb(),
        "total": total,
    }
    print(json.dumps(taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
