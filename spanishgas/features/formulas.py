"""The formulas that several features share; each has its one home here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import ibis
import ibis.expr.types as ir

DAYS_PER_MONTH = 30
"""A month of elapsed time (feature dictionary, conventions)."""


def days_between(start: ir.DateValue | date, end: ir.DateValue | date) -> ir.IntegerValue:
    """Whole days from `start` to `end`, negative where `end` comes first; null where either is."""
    return _day(end).delta(_day(start), unit="day")


def months_between(start: ir.DateValue | date, end: ir.DateValue | date) -> ir.FloatingValue:
    """Elapsed months of 30 days, unrounded."""
    return days_between(start, end).cast("float64") / DAYS_PER_MONTH


def bucket(value: ir.NumericValue, edges: Sequence[float], labels: Sequence[str]) -> ir.StringValue:
    """The label of the first edge that `value` does not exceed, the last label above all edges; null of null."""
    cases = [(value <= edge, label) for edge, label in zip(edges, labels, strict=False)]
    return ibis.cases(*cases, (value > edges[-1], labels[-1]))


def cross(left: ir.Value, right: ir.Value) -> ir.StringValue:
    """Both values joined by "_x_"; a null part reads "none"."""
    return left.cast("string").fill_null("none") + "_x_" + right.cast("string").fill_null("none")


def change(first: ir.FloatingValue, last: ir.FloatingValue) -> ir.FloatingValue:
    """(last - first) / first, null where first is 0 or either is null."""
    return (last - first) / first.nullif(0)


def first_of(column: ir.Column, order: ir.Column) -> ir.Value:
    """The earliest value that is not null (a reduction)."""
    return column.argmin(order, where=column.notnull())


def last_of(column: ir.Column, order: ir.Column) -> ir.Value:
    """The latest value that is not null (a reduction)."""
    return column.argmax(order, where=column.notnull())


def _day(day: ir.DateValue | date) -> ir.DateValue:
    return ibis.date(day.year, day.month, day.day) if isinstance(day, date) else day
