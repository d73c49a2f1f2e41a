"""The hourly roll-up: one streaming pass from hours to customer-months, exact and independent of row order.

    hours -> join the calendar (8,784 rows) -> sums per customer and slot (month x tariff period) -> customer-months

- Readings become whole units of 1e-12, so sums are of integers: the result is the same to the last bit for any order
  of rows and any number of threads.
- A reading that is no such number (infinite, NaN, more than a city's load) is left out and counted. On clean hours
  nothing is asked for this: the pass counts such readings, and only where there are some begins anew without them.
- The same pass sums a 40-bit code per hour. A slot whose number of rows and sum of codes are the calendar's holds
  each of its hours once (but for one chance in 2^40). Only customers with another slot are read a second time, so that
  an hour that stands twice counts once, with the larger reading of each commodity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from spanishgas.contracts.tables import LARGEST_READING, PERIODS
from spanishgas.etl import calendar, engine_spark, ordered
from spanishgas.etl.engine import DuckEngine
from spanishgas.etl.engines import Engine
from spanishgas.etl.hours import READINGS, is_parquet, open_hours, parts_of, reading
from spanishgas.etl.source import Source
from spanishgas.raw_files import HOURS
from spanishgas.settings import settings

UNIT = 1e12
HALF = 30
KWH_PER_M3 = 11.0
SET_APART = ("unreadable_time", "between_hours", *(f"bad_{name}" for name in READINGS))
"""Hours of a customer that cannot be used, or not as they stand, by what is wrong with them."""


@dataclass(frozen=True)
class RollUp:
    """What one or two passes over the hours found."""

    slots: ir.Table
    """customer_id, slot, elec and gas in units of 1e-12: the slots that hold at least one hour."""
    counts: ir.Table
    """Per customer id (null and blank ones included) the rows of the file by what became of them."""
    hours: ir.Table
    """The hours as they were opened, to find examples in."""


def hours_of(source: Source, as_of: date, engine: Engine) -> RollUp:
    """The hours of an extract, opened and rolled up by the engine."""
    file = source.file(HOURS)
    if isinstance(engine, DuckEngine):
        opened = open_hours(source, engine)
        with reading(file):
            return roll_up(opened, as_of, engine, source)
    with engine_spark.reading(file):
        return roll_up(engine_spark.open_hours(source, engine), as_of, engine)


def roll_up(hours: ir.Table, as_of: date, engine: Engine, source: Source | None = None) -> RollUp:
    """Roll the hours of the window before `as_of` up; those that cannot be used are left out and counted.

    With the `source` that they were opened from, Parquet files in order are summed the faster way of `ordered`.
    """
    frame = calendar.hours(as_of)
    clock = engine.import_table("calendar", pa.Table.from_pandas(frame, preserve_index=False))
    with engine.streaming():
        usable, first, apart = _first_pass(hours, frame, clock, engine, source)
        odd = _suspects(first, clock)
        if _any(first.filter(first.slot.isnull()), engine):
            off = engine.materialize("off_the_hour", _off_the_hour(usable, frame))
            between = _between_hours(usable.semi_join(off, "customer_id"), frame)
            lost = usable.filter(usable.hour.isnull())
            lost = lost.group_by("customer_id").agg(unreadable_time=lost.count())
            apart.append(engine.materialize("untimed", lost))
            apart.append(engine.materialize("between_hours", between))
            odd = odd.union(off, distinct=True)
        suspects = engine.materialize("suspects", odd)
        slots = first
        if _any(suspects, engine):
            second = engine.materialize("slots_second", _sums(_each_hour_once(usable, suspects), clock))
            slots = engine.materialize("slots", first.anti_join(suspects, "customer_id").union(second))
        return RollUp(slots.filter(slots.slot.notnull()), _counts(first, slots, *apart), hours)


def _first_pass(
    hours: ir.Table, frame: pd.DataFrame, clock: ir.Table, engine: Engine, source: Source | None
) -> tuple[ir.Table, ir.Table, list[ir.Table]]:
    """The hours that can be summed, their sums by slot, and what had to be set apart for that."""
    in_order = _in_order(source, frame, engine) if source and is_parquet(source) else None
    first = engine.materialize("slots_first", _sums(hours, clock) if in_order is None else in_order)
    if in_order is not None or not _any(first.filter(first.unfit > 0), engine):
        return hours, first, []
    usable = hours.filter(fault(hours).isnull())
    apart = engine.materialize("bad_readings", bad_readings(hours))
    return usable, engine.materialize("slots_first", _sums(usable, clock)), [apart]


def _any(table: ir.Table, engine: Engine) -> bool:
    return bool(engine.fetch(table.limit(1)).num_rows)


def _in_order(source: Source, frame: pd.DataFrame, engine: Engine) -> ir.Table | None:
    """The sums of hours that stand in order, as `_sums` has them; None of others."""
    summed = ordered.sums(parts_of(source), source.columns(HOURS), frame, UNIT, settings().cores)
    if summed is None:
        return None
    runs = engine.import_table("runs", summed).cast({"slot": "int64"})
    rows = runs.n_rows.sum()
    return runs.group_by("customer_id", "slot").agg(
        n_rows=rows,
        copies=rows,
        code=runs.code.sum(),
        **{name: runs[name].sum().cast("decimal(38, 0)") for name in READINGS},
        unfit=ibis.literal(0, "int64"),
        **{f"given_{name}": rows for name in READINGS},
        **{f"negative_{name}": runs[f"negative_{name}"].sum() for name in READINGS},
    )


def fault(hours: ir.Table) -> ir.StringValue:
    """Which reading (elec, gas) of an hour cannot be summed; null where both can. One below 0 can: as 0."""
    wrong = {name: (u := _units(hours[name])).isnan() | (u >= LARGEST_READING * UNIT) for name in READINGS}
    return ibis.cases(*((odd.fill_null(False), name) for name, odd in wrong.items()))


def bad_readings(hours: ir.Table) -> ir.Table:
    """Per customer id the hours that `fault` names, by reading."""
    judged = hours.mutate(fault=fault(hours))
    judged = judged.filter(judged.fault.notnull())
    kinds = {f"bad_{name}": (judged.fault == name).cast("int64").sum() for name in READINGS}
    return judged.group_by("customer_id").agg(**kinds)


def customer_months(slots: ir.Table, as_of: date) -> ir.Table:
    """One row per customer and month that has an hour: totals and the split by tariff period, in kWh and m3."""
    slots = slots.mutate(place=slots.slot // 10, period=slots.slot % 10)
    sums = {
        **{f"elec_kwh_{name}": _amount(slots, slots.elec, [i]) for i, name in enumerate(PERIODS, 1)},
        **{f"gas_m3_{name}": _amount(slots, slots.gas, [i]) for i, name in enumerate(PERIODS, 1)},
        "monthly_elec_kwh": _amount(slots, slots.elec, [1, 2, 3]),
        "monthly_gas_m3": _amount(slots, slots.gas, [1, 2, 3]),
    }
    months = slots.group_by("customer_id", "place").agg(**sums)
    names = [(months.place == place, month) for place, month in enumerate(calendar.window(as_of))]
    return months.mutate(
        month=ibis.cases(*names),
        monthly_gas_kwh=months.monthly_gas_m3 * KWH_PER_M3,
        **{f"gas_kwh_{name}": months[f"gas_m3_{name}"] * KWH_PER_M3 for name in PERIODS},
    ).drop("place")


def _amount(slots: ir.Table, units: ir.Column, periods: Sequence[int]) -> ir.Value:
    return ibis.ifelse(slots.period.isin(periods), units, 0).sum().cast("float64") / UNIT


def _units(reading: ir.FloatingColumn) -> ir.FloatingValue:
    """A reading in units of 1e-12, one below 0 as 0: x + |x| is twice the greater of the two, and cheaper per row."""
    twice: ir.FloatingValue = reading + reading.abs()
    return twice * (UNIT / 2)


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def rint(number: float) -> float:  # type: ignore[empty-body]
    """The nearest whole number, of two the even one; DuckDB has a macro of this name."""


def _sums(hours: ir.Table, clock: ir.Table) -> ir.Table:
    """Per customer and slot (null: outside the window, or no time that can be read) all that is asked of the hours.

    `unfit` counts readings that are no number of units. The units are summed as two halves in 64-bit integers: Spark
    sums decimals several times as slowly.
    """
    units = {name: rint(_units(hours[name])).try_cast("int64") for name in READINGS}
    hours = hours.mutate(**{f"u_{name}": unit for name, unit in units.items()})
    hours = hours.join(clock, "hour", how="left")
    # counted, not asked for: on Spark Ibis takes NaN for null
    unfit = [hours[name].count() - hours[f"u_{name}"].count() for name in READINGS]
    return hours.group_by("customer_id", "slot").agg(
        n_rows=hours.count(),
        copies=hours.copies.sum() if "copies" in hours.columns else hours.count(),
        # exact for every number of rows that the calendar has in a slot
        code=hours.code.cast("float64").sum(),
        **{name: _total(hours[f"u_{name}"]) for name in READINGS},
        unfit=unfit[0] + unfit[1],
        **{f"given_{name}": hours[name].count() for name in READINGS},
        **{f"negative_{name}": (hours[name] < 0).cast("int32").sum().fill_null(0) for name in READINGS},
    )


def _total(units: ir.IntegerColumn) -> ir.Value:
    high, low = (units >> HALF).sum().fill_null(0), (units & (1 << HALF) - 1).sum().fill_null(0)
    return (high.cast("decimal(38, 0)") * (1 << HALF) + low).cast("decimal(38, 0)")


def _suspects(sums: ir.Table, clock: ir.Table) -> ir.Table:
    """Customers with a slot that is not the calendar's."""
    whole = clock.group_by("slot").agg(hours=clock.count(), whole=clock.code.sum())
    slots = sums.filter(sums.customer_id.notnull()).join(whole, "slot")
    odd = slots.filter((slots.n_rows != slots.hours) | (slots.code != slots.whole))
    return odd.select("customer_id").distinct()


