"""Texts of a file as values, by its format: here and nowhere else, on DuckDB whichever engine follows."""

from __future__ import annotations

import re
from datetime import datetime

import ibis
import ibis.expr.types as ir

from spanishgas.config.tariff import tariff
from spanishgas.contracts.fields import Field, Kind
from spanishgas.etl.calendar import Grid
from spanishgas.etl.formats import CLOCKS, STEPS, ZONE, Format

CUPS_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
WHOLE = 2.0**53
"""Above it a double no longer tells whole numbers apart."""


def grid(how: Format) -> Grid:
    """How the stamps lie on time, once they are read."""
    zones = CLOCKS | {"local": tariff().zone}
    clock = "UTC" if how.by_day and how.clock else zones.get(how.clock or "", how.clock)
    return Grid(STEPS[how.resolution] if how.resolution else None, clock, how.stamp == "end")


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def try_strptime(text: str, form: str) -> datetime:  # type: ignore[empty-body]
    """DuckDB's own: null where the text is not of that form."""


@ibis.udf.scalar.builtin(name="try_strptime", signature=(("string", "string"), "timestamp('UTC')"))
def try_strptime_with_zone(text, form):  # type: ignore[no-untyped-def]
    """The same for a form with %z, of which DuckDB makes an instant."""


@ibis.udf.scalar.builtin(signature=(("string", "timestamp"), "timestamp('UTC')"))
def timezone(zone, local):  # type: ignore[no-untyped-def]
    """DuckDB's own: the instant of a local time."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def epoch_us(moment: datetime) -> int:  # type: ignore[empty-body]
    """DuckDB's own: microseconds since 1970."""


@ibis.udf.scalar.builtin  # type: ignore[untyped-decorator]
def make_timestamp(microseconds: int) -> datetime:  # type: ignore[empty-body]
    """DuckDB's own, without time zone."""


def given(text: ir.StringColumn, field: Field, how: Format) -> ir.StringColumn:
    """The text; null where it stands for no value, or is blank, unless the text itself is the value."""
    if how.nulls:
        text = ibis.ifelse(text.strip().isin(how.nulls), None, text)
    if field.kind is Kind.TEXT and not field.required:
        return text
    return ibis.ifelse(text.strip() == "", None, text)


def parse(text: ir.StringColumn, column: str, field: Field, how: Format) -> ir.Value:
    """The typed value; null where the text does not parse. Every engine reads the same texts: patterns come first."""
    match field.kind:
        case Kind.TEXT:
            return cups(text) if how.ids and column == "customer_id" else text
        case Kind.DAY:
            return _moment(text, how.dates).date() if how.dates else _iso_day(text)
        case Kind.MONTH:
            form = how.months or how.dates
            return _moment(text, form).strftime("%Y-%m") if form else _iso_month(text)
        case Kind.NUMBER:
            return scaled(number(text, how), column, how)
        case Kind.FLAG if how.yes or how.no:
            flag = ibis.cases((text.strip().isin(how.yes), "1"), (text.strip().isin(how.no), "0"), else_=text)
            return _whole(number(flag, how))
        case _:
            return _whole(number(text, how))


def number(text: ir.StringColumn, how: Format) -> ir.FloatingValue:
    """A number as the format writes it; null for any other text."""
    text = text.strip()
    if how.thousands:
        grouped = rf"^[+-]?\d{{1,3}}({re.escape(how.thousands)}\d{{3}})+({re.escape(how.decimal)}\d*)?$"
        text = ibis.ifelse(text.re_search(grouped), text.replace(how.thousands, ""), text)
    sign = re.escape(how.decimal)
    plain = text.re_search(rf"^[+-]?(\d+{sign}?\d*|{sign}\d+)([eE][+-]?\d+)?$")
    digits = text if how.decimal == "." else text.replace(how.decimal, ".")
    value = ibis.ifelse(plain, digits, None).try_cast("float64")
    return ibis.ifelse(value.isinf(), None, value)


