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

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from spanishgas.config.tariff import tariff
from spanishgas.etl import calendar, engine_spark, ordered, values
from spanishgas.etl.engine import DuckEngine
from spanishgas.etl.engines import Engine
from spanishgas.etl.hours import READINGS, is_parquet, open_hours, parts_of, reading, replaced
from spanishgas.etl.source import Source
from spanishgas.etl.stamps import (
    FirstPass,
    any_row,
    between_stamps,
    doubtful,
    each_stamp_once,
    finer,
    off_the_grid,
)
from spanishgas.etl.units import DIFFERING, UNIT, bad_readings, fault, slot_sums, sum_of, total, whole
from spanishgas.raw_files import HOURS
from spanishgas.settings import settings

KWH_PER_M3 = 11.0
SET_APART = ("unreadable_time", "between_hours", *(f"bad_{name}" for name in READINGS))
"""Hours of a customer that cannot be used, or not as they stand, by what is wrong with them."""
ENERGY = tuple(
    f"{what}_{name}" for what in ("in", "kept", "outside", "copies", "beside") for name in READINGS
)
"""Units of a customer: of the usable rows, of them in the sums, outside the window and in copies; of unusable rows."""


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
    file, grid = source.file(HOURS), values.grid(source.format(HOURS))
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
    sums = usable.aggregate(**{name: total(whole(usable[name])) for name in READINGS})
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
        if step is None and first.off_the_grid and (step := finer(first, engine)):
            first = _first_pass(hours, as_of, replace(grid, step=step), engine, source)
        return _second_pass(first, hours)


def _first_pass(
    hours: ir.Table, as_of: date, grid: calendar.Grid, engine: Engine, source: Source | None
) -> FirstPass:
    frame = calendar.hours(as_of, grid)
    clock = engine.import_table("calendar", pa.Table.from_pandas(frame, preserve_index=False))
    as_typed = (
        source and is_parquet(source) and source.format(HOURS).typed_hours_stand and not source.absent(HOURS)
    )
    in_order = _in_order(source, frame, engine) if source and as_typed else None
    sums = engine.materialize("slots_first", slot_sums(hours, clock) if in_order is None else in_order)
    passed = FirstPass(hours, sums, [], clock, as_of, grid, engine)
    if in_order is not None or not any_row(sums.filter(sums.unfit > 0), engine):
        return passed
    usable = hours.filter(fault(hours).isnull())
    apart = engine.materialize("bad_readings", bad_readings(hours))
    return replace(
        passed, usable=usable, apart=[apart], sums=engine.materialize("slots_first", slot_sums(usable, clock))
    )


def _second_pass(first: FirstPass, hours: ir.Table) -> RollUp:
    """The roll-up, the hours of customers with a slot that is not the calendar's read again."""
    engine, usable, apart, slots = first.engine, first.usable, first.apart, first.sums
    odd = doubtful(first.sums, first.clock)
    if first.off_the_grid:
        off = engine.materialize("off_the_hour", off_the_grid(first))
        between = between_stamps(first, off)
        lost = usable.filter(usable.hour.isnull())
        lost = lost.group_by("customer_id").agg(unreadable_time=lost.count())
        apart = [*apart, engine.materialize("untimed", lost), engine.materialize("between_hours", between)]
        odd = odd.union(off, distinct=True)
    suspects = engine.materialize("suspects", odd)
    if any_row(suspects, engine):
        second = engine.materialize("slots_second", slot_sums(each_stamp_once(first, suspects), first.clock))
        slots = engine.materialize("slots", slots.anti_join(suspects, "customer_id").union(second))
    counts = _counts(first.sums, slots, *apart)
    return RollUp(slots.filter(slots.slot.notnull()), counts, hours, first.grid, {})


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
        **{name: sum_of(runs, name) for name in DIFFERING},
        **{f"copies_{name}": sum_of(runs, f"copies_{name}", "decimal(38, 0)") for name in READINGS},
    )


def customer_months(slots: ir.Table, as_of: date) -> ir.Table:
    """One row per customer and month that has an hour: totals and the split by tariff period, in kWh and m3."""
    slots = slots.mutate(place=slots.slot // 10, period=slots.slot % 10)
    periods = {name: number for number, name in enumerate(tariff().periods, 1)}
    sums = {
        **{f"elec_kwh_{name}": _amount(slots, slots.elec, [number]) for name, number in periods.items()},
        **{f"gas_m3_{name}": _amount(slots, slots.gas, [number]) for name, number in periods.items()},
        "monthly_elec_kwh": _amount(slots, slots.elec, [*periods.values()]),
        "monthly_gas_m3": _amount(slots, slots.gas, [*periods.values()]),
    }
    months = slots.group_by("customer_id", "place").agg(**sums)
    names = [(months.place == place, month) for place, month in enumerate(calendar.window(as_of))]
    return months.mutate(
        month=ibis.cases(*names),
        monthly_gas_kwh=months.monthly_gas_m3 * KWH_PER_M3,
        **{f"gas_kwh_{name}": months[f"gas_m3_{name}"] * KWH_PER_M3 for name in periods},
    ).drop("place")


def _amount(slots: ir.Table, units: ir.Column, periods: Sequence[int]) -> ir.Value:
    return ibis.ifelse(slots.period.isin(periods), units, 0).sum().cast("float64") / UNIT


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