def _off_the_hour(hours: ir.Table, frame: pd.DataFrame) -> ir.Table:
    """Customers with a reading between two hours of the window (looked for only where some row met no hour)."""
    inside = _inside(hours, frame)
    return inside.filter(inside.hour != inside.hour.truncate("h")).select("customer_id").distinct()


def _between_hours(hours: ir.Table, frame: pd.DataFrame) -> ir.Table:
    """Per customer the readings between two hours of the window; 0 where all lie as far behind an hour."""
    inside = _inside(hours, frame)
    second = inside.hour.truncate("s")  # Spark rounds half a second up
    behind = second.minute() * 60 + second.second()
    between = ibis.ifelse(behind.min() < behind.max(), (behind > 0).cast("int64").sum(), 0)
    return inside.group_by("customer_id").agg(between_hours=between)


def _inside(hours: ir.Table, frame: pd.DataFrame) -> ir.Table:
    end = frame.hour.max() + pd.Timedelta(hours=1)
    return hours.filter(hours.customer_id.notnull(), hours.hour >= frame.hour.min(), hours.hour < end)


def _each_hour_once(hours: ir.Table, customers: ir.Table) -> ir.Table:
    """The hours of these customers, a reading between two hours at the hour before it, `copies` as one row."""
    chosen = hours.semi_join(customers, "customer_id")
    chosen = chosen.mutate(hour=chosen.hour.truncate("h"))
    readings = {name: chosen[name].max() for name in READINGS}
    return chosen.group_by("customer_id", "hour").agg(copies=chosen.count(), **readings)


