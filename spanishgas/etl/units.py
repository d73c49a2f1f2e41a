"""Readings as whole units, and all that is asked of them in one pass: sums per customer and slot."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from spanishgas.contracts.tables import LARGEST_READING
from spanishgas.etl.hours import READINGS

UNIT = 1e12
HALF = 30
DIFFERING = ("differing", "at_the_change")
"""Copies of an hour whose readings differ, and of them those where a local clock goes back."""


def fault(hours: ir.Table) -> ir.StringValue:
    """Which reading (elec, gas) of an hour cannot be summed; null where both can. One below 0 can: as 0."""
    return ibis.cases(*((unfit(hours[name]).fill_null(False), name) for name in READINGS))


def unfit(reading: ir.FloatingColumn) -> ir.BooleanValue:
    """Whether a reading is no number of units that can be summed."""
    return (units := in_units(reading)).isnan() | (units >= LARGEST_READING * UNIT)


def bad_readings(hours: ir.Table) -> ir.Table:
    """Per customer id the hours that `fault` names, by reading, and the units of what can be read of them."""
    judged = hours.mutate(fault=fault(hours))
    judged = judged.filter(judged.fault.notnull())
    kinds = {f"bad_{name}": (judged.fault == name).cast("int64").sum() for name in READINGS}
    fit = {
        f"beside_{name}": total(whole(ibis.ifelse(unfit(judged[name]).fill_null(True), 0.0, judged[name])))
        for name in READINGS
    }
    return judged.group_by("customer_id").agg(**kinds, **fit)


def in_units(reading: ir.FloatingColumn) -> ir.FloatingValue:
    """A reading in units of 1e-12, one below 0 as 0: x + |x| is twice the greater of the two, and cheaper per row."""
    twice: ir.FloatingValue = reading + reading.abs()
    return twice * (UNIT / 2)


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def rint(number: float) -> float:  # type: ignore[empty-body]
    """The nearest whole number, of two the even one; DuckDB has a macro of this name."""


def slot_sums(hours: ir.Table, clock: ir.Table) -> ir.Table:
    """Per customer and slot (null: outside the window, or no time that can be read) all that is asked of the hours.

    `unfit` counts readings that are no number of units. The units are summed as two halves in 64-bit integers: Spark
    sums decimals several times as slowly.
    """
    hours = hours.mutate(**{f"u_{name}": whole(hours[name]) for name in READINGS})
    hours = hours.join(clock, "hour", how="left")
    # counted, not asked for: on Spark Ibis takes NaN for null
    unfit = [hours[name].count() - hours[f"u_{name}"].count() for name in READINGS]
    return hours.group_by("customer_id", "slot").agg(
        n_rows=sum_of(hours, "rows") if "rows" in hours.columns else hours.count(),
        copies=hours.copies.sum() if "copies" in hours.columns else hours.count(),
        # exact for every number of rows that the calendar has in a slot
        code=hours.code.cast("float64").sum(),
        **{name: total(hours[f"u_{name}"]) for name in READINGS},
        unfit=unfit[0] + unfit[1],
        **{f"given_{name}": hours[name].count() for name in READINGS},
        **{f"negative_{name}": (hours[name] < 0).cast("int32").sum().fill_null(0) for name in READINGS},
        **{name: sum_of(hours, name) for name in DIFFERING},
        **{f"copies_{name}": sum_of(hours, f"copies_{name}", "decimal(38, 0)") for name in READINGS},
    )


def whole(reading: ir.FloatingColumn) -> ir.IntegerColumn:
    """A reading in whole units; null for one that is no such number."""
    return rint(in_units(reading)).try_cast("int64")


def sum_of(hours: ir.Table, name: str, kind: str = "int64") -> ir.Value:
    """The sum of a column; 0 where there is none of that name."""
    return (hours[name].sum().fill_null(0) if name in hours.columns else ibis.literal(0)).cast(kind)


def total(units: ir.IntegerColumn) -> ir.Value:
    """The sum of units, as two halves in 64-bit integers."""
    high, low = (units >> HALF).sum().fill_null(0), (units & (1 << HALF) - 1).sum().fill_null(0)
    return (high.cast("decimal(38, 0)") * (1 << HALF) + low).cast("decimal(38, 0)")
