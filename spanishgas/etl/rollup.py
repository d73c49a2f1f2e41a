"""The hourly roll-up: one streaming pass from hours to customer-months, exact and independent of row order.

    hours -> join the calendar (8,784 rows) -> sums per customer and slot (month x tariff period) -> customer-months

- Readings become whole units of 1e-12, so sums are of integers: the result is the same to the last bit for any order
  of rows and any number of threads.
- A reading that is no such number (infinite, NaN, more than a city's load) is left out and counted. On clean hours
  nothing is asked for this: the pass counts such readings, and only where there are some begins anew without them.
- The same pass sums a 40-bit code per hour. A slot whose number of rows and sum of codes are the calendar's holds
  each of its hours once (but for one chance in 2^40). Only customers with another slot are read a second time, so that
  an hour that stands twice counts once, with the larger reading of each commodity.
- The calendar has the file's own stamps (quarter hours, UTC, the end of the interval): no reading is moved to meet it.
- Energy is conserved, in whole units: what came in is what was kept and what was set apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from spanishgas.contracts.tables import LARGEST_READING, PERIODS
from spanishgas.etl import calendar, engine_spark, ordered
from spanishgas.etl.engine import DuckEngine
from spanishgas.etl.engines import Engine
from spanishgas.etl.hours import READINGS, is_parquet, open_hours, parts_of, reading, replaced
from spanishgas.etl.source import Source
from spanishgas.raw_files import HOURS
from spanishgas.settings import settings

UNIT = 1e12
HALF = 30
KWH_PER_M3 = 11.0
SET_APART = ("unreadable_time", "between_hours", *(f"bad_{name}" for name in READINGS))
"""Hours of a customer that cannot be used, or not as they stand, by what is wrong with them."""
ENERGY = tuple(
    f"{what}_{name}" for what in ("in", "kept", "outside", "copies", "beside") for name in READINGS
)
"""Units of a customer: of the usable rows, of them in the sums, outside the window and in copies; of unusable rows."""
DIFFERING = ("differing", "at_the_change")
"""Copies of an hour whose readings differ, and of them those where a local clock goes back."""
FINER = (30, 15)
"""Minutes of readings that are recognised."""
SURE = 0.99
"""Least share of a file's rows on a grid that is recognised; places of the hour and stamps are at least half full."""


@dataclass(frozen=True)
class RollUp:
    """What one or two passes over the hours found."""

    slots: ir.Table
    """customer_id, slot, elec and gas in units of 1e-12: the slots that hold at least one hour."""
    counts: ir.Table
    """Per customer id (null and blank ones included) the rows of the file by what became of them."""
    hours: ir.Table
    """The hours as they were opened, to find examples in."""
    grid: calendar.Grid
    """How the file stamps its readings; a finer step than an hour may have been recognised."""
    replaced: Mapping[str, float]
    """Rows that corrections replace, and their elec and gas in units; empty without corrections."""
    files: int = 1


def hours_of(source: Source, as_of: date, engine: Engine) -> RollUp:
    """The hours of an extract, opened and rolled up by the engine."""
    file, grid = source.file(HOURS), source.format(HOURS).grid
    if isinstance(engine, DuckEngine):
        opened = open_hours(source, engine)
        with reading(file):
            rolled = roll_up(opened, as_of, engine, source, grid)
    else:
        with engine_spark.reading(file):
            rolled = roll_up(engine_spark.open_hours(source, engine), as_of, engine, grid=grid)
    with reading(file):
        return replace(rolled, replaced=_replaced(source, engine.reader), files=len(parts_of(source)))


def _replaced(source: Source, reader: DuckEngine) -> dict[str, float]:
    if not source.format(HOURS).corrections or (gone := replaced(source, reader)) is None:
        return {}
    usable = gone.filter(fault(gone).isnull())
    sums = usable.aggregate(**{name: _total(_whole(usable[name])) for name in READINGS})
    return {"rows": reader.fetch(gone.count().as_table())[0][0].as_py(), **reader.fetch(sums).to_pylist()[0]}


def roll_up(
    hours: ir.Table,
    as_of: date,
    engine: Engine,
    source: Source | None = None,
    grid: calendar.Grid = calendar.Grid(),
) -> RollUp:
    """Roll the hours of the window before `as_of` up; those that cannot be used are left out and counted.

    With the `source` that they were opened from, Parquet files in order are summed the faster way of `ordered`. Without
    a step in the `grid`, readings of half and quarter hours are recognised where the file leaves no doubt.
    """
    with engine.streaming():
        first, step = _first_pass(hours, as_of, grid, engine, source), grid.step
        if step is None and first.off_the_grid and (step := _finer(first, engine)):
            first = _first_pass(hours, as_of, replace(grid, step=step), engine, source)
        return _second_pass(first, hours)


