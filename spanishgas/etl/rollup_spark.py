"""The hourly roll-up in Spark SQL: the same passes and the same integers as on DuckDB, the tariff period per row.

hours -> slot and code of each row -> sums per customer and slot -> those of other hours than the calendar's again

A calendar from the driver would make Spark sort all hours for the join, so both are computed from the time. A reading
between two hours has a code that is not the calendar's; its customer is thus read a second time, as on DuckDB.
"""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from spanishgas.etl import calendar, rollup
from spanishgas.etl.engine_spark import SparkEngine
from spanishgas.etl.hours import READINGS
from spanishgas.etl.rollup import RollUp

HALF = 2**30
"""Units are summed as two halves in 64-bit integers, which Spark does several times as fast as decimals."""


def roll_up(hours: ir.Table, as_of: date, engine: SparkEngine) -> RollUp:
    """`rollup.roll_up` on Spark: `hours` is a table of the engine with customer_id, hour, elec and gas."""
    name, apart = hours.get_name(), []
    first = engine.keep("slots_first", engine.sql(_sums(stamped(name, as_of), "count(*)")))
    if engine.fetch(
        first.filter(first.n_rows > ibis.least(first.read_elec, first.read_gas)).limit(1)
    ).num_rows:
        apart.append(engine.materialize("bad_readings", rollup.bad_readings(hours)))
        usable = hours.filter(rollup.fault(hours).isnull())
        engine.sql(engine.con.compile(usable)).createOrReplaceTempView("usable_hours")
        name = "usable_hours"
        first = engine.keep("slots_first", engine.sql(_sums(stamped(name, as_of), "count(*)")))
    untimed = first.group_by("customer_id").agg(unreadable_time=(first.n_rows - first.timed).sum())
    suspects = engine.keep("suspects", engine.sql(_suspects(as_of)))
    engine.sql(_each_hour_once(name)).createOrReplaceTempView("hours_once")
    second = engine.keep("slots_second", engine.sql(_sums(stamped("hours_once", as_of), "sum(copies)")))
    if engine.fetch(suspects.limit(1)).num_rows:
        mine = hours.semi_join(suspects, "customer_id")
        apart.append(engine.materialize("between_hours", rollup.between_hours(mine, calendar.hours(as_of))))
    slots = engine.materialize("slots", first.anti_join(suspects, "customer_id").union(second))
    return RollUp(slots.filter(slots.slot.notnull()), rollup.counts(first, slots, untimed, *apart), hours)


def stamped(hours: str, as_of: date) -> str:
    """The hours with the slot of each (null outside the window) and a well mixed 40-bit code of its time."""
    year, month = map(int, calendar.window(as_of)[0].split("-"))
    place = f"year(hour) * 12 + month(hour) - {year * 12 + month}"
    days = ", ".join(str(int(day.replace("-", ""))) for day in calendar.HOLIDAYS)
    periods = ", ".join(map(str, calendar.WORKING_DAY))
    return f"""
        SELECT *, CASE WHEN place BETWEEN 0 AND {calendar.MONTHS - 1} THEN place * 10 + CASE
            WHEN weekday(hour) >= 5 OR month(hour) * 100 + day(hour) IN ({days}) THEN {calendar.OFFPEAK}
            ELSE array({periods})[hour(hour)] END END AS slot,
            shiftrightunsigned(xxhash64(hour), 24) AS code
        FROM (SELECT *, {place} AS place FROM {hours})"""


def _sums(stamped: str, copies: str) -> str:
    """`rollup`'s sums per customer and slot."""
    given = {name: f"coalesce({name}, 0D)" for name in READINGS}
    units = [
        f"try_cast(rint(({x} + abs({x})) * {rollup.UNIT / 2:.0f}D) AS bigint) AS u_{name}"
        for name, x in given.items()
    ]
    sums = [
        f"""CAST(sum(shiftright(u_{name}, 30)) AS decimal(20, 0)) * {HALF} + sum(u_{name} & {HALF - 1}) AS {name},
            count(u_{name}) AS read_{name}, count({name}) AS given_{name}, count_if({name} < 0) AS negative_{name}"""
        for name in READINGS
    ]
    totals = ", ".join(f"CAST({name} AS decimal(38, 0)) AS {name}" for name in READINGS)
    return f"""
        SELECT * EXCEPT ({", ".join(READINGS)}), {totals} FROM (
        SELECT customer_id, slot, count(*) AS n_rows, {copies} AS copies, sum(code) AS code, count(hour) AS timed,
            {", ".join(sums)}
        FROM (SELECT *, {", ".join(units)} FROM ({stamped}))
        GROUP BY customer_id, slot)"""


def _suspects(as_of: date) -> str:
    """Customers with a slot that does not hold each hour of the calendar's once."""
    window = calendar.window(as_of)
    hours = f"""(SELECT explode(sequence(timestamp_ntz'{window[0]}-01',
        add_months(date'{window[-1]}-01', 1)::timestamp_ntz - interval 1 hour, interval 1 hour)) AS hour)"""
    return f"""
        SELECT DISTINCT customer_id FROM slots_first JOIN
            (SELECT slot, count(*) AS hours, sum(code) AS whole FROM ({stamped(hours, as_of)}) GROUP BY slot)
        USING (slot) WHERE customer_id IS NOT NULL AND (n_rows <> hours OR code <> whole)"""


def _each_hour_once(hours: str) -> str:
    """The hours of the suspects, a reading between two hours at the hour before it, `copies` as one row."""
    readings = ", ".join(f"max({name}) AS {name}" for name in READINGS)
    return f"""
        SELECT customer_id, hour, count(*) AS copies, {readings} FROM
            (SELECT * EXCEPT (hour), date_trunc('HOUR', hour)::timestamp_ntz AS hour
             FROM {hours} LEFT SEMI JOIN suspects USING (customer_id))
        GROUP BY customer_id, hour"""
