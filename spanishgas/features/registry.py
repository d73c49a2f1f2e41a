"""Features register themselves here; gold asks for all of them in the order of the data dictionary.

A feature is one function whose name is the column's, under one of two decorators (or, where it is plain, a line of
plain.yaml):

- `over_customer`: (row, as_of) -> value. `row` has the columns of silver_customer, every feature over months, and
  the features that stand above it in tiers.yaml.
- `over_months`: (months) -> reduction over one customer's months. `months` has the columns of silver_customer_month,
  `position` (0 is the customer's first month), `recency` (0 is the latest) and `previous_price` (raw tier-1 price of
  the row before).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import partial
from operator import and_, eq
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir

from spanishgas.config.reading import packaged
from spanishgas.config.tiers import Entry, Tiers, read_tiers
from spanishgas.errors import UsageError
from spanishgas.features.formulas import cross

CustomerFunction = Callable[[ir.Table, date], ir.Value]
MonthsFunction = Callable[[ir.Table], ir.Value]
CUSTOMER: dict[str, CustomerFunction] = {}
MONTHS: dict[str, MonthsFunction] = {}
"""The functions of all features by name."""


def over_customer(function: CustomerFunction) -> CustomerFunction:
    """Register a feature over the customer's row."""
    CUSTOMER[_fresh(function.__name__)] = function
    return function


def over_months(function: MonthsFunction) -> MonthsFunction:
    """Register a feature over the customer's months."""
    MONTHS[_fresh(function.__name__)] = function
    return function


def _plain(name: str, function: Callable[..., ir.Value], *columns: str) -> None:
    """Register a function of some columns of the customer's row."""
    CUSTOMER[_fresh(name)] = lambda row, as_of: function(*(row[column] for column in columns))


def _reduced(reduction: str, column: str, months: ir.Table) -> ir.Value:
    return getattr(months[column], reduction)()


def load_tiers(path: Path | None = None) -> Tiers:
    """The data dictionary, held against the functions: `UsageError` names a row or a function that stands alone."""
    tiers = read_tiers(path)
    rows, functions = set(tiers.features()), {*CUSTOMER, *MONTHS}
    if alone := sorted(rows - functions):
        raise UsageError(
            f"tiers.yaml lists {', '.join(alone)}, but spanishgas/features has no function of that name"
        )
    if alone := sorted(functions - rows):
        raise UsageError(
            f"spanishgas/features computes {', '.join(alone)}, but tiers.yaml has no row of that name"
        )
    return tiers


def in_context(months: ir.Table) -> ir.Table:
    """silver_customer_month with each row's place among its customer's: `position`, `recency`, `previous_price`."""
    by_customer = ibis.window(group_by="customer_id", order_by="month")
    latest_first = ibis.window(group_by="customer_id", order_by=ibis.desc("month"))
    return months.mutate(
        position=ibis.row_number().over(by_customer),
        recency=ibis.row_number().over(latest_first),
        previous_price=months.raw_price_tier1_eur_kwh.lag().over(by_customer),
    )


def month_features(months: ir.Table, **beside: ir.Value) -> ir.Table:
    """One row per customer with all features over months, from `months` in context, and reductions `beside` them."""
    reductions = {name: function(months) for name, function in MONTHS.items()}
    return months.group_by("customer_id").agg(**beside, **reductions)


def levels(row: ir.Table, tiers: Tiers, as_of: date) -> list[list[str]]:
    """The features in steps: those of a step stand on the columns of `row` and on features of the steps before alone.

    `row` must hold the features over months. `UsageError` for a feature that stands on one below it in tiers.yaml.
    """
    names = tiers.features()
    whole = _with_features(row.schema(), tiers)
    step, no_earlier = dict[str, int](), dict.fromkeys(names, 0)
    for place, name in enumerate(names):
        used = _columns_of(_value(whole, name, as_of)) - {name}
        above = used & step.keys()
        if below := sorted(used.intersection(names[place:]) - {*row.columns}):
            raise UsageError(
                f"the feature {name} stands on {below[0]}, which must stand above it in tiers.yaml"
            )
        step[name] = max([no_earlier[name], *(step[other] + 1 for other in above)])
        # it reads the column of silver, which this feature replaces
        for other in used.intersection(names[place:]):
            no_earlier[other] = max(no_earlier[other], step[name])
    return [[name for name in names if step[name] == number] for number in sorted(set(step.values()))]


def add_features(row: ir.Table, tiers: Tiers, names: Iterable[str], as_of: date) -> ir.Table:
    """`row` with the features of one of its `levels`, typed as gold has them."""
    return row.mutate(**{name: _typed(_value(row, name, as_of), tiers.entry(name)) for name in names})


def _value(row: ir.Table, name: str, as_of: date) -> ir.Value:
    function = CUSTOMER.get(name)
    return function(row, as_of) if function else row[name]


def _with_features(schema: ibis.Schema, tiers: Tiers) -> ir.Table:
    """A table without rows that has all features beside these columns."""
    kinds = {name: _typed(ibis.null(), tiers.entry(name)).type() for name in tiers.features()}
    return ibis.table({**schema, **kinds}, name="whole")


def _columns_of(value: ir.Value) -> set[str]:
    return {field.name for field in value.op().find(ops.Field)}


def _typed(value: ir.Value, entry: Entry) -> ir.Value:
    if entry.kind == "flag" or entry.whole:
        return value.cast("int64").fill_null(0)
    return value.cast("float64" if entry.kind == "numeric" else "string")


def _fresh(name: str) -> str:
    if name in {*CUSTOMER, *MONTHS}:
        raise ValueError(f"two functions define the feature {name}")
    return name


def _register_plain(declared: Mapping[str, Any]) -> None:
    for name in declared["as_in_silver"]:
        _plain(name, lambda column: column, name)
    for name, (column, value) in declared["flags"].items():
        _plain(name, partial(eq, value), column)
    for name, columns in declared["both"].items():
        _plain(name, and_, *columns)
    for name, columns in declared["crosses"].items():
        _plain(name, cross, *columns)
    for name, (reduction, column) in declared["reductions"].items():
        MONTHS[_fresh(name)] = partial(_reduced, reduction, column)


_register_plain(packaged(__file__, "plain.yaml"))