@dataclass(frozen=True)
class _FirstPass:
    usable: ir.Table
    """The hours that can be summed."""
    sums: ir.Table
    """Their sums by customer and slot."""
    apart: list[ir.Table]
    """What had to be set apart for that."""
    clock: ir.Table
    as_of: date
    grid: calendar.Grid
    engine: Engine

    @property
    def frame(self) -> pd.DataFrame:
        """The calendar in memory."""
        return calendar.hours(self.as_of, self.grid)

    @cached_property
    def off_the_grid(self) -> bool:
        """Whether some row met no stamp of the calendar."""
        return _any(self.sums.filter(self.sums.slot.isnull()), self.engine)


def _first_pass(
    hours: ir.Table, as_of: date, grid: calendar.Grid, engine: Engine, source: Source | None
) -> _FirstPass:
    frame = calendar.hours(as_of, grid)
    clock = engine.import_table("calendar", pa.Table.from_pandas(frame, preserve_index=False))
    as_typed = (
        source and is_parquet(source) and source.format(HOURS).typed_hours_stand and not source.absent(HOURS)
    )
    in_order = _in_order(source, frame, engine) if source and as_typed else None
    sums = engine.materialize("slots_first", _sums(hours, clock) if in_order is None else in_order)
    passed = _FirstPass(hours, sums, [], clock, as_of, grid, engine)
    if in_order is not None or not _any(sums.filter(sums.unfit > 0), engine):
        return passed
    usable = hours.filter(fault(hours).isnull())
    apart = engine.materialize("bad_readings", bad_readings(hours))
    return replace(
        passed, usable=usable, apart=[apart], sums=engine.materialize("slots_first", _sums(usable, clock))
    )


def _second_pass(first: _FirstPass, hours: ir.Table) -> RollUp:
    """The roll-up, the hours of customers with a slot that is not the calendar's read again."""
    engine, usable, apart, slots = first.engine, first.usable, first.apart, first.sums
    odd = _suspects(first.sums, first.clock)
    if first.off_the_grid:
        off = engine.materialize("off_the_hour", _off_the_hour(first))
        between = _between_hours(first, off)
        lost = usable.filter(usable.hour.isnull())
        lost = lost.group_by("customer_id").agg(unreadable_time=lost.count())
        apart = [*apart, engine.materialize("untimed", lost), engine.materialize("between_hours", between)]
        odd = odd.union(off, distinct=True)
    suspects = engine.materialize("suspects", odd)
    if _any(suspects, engine):
        second = engine.materialize("slots_second", _sums(_each_hour_once(first, suspects), first.clock))
        slots = engine.materialize("slots", slots.anti_join(suspects, "customer_id").union(second))
    counts = _counts(first.sums, slots, *apart)
    return RollUp(slots.filter(slots.slot.notnull()), counts, hours, first.grid, {})


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
        **{name: _sum_of(runs, name) for name in DIFFERING},
        **{f"copies_{name}": _sum_of(runs, f"copies_{name}", "decimal(38, 0)") for name in READINGS},
    )


def fault(hours: ir.Table) -> ir.StringValue:
    """Which reading (elec, gas) of an hour cannot be summed; null where both can. One below 0 can: as 0."""
    return ibis.cases(*((_unfit(hours[name]).fill_null(False), name) for name in READINGS))


def _unfit(reading: ir.FloatingColumn) -> ir.BooleanValue:
    return (units := _units(reading)).isnan() | (units >= LARGEST_READING * UNIT)


def bad_readings(hours: ir.Table) -> ir.Table:
    """Per customer id the hours that `fault` names, by reading, and the units of what can be read of them."""
    judged = hours.mutate(fault=fault(hours))
    judged = judged.filter(judged.fault.notnull())
    kinds = {f"bad_{name}": (judged.fault == name).cast("int64").sum() for name in READINGS}
    fit = {
        f"beside_{name}": _total(_whole(ibis.ifelse(_unfit(judged[name]).fill_null(True), 0.0, judged[name])))
        for name in READINGS
    }
    return judged.group_by("customer_id").agg(**kinds, **fit)


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
    hours = hours.mutate(**{f"u_{name}": _whole(hours[name]) for name in READINGS})
    hours = hours.join(clock, "hour", how="left")
    # counted, not asked for: on Spark Ibis takes NaN for null
    unfit = [hours[name].count() - hours[f"u_{name}"].count() for name in READINGS]
    return hours.group_by("customer_id", "slot").agg(
        n_rows=_sum_of(hours, "rows") if "rows" in hours.columns else hours.count(),
        copies=hours.copies.sum() if "copies" in hours.columns else hours.count(),
        # exact for every number of rows that the calendar has in a slot
        code=hours.code.cast("float64").sum(),
        **{name: _total(hours[f"u_{name}"]) for name in READINGS},
        unfit=unfit[0] + unfit[1],
        **{f"given_{name}": hours[name].count() for name in READINGS},
        **{f"negative_{name}": (hours[name] < 0).cast("int32").sum().fill_null(0) for name in READINGS},
        **{name: _sum_of(hours, name) for name in DIFFERING},
        **{f"copies_{name}": _sum_of(hours, f"copies_{name}", "decimal(38, 0)") for name in READINGS},
    )


