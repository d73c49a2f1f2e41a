"""The sums of the roll-up in Spark SQL: the same integers as on DuckDB, in words that Spark does fast."""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from spanishgas.etl import rollup
from spanishgas.etl.engine_spark import SparkEngine
from spanishgas.etl.hours import READINGS

HALF = 2**30
"""Units are summed as two halves in 64-bit integers, which Spark does several times as fast as decimals."""


@dataclass(frozen=True)
class SparkSums:
    """`rollup.SlotSums` on Spark."""

    engine: SparkEngine

    def first(self, hours: ir.Table, clock: ir.Table) -> tuple[ir.Table, ir.Table, list[ir.Table]]:
        """The first pass over the hours, and a second one if readings have to be set apart."""
        first = self._summed("slots_first", hours, clock, "count(*)")
        unread = first.filter(first.n_rows > ibis.least(first.read_elec, first.read_gas))
        if not self.engine.fetch(unread.limit(1)).num_rows:
            return hours, first, []
        apart = self.engine.materialize("bad_readings", rollup.bad_readings(hours))
        usable = hours.filter(rollup.fault(hours).isnull())
        return usable, self._summed("slots_first", usable, clock, "count(*)"), [apart]

    def again(self, hours: ir.Table, clock: ir.Table) -> ir.Table:
        """The sums of hours that have `copies`."""
        return self._summed("slots_second", hours, clock, "sum(copies)")

    def _summed(self, name: str, hours: ir.Table, clock: ir.Table, copies: str) -> ir.Table:
        self.engine.sql(self.engine.con.compile(hours)).createOrReplaceTempView("hours_to_sum")
        return self.engine.keep(name, self.engine.sql(_sums("hours_to_sum", clock.get_name(), copies)))


def _sums(hours: str, clock: str, copies: str) -> str:
    """`rollup`'s sums per customer and slot. The calendar goes to every executor: else Spark sorts all hours for it."""
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
        SELECT customer_id, slot, count(*) AS n_rows, {copies} AS copies, sum(code) AS code, {", ".join(sums)}
        FROM (SELECT /*+ BROADCAST({clock}) */ *, {", ".join(units)} FROM {hours} LEFT JOIN {clock} USING (hour))
        GROUP BY customer_id, slot)"""