def scaled(value: ir.FloatingValue, column: str, how: Format) -> ir.FloatingValue:
    """The value in the unit of the column: divided where that is exact, as Wh by 1,000."""
    times, over = how.factor(column)
    value = value if times == 1 else value * times
    return value if over == 1 else value / over


def time(text: ir.StringColumn, how: Format) -> ir.TimestampValue:
    """The stamp on the format's clock: UTC where each has an offset. Null for a text that is no such time."""
    late = None
    if how.stamp == "end":  # the end of a day, as 24:00 of that day
        late = text.re_search(r"\b24:00")
        text = text.re_replace(r"\b24:00", "00:00")
    if how.clock == "offset" and not how.dates:
        moment = ibis.ifelse(text.re_search(ZONE), text, None).try_cast("timestamp('UTC')").cast("timestamp")
    elif how.dates:
        moment = _strptime(text, how.dates)
    else:  # DuckDB would drop the zone in silence
        moment = ibis.ifelse(text.re_search(ZONE), None, text).try_cast("timestamp")
    return moment if late is None else ibis.ifelse(late, moment + ibis.interval(days=1), moment)


def in_day(day: ir.TimestampColumn, place: ir.IntegerColumn, how: Format) -> ir.TimestampValue:
    """The stamp of the reading at a place (from 0) of its day: on UTC if days have 23 and 25 hours."""
    midnight = timezone(tariff().zone, day).cast("timestamp") if how.clock else day
    return make_timestamp(epoch_us(midnight) + place * (STEPS[how.resolution or "hour"] * 60_000_000))


def place(column: ir.Column, how: Format) -> ir.IntegerValue:
    """The place from 0 that 7, 07 or 07:00 means; null for any other value, and beyond the longest day."""
    text = column.cast("string").strip()
    label = text.re_search(r"^\d{1,2}:\d{2}$")
    minutes = text.split(":")[0].try_cast("int64") * 60 + text.split(":")[1].try_cast("int64")
    step = STEPS[how.resolution or "hour"]
    counted = ibis.ifelse(
        label, minutes // step, ibis.ifelse(text.re_search(r"^\d{1,3}$"), text, None).try_cast("int64")
    )
    counted = (counted - how.first_position).cast("int64")
    return ibis.ifelse(counted.between(0, how.places - 1), counted, None)


def cups(text: ir.StringColumn) -> ir.StringValue:
    """The 20 characters of a supply point's code; null where the two check characters are not those of its digits.

    The 16 digits modulo 529 give the letters, by quotient and remainder by 23 (Royal Decree 1435/2002).
    """
    code = text.strip().upper().substr(0, 20)
    rest = code.substr(2, 16).try_cast("int64") % 529
    letters = ibis.literal(CUPS_LETTERS)
    checks = letters.substr(rest // 23, 1) + letters.substr(rest % 23, 1)
    right = code.re_search(r"^ES\d{16}[A-Z]{2}$") & (checks == code.substr(18, 2))
    return ibis.ifelse(right, code, None)


def _moment(text: ir.StringColumn, form: str) -> ir.TimestampValue:
    moment = _strptime(text.strip(), form)
    return ibis.ifelse(moment.year() >= 1000, moment, None)


def _strptime(text: ir.StringColumn, form: str) -> ir.TimestampValue:
    return try_strptime_with_zone(text, form).cast("timestamp") if "%z" in form else try_strptime(text, form)


def _iso_day(text: ir.StringColumn) -> ir.Value:
    day = text.strip().re_search(r"^[1-9]\d{3}-\d{2}-\d{2}([T ]\d{2}:\d{2}[:.\d]*)?$")
    return ibis.ifelse(day, text.strip().substr(0, 10), None).try_cast("date")


def _iso_month(text: ir.StringColumn) -> ir.Value:
    month = text.strip().re_search(r"^[1-9]\d{3}-(0[1-9]|1[0-2])(-\d{2})?$")
    return ibis.ifelse(month, text.strip().substr(0, 7), None)


def _whole(value: ir.FloatingValue) -> ir.Value:
    value = ibis.ifelse(value.abs() < WHOLE, value, None)
    return ibis.ifelse(value == value.round(), value, None).cast("int64")