def _whole(reading: ir.FloatingColumn) -> ir.IntegerColumn:
    """A reading in whole units; null for one that is no such number."""
    return rint(_units(reading)).try_cast("int64")


def _sum_of(hours: ir.Table, name: str, kind: str = "int64") -> ir.Value:
    return (hours[name].sum().fill_null(0) if name in hours.columns else ibis.literal(0)).cast(kind)


def _total(units: ir.IntegerColumn) -> ir.Value:
    high, low = (units >> HALF).sum().fill_null(0), (units & (1 << HALF) - 1).sum().fill_null(0)
    return (high.cast("decimal(38, 0)") * (1 << HALF) + low).cast("decimal(38, 0)")


def _suspects(sums: ir.Table, clock: ir.Table) -> ir.Table:
    """Customers with a slot that is not the calendar's."""
    whole = clock.group_by("slot").agg(hours=clock.times.sum(), whole=(clock.code * clock.times).sum())
    slots = sums.filter(sums.customer_id.notnull()).join(whole, "slot")
    odd = slots.filter((slots.n_rows != slots.hours) | (slots.code != slots.whole))
    return odd.select("customer_id").distinct()


def _off_the_hour(first: _FirstPass) -> ir.Table:
    """Customers with a reading between two stamps of the grid (looked for only where some row met none)."""
    inside = _inside(first)
    return (
        inside.filter(inside.hour != _on_the_grid(inside.hour, first.grid)).select("customer_id").distinct()
    )


def _between_hours(first: _FirstPass, off: ir.Table) -> ir.Table:
    """Per customer the readings between two stamps of the grid; 0 where all lie as far behind one."""
    inside = _inside(first).semi_join(off, "customer_id")
    behind = _behind(inside.hour) % (first.grid.minutes * 60)
    between = ibis.ifelse(behind.min() < behind.max(), (behind > 0).cast("int64").sum(), 0)
    return inside.group_by("customer_id").agg(between_hours=between)


def _finer(first: _FirstPass, engine: Engine) -> int | None:
    """Minutes of the file's readings where they are half or quarter hours without a doubt."""
    hour = (inside := _inside(first)).hour
    ends = {"begin": hour.min().epoch_seconds(), "end": hour.max().epoch_seconds()}
    per = inside.group_by("customer_id", behind=_behind(hour)).agg(rows=inside.count(), **ends)
    places = engine.fetch(engine.materialize("places", per)).to_pandas()
    off = places[places["customer_id"].isin(places["customer_id"][places["behind"] > 0])]
    span = off.groupby("customer_id").agg({"rows": "sum", "begin": "min", "end": "max"})
    rows, seconds = places.groupby("behind")["rows"].sum(), (span["end"] - span["begin"]).sum()
    for step in FINER:
        counts = [int(rows.get(place, 0)) for place in range(0, 3600, step * 60)]
        dense = span["rows"].sum() >= seconds / (step * 60) / 2
        if dense and sum(counts) >= SURE * rows.sum() and min(counts) >= sum(counts) / len(counts) / 2:
            return step
    return None


def _behind(hour: ir.TimestampColumn) -> ir.IntegerValue:
    """Seconds behind the full hour."""
    second = hour.truncate("s")  # Spark rounds half a second up
    return second.minute() * 60 + second.second()


def _on_the_grid(hour: ir.TimestampColumn, grid: calendar.Grid) -> ir.TimestampValue:
    """The stamp of the interval that a time lies in: the one before it, or after it where stamps are ends."""
    if grid.end:
        hour = hour - ibis.interval(microseconds=1)
    shift = grid.minutes * grid.end
    places = [(place, ibis.interval(minutes=place + shift)) for place in range(0, 60, grid.minutes)]
    whole, minute = hour.truncate("h"), hour.minute()
    return ibis.cases(*((minute < place + grid.minutes, whole + after) for place, after in places))