def _counts(first: ir.Table, final: ir.Table, *apart: ir.Table) -> ir.Table:
    """Rows of each customer as the file has them, and what became of them.

    From the sums before (`first`) and after copies were collapsed (`final`), and what was set `apart`: tables by
    customer_id with one or more columns of `SET_APART`. A reading that was set apart is in no sum.
    """
    rows = first.group_by("customer_id").agg(
        n_rows=first.n_rows.sum(),
        **{f"negative_{name}": first[f"negative_{name}"].sum() for name in READINGS},
        **{f"without_{name}": (first.n_rows - first[f"given_{name}"]).sum() for name in READINGS},
    )
    inside = final.filter(final.slot.notnull())
    kept = inside.group_by("customer_id").agg(kept=inside.n_rows.sum(), in_window=inside.copies.sum())
    parts = [rows, kept, *apart]
    names = [name for part in parts for name in part.columns if name != "customer_id"]
    names += [name for name in SET_APART if name not in names]
    padded = [
        part.select(
            "customer_id",
            **{
                name: (part[name] if name in part.columns else ibis.literal(0)).cast("int64")
                for name in names
            },
        )
        for part in parts
    ]
    together = ibis.union(*padded)
    total = together.group_by("customer_id").agg(**{name: together[name].sum() for name in names})
    bad = total.bad_elec + total.bad_gas
    return total.mutate(rows_in=total.n_rows + bad).drop("n_rows")
