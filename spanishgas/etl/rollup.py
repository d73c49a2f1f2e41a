"""The hourly roll-up: one streaming pass from hours to customer-months, exact and independent of row order.

    hours -> join the calendar (8,784 rows) -> sums per customer and slot (month x tariff period) -> customer-months

- Readings become whole units of 1e-12, so sums are of integers: the result is the same to the last bit for any order
  of rows and any number of threads.
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

from spanishgas.contracts.tables import PERIODS
from spanishgas.errors import ContractError
from spanishgas.etl import calendar
from spanishgas.etl.engine import DuckEngine
from spanishgas.etl.hours import READINGS
from spanishgas.etl.source import HOURS as TABLE
from spanishgas.etl.source import MEND

UNIT = 1e12
LARGEST = 9.2e6
"""Largest reading of one hour (kWh, m3) that a 64-bit integer holds in these units; a city's load is less."""
KWH_PER_M3 = 11.0


@dataclass(frozen=True)
class RollUp:
    """What one or two passes over the hours found."""

    slots: ir.Table
    """customer_id, slot, elec and gas in units of 1e-12: the slots that hold at least one hour."""
    counts: ir.Table
    """Per customer id (null and blank ones included) the rows of the file by what became of them."""


def roll_up(hours: ir.Table, as_of: date, engine: DuckEngine) -> RollUp:
    """Roll the hours of the window before `as_of` up; `ContractError` if a reading is no number that fits."""
    frame = calendar.hours(as_of)
    with engine.streaming():
        first = engine.hold("slots_first", _sums(_on_calendar(hours, frame)))
        check_readings(first)
        suspects = _suspects(first, frame)
        if first.filter(first.slot.isnull() & (first.timed > 0)).count().execute():
            suspects = suspects.union(_off_the_hour(hours, frame), distinct=True)
        suspects = engine.hold("suspects", suspects)
        if not suspects.count().execute():
            return RollUp(first.filter(first.slot.notnull()), counts(first, first))
        second = engine.hold("slots_second", _sums(_on_calendar(_each_hour_once(hours, suspects), frame)))
        slots = engine.hold("slots", first.anti_join(suspects, "customer_id").union(second))
        return RollUp(slots.filter(slots.slot.notnull()), counts(first, slots))


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


def _on_calendar(hours: ir.Table, frame: pd.DataFrame) -> ir.Table:
    return hours.join(ibis.memtable(frame), "hour", how="left")


def _sums(hours: ir.Table) -> ir.Table:
    """Per customer and slot (null: outside the window, or no time that can be read) all that is asked of the hours."""
    units = {name: (ibis.greatest(hours[name], 0.0) * UNIT).try_cast("int64") for name in READINGS}
    return hours.group_by("customer_id", "slot").agg(
        n_rows=hours.count(),
        copies=hours.copies.sum() if "copies" in hours.columns else hours.count(),
        code=hours.code.sum(),
        timed=hours.hour.count(),
        **{name: unit.sum().cast("decimal(38, 0)") for name, unit in units.items()},
        **{f"read_{name}": unit.count() for name, unit in units.items()},
        **{f"given_{name}": hours[name].count() for name in READINGS},
        **{f"negative_{name}": (hours[name] < 0).sum() for name in READINGS},
    )


def check_readings(sums: ir.Table) -> None:
    """`ContractError` if a reading is no number that fits."""
    bad = {name: (sums.n_rows - sums[f"read_{name}"]).sum() for name in READINGS}
    counts = sums.aggregate(**bad).to_pyarrow().to_pylist()[0]
    faults = [
        f"{counts[name]} rows in column '{column}' are not numbers up to {LARGEST:g}: infinite, NaN or larger"
        for name, column in READINGS.items()
        if counts[name]
    ]
    if faults:
        raise ContractError.broken(TABLE, faults, MEND)


def _suspects(sums: ir.Table, frame: pd.DataFrame) -> ir.Table:
    """Customers with a slot that is not the calendar's."""
    whole = frame.groupby("slot", as_index=False).agg(hours=("code", "size"), whole=("code", "sum"))
    slots = sums.filter(sums.customer_id.notnull()).join(ibis.memtable(whole), "slot")
    odd = slots.filter((slots.n_rows != slots.hours) | (slots.code != slots.whole))
    return odd.select("customer_id").distinct()


def _off_the_hour(hours: ir.Table, frame: pd.DataFrame) -> ir.Table:
    """Customers with a reading between two hours of the window (looked for only where some row met no hour)."""
    end = frame.hour.max() + pd.Timedelta(hours=1)
    inside = hours.filter(hours.customer_id.notnull(), hours.hour >= frame.hour.min(), hours.hour < end)
    return inside.filter(inside.hour != inside.hour.truncate("h")).select("customer_id").distinct()


def _each_hour_once(hours: ir.Table, customers: ir.Table) -> ir.Table:
    """The hours of these customers, a reading between two hours at the hour before it, `copies` as one row."""
    chosen = hours.semi_join(customers, "customer_id")
    chosen = chosen.mutate(hour=chosen.hour.truncate("h"))
    readings = {name: chosen[name].max() for name in READINGS}
    return chosen.group_by("customer_id", "hour").agg(copies=chosen.count(), **readings)


def counts(first: ir.Table, final: ir.Table) -> ir.Table:
    """Rows of each customer as the file has them (`first`), and what became of them (`final`)."""
    rows = first.group_by("customer_id").agg(
        rows_in=first.n_rows.sum(),
        unreadable_time=(first.n_rows - first.timed).sum(),
        **{f"negative_{name}": first[f"negative_{name}"].sum() for name in READINGS},
        **{f"without_{name}": (first.n_rows - first[f"given_{name}"]).sum() for name in READINGS},
    )
    inside = final.filter(final.slot.notnull())
    kept = inside.group_by("customer_id").agg(kept=inside.n_rows.sum(), in_window=inside.copies.sum())
    return (
        rows.left_join(kept, "customer_id").drop("customer_id_right").fill_null({"kept": 0, "in_window": 0})
    )
