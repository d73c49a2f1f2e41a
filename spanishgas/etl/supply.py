"""Who held which supply point, and when: readings of supply points become those of the customers who held them.

A customer may hold several supply points, whose readings are summed; a supply point goes from one customer to another
at a local midnight. Copies of an hour are looked for within a supply point: two meters of one customer are none.
"""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from spanishgas.errors import ContractError
from spanishgas.etl import values
from spanishgas.etl.calendar import Grid
from spanishgas.etl.quality import ROW, Audit, flagged
from spanishgas.etl.source import MEND, Source
from spanishgas.raw_files import HOURS, POINTS

UNOWNED = "of_no_customer_then"
"""Readings of a supply point at a time at which no customer of the extract held it."""
NEVER = date.max
"""The last day of a table that has no open ends."""


def spans(table: ir.Table | None, source: Source, customer_ids: ir.Table, audit: Audit) -> pa.Table | None:
    """A row a time for which somebody held a supply point: point, owner, begin, end, key and first.

    `begin` and `end` (null: open) are on the clock of the readings. `owner` is null for somebody who is no customer of
    the extract, `first` marks the row that readings without a time count for. Returns None for an extract without the
    table; raises `ContractError` where two hold a supply point at a time.
    """
    if table is None:
        return None
    holdings, clock = _holdings(table, source, audit), values.grid(source.format(HOURS)).clock
    _check_overlaps(holdings, source, audit)
    here = holdings.customer_id.isin(customer_ids.customer_id)
    holdings = holdings.mutate(owner=ibis.ifelse(here, holdings.customer_id, None))
    points = holdings.group_by("supply_point").agg(owners=holdings.customer_id.nunique())
    owners = holdings.group_by("customer_id").agg(points=holdings.supply_point.nunique())
    moved, several = flagged(points.owners > 1), flagged(owners.points > 1)
    audit.measure(POINTS, points, **{"points.all": points.count(), "points.moved_between_customers": moved})
    audit.measure(POINTS, owners, **{"points.customers_with_several": several})
    order = ibis.window(group_by="supply_point", order_by=[holdings.owner.isnull(), "begin"])
    return audit.engine.fetch(
        holdings.select(
            "owner",
            point=holdings.supply_point,
            key="span " + ibis.row_number().cast("string"),
            first=ibis.row_number().over(order) == 0,
            begin=values.midnight(holdings["from"], clock),
            end=values.midnight(holdings["to"] + ibis.interval(days=1), clock),
        )
    )


def keyed(hours: ir.Table, holdings: ir.Table, grid: Grid) -> ir.Table:
    """The hours with `key` and `owner` of the span that each lies in; both are null where it lies in none."""
    after = hours.hour > holdings.begin if grid.end else hours.hour >= holdings.begin
    before = hours.hour <= holdings.end if grid.end else hours.hour < holdings.end
    within = hours.hour.notnull() & (after | holdings.begin.isnull()) & (before | holdings.end.isnull())
    untimed = hours.hour.isnull() & holdings["first"]
    return hours.left_join(holdings, [hours.customer_id == holdings.point, within | untimed])


def owned(table: ir.Table, holdings: ir.Table) -> tuple[ir.Table, ir.Table]:
    """A table by key (or id, where there is none): the rows of customers by their owner, and those of nobody."""
    joined = table.left_join(holdings.select("key", "owner"), table.customer_id == holdings.key)
    between = joined.customer_id.isin(holdings.point).fill_null(False)
    joined = joined.mutate(nobody=(joined.key.notnull() & joined.owner.isnull()) | between)
    joined = joined.mutate(customer_id=joined.owner.fill_null(joined.customer_id))
    return joined.filter(~joined.nobody)[table.columns], joined.filter(joined.nobody)[table.columns]


def _holdings(table: ir.Table, source: Source, audit: Audit) -> ir.Table:
    if source.format(HOURS).ids:
        table = table.mutate(supply_point=values.cups(table.supply_point))
        table = audit.use(POINTS, "unreadable.supply_point", table, table.supply_point.notnull())
    table = table.mutate(to=table["to"].nullif(NEVER), begin=table["from"].fill_null(date.min))
    table = audit.use(POINTS, "backwards", table, (table.begin <= table.to).fill_null(True))
    audit.quality.judge(POINTS)
    once = audit.engine.materialize("holdings", table.drop(ROW).distinct())
    gone = audit.quality.count(POINTS, "quarantined") + audit.sums(once, rows=once.count())["rows"]
    audit.quality.add(POINTS, collapsed=audit.quality.count(POINTS, "rows_in") - gone)
    audit.quality.settle(POINTS)
    return once


def _check_overlaps(holdings: ir.Table, source: Source, audit: Audit) -> None:
    order = ibis.window(group_by="supply_point", order_by=["begin", "customer_id"])
    last = holdings["to"].fill_null(NEVER)
    beside = holdings.mutate(last=last.lag().over(order), other=holdings.customer_id.lag().over(order))
    rows = audit.engine.fetch(beside.filter(beside.begin <= beside.last).order_by("supply_point", "begin"))
    words = "'{supply_point}' is held by '{customer_id}' from {begin} on, and by '{other}' until {last}"
    faults = [words.format(**row) for row in rows.to_pylist()]
    if faults:
        raise ContractError.broken(source.file(POINTS).name, faults, MEND)
