"""The second pass: customers with stamps that are not the calendar's, each stamp once, and which grid a file has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property

import ibis
import ibis.expr.types as ir
import pandas as pd

from spanishgas.etl import calendar
from spanishgas.etl.engines import Engine
from spanishgas.etl.hours import READINGS
from spanishgas.etl.units import total, whole

FINER = (30, 15)
"""Minutes of readings that are recognised."""
SURE = 0.99
"""Least share of a file's rows on a grid that is recognised; places of the hour and stamps are at least half full."""


@dataclass(frozen=True)
class FirstPass:
    """What the first pass over the hours left."""

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
        return any_row(self.sums.filter(self.sums.slot.isnull()), self.engine)


def any_row(table: ir.Table, engine: Engine) -> bool:
    """Whether a table has a row."""
    return bool(engine.fetch(table.limit(1)).num_rows)


def doubtful(sums: ir.Table, clock: ir.Table) -> ir.Table:
    """Customers with a slot that is not the calendar's."""
    whole = clock.group_by("slot").agg(hours=clock.times.sum(), whole=(clock.code * clock.times).sum())
    slots = sums.filter(sums.customer_id.notnull()).join(whole, "slot")
    odd = slots.filter((slots.n_rows != slots.hours) | (slots.code != slots.whole))
    return odd.select("customer_id").distinct()


def off_the_grid(first: FirstPass) -> ir.Table:
    """Customers with a reading between two stamps of the grid (looked for only where some row met none)."""
    inside = _inside(first)
    return (
        inside.filter(inside.hour != _on_the_grid(inside.hour, first.grid)).select("customer_id").distinct()
    )


def between_stamps(first: FirstPass, off: ir.Table) -> ir.Table:
    """Per customer the readings between two stamps of the grid; 0 where all lie as far behind one."""
    inside = _inside(first).semi_join(off, "customer_id")
    behind = _behind(inside.hour) % (first.grid.minutes * 60)
    between = ibis.ifelse(behind.min() < behind.max(), (behind > 0).cast("int64").sum(), 0)
    return inside.group_by("customer_id").agg(between_hours=between)


def finer(first: FirstPass, engine: Engine) -> int | None:
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


def _inside(first: FirstPass) -> ir.Table:
    hours, start, last = first.usable, first.frame.hour.min(), first.frame.hour.max()
    step = pd.Timedelta(minutes=first.grid.minutes)
    start, end = (start - step, last) if first.grid.end else (start, last + step)
    after = hours.hour > start if first.grid.end else hours.hour >= start
    before = hours.hour <= end if first.grid.end else hours.hour < end
    return hours.filter(hours.customer_id.notnull(), after, before)


def each_stamp_once(first: FirstPass, customers: ir.Table) -> ir.Table:
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
    units = {f"copies_{name}": total(whole(chosen[name])) for name in READINGS}
    differ = [(chosen[name].min() < chosen[name].max()).fill_null(False) for name in READINGS]
    once = chosen.group_by("customer_id", "hour", "twice", "change").agg(
        copies=chosen.count(), differ=differ[0] | differ[1], **one, **units
    )
    rows = ibis.ifelse(once.twice & (once.copies > 1), 2, 1)
    differing = ibis.ifelse(once.differ & once.hour.notnull(), once.copies - rows, 0)
    lost = {
        f"copies_{name}": once[f"copies_{name}"] - whole(once[name]).fill_null(0).cast("decimal(38, 0)")
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