def _inside(first: _FirstPass) -> ir.Table:
    hours, start, last = first.usable, first.frame.hour.min(), first.frame.hour.max()
    step = pd.Timedelta(minutes=first.grid.minutes)
    start, end = (start - step, last) if first.grid.end else (start, last + step)
    after = hours.hour > start if first.grid.end else hours.hour >= start
    before = hours.hour <= end if first.grid.end else hours.hour < end
    return hours.filter(hours.customer_id.notnull(), after, before)


def _each_hour_once(first: _FirstPass, customers: ir.Table) -> ir.Table:
    """The hours of these customers, a reading between two stamps at its interval's, `copies` as one row.

    Of a stamp that a local clock shows twice the largest and the smallest reading count, be there two rows or copies of
    them. Rows without a time stay what they are.
    """
    chosen = first.usable.semi_join(customers, "customer_id")
    chosen = chosen.mutate(hour=_on_the_grid(chosen.hour, first.grid))
    twice = chosen.hour.isin(list(first.frame.hour[first.frame.times > 1])).fill_null(False)
    change = chosen.hour.isin([] if first.grid.clock else calendar.doubled(first.as_of, first.grid))
    chosen = chosen.mutate(twice=twice, change=change.fill_null(False))
    one = {name: _of_copies(chosen, name) for name in READINGS}
    units = {f"copies_{name}": _total(_whole(chosen[name])) for name in READINGS}
    differ = [(chosen[name].min() < chosen[name].max()).fill_null(False) for name in READINGS]
    once = chosen.group_by("customer_id", "hour", "twice", "change").agg(
        copies=chosen.count(), differ=differ[0] | differ[1], **one, **units
    )
    rows = ibis.ifelse(once.twice & (once.copies > 1), 2, 1)
    differing = ibis.ifelse(once.differ & once.hour.notnull(), once.copies - rows, 0)
    lost = {
        f"copies_{name}": once[f"copies_{name}"] - _whole(once[name]).fill_null(0).cast("decimal(38, 0)")
        for name in READINGS
    }
    at_the_change = (once.change & (differing > 0)).cast("int64")
    return once.mutate(rows=rows, differing=differing, at_the_change=at_the_change, **lost)


def _of_copies(rows: ir.Table, name: str) -> ir.Value:
    """What counts of a customer's rows with one stamp."""
    reading = rows[name]
    both = ibis.ifelse(reading.count() > 1, reading.max() + reading.min(), reading.max())
    return ibis.cases(
        (rows.hour.isnull().any(), reading.sum()), (rows.twice.any(), both), else_=reading.max()
    )


def _counts(first: ir.Table, final: ir.Table, *apart: ir.Table) -> ir.Table:
    """Rows of each customer as the file has them, and what became of them.

    From the sums before (`first`) and after copies were collapsed (`final`), and what was set `apart`: tables by
    customer_id with one or more columns of `SET_APART`. A reading that was set apart is in no sum.
    """
    rows = first.group_by("customer_id").agg(
        n_rows=first.n_rows.sum(),
        **{f"negative_{name}": first[f"negative_{name}"].sum() for name in READINGS},
        **{f"without_{name}": (first.n_rows - first[f"given_{name}"]).sum() for name in READINGS},
        **{f"in_{name}": first[name].sum() for name in READINGS},
    )
    inside = final.filter(final.slot.notnull())
    kept = inside.group_by("customer_id").agg(
        kept=inside.n_rows.sum(),
        in_window=inside.copies.sum(),
        **{name: inside[name].sum() for name in DIFFERING},
        **{f"kept_{name}": inside[name].sum() for name in READINGS},
    )
    out = {f"outside_{name}": ibis.ifelse(final.slot.isnull(), final[name], 0).sum() for name in READINGS}
    copies = {f"copies_{name}": final[f"copies_{name}"].sum() for name in READINGS}
    parts = [rows, kept, final.group_by("customer_id").agg(**out, **copies), *apart]
    names = [name for part in parts for name in part.columns if name != "customer_id"]
    names += [name for name in (*SET_APART, *ENERGY) if name not in names]
    kinds = {name: "decimal(38, 0)" if name in ENERGY else "int64" for name in names}
    padded = [
        part.select(
            "customer_id",
            **{
                name: (part[name] if name in part.columns else ibis.literal(0)).cast(kind)
                for name, kind in kinds.items()
            },
        )
        for part in parts
    ]
    together = ibis.union(*padded)
    total = together.group_by("customer_id").agg(
        **{name: together[name].sum().cast(kind) for name, kind in kinds.items()}
    )
    bad = total.bad_elec + total.bad_gas
    return total.mutate(rows_in=total.n_rows + bad).drop("n_rows")
