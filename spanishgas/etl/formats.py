"""How a utility's files write their values: declared per table in mapping.yaml, and read by the expressions below.

A text becomes a value here and nowhere else, on DuckDB whichever engine follows. What a format does not say is in the
project's own form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

import ibis
import ibis.expr.types as ir
from pydantic import Field as Limited
from pydantic import model_validator

from spanishgas.config.reading import Names, Strict, Text, fault, member, packaged
from spanishgas.contracts import contract
from spanishgas.contracts.fields import Field, Kind
from spanishgas.etl.calendar import LEGAL, Grid
from spanishgas.raw_files import HOURS

UNITS: Mapping[str, Mapping[str, tuple[float, float]]] = packaged(__file__)
CLOCKS = {"Europe/Madrid": LEGAL, "UTC": "UTC", "+01:00": "Etc/GMT-1", "offset": "UTC"}
"""Time zone of the stamps as they are read, by the `clock` of a mapping."""
STEPS = {"hour": 60, "half_hour": 30, "quarter_hour": 15}
OF_HOURS = ("clock", "stamp", "resolution", "wide", "position", "first_position", "corrections")
CUPS_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
WHOLE = 2.0**53
"""Above it a double no longer tells whole numbers apart."""
ZONE = r":\d\d.*([A-Za-z]|[+-] *\d)"
_EXAMPLE = datetime(2021, 11, 22, 13, 45, tzinfo=UTC)
_SPAN = re.compile(r"(.*)\{(\d+)\.\.(\d+)\}(.*)")


class Format(Strict):
    """How the values of one table are written; every key may be left out."""

    delimiter: Literal[",", ";", "\t", "|"] | None = None
    """Between the columns of a CSV file; none: a comma or semicolon, whichever splits the header."""
    encoding: Literal["utf-8", "latin-1", "cp1252", "utf-16"] = "utf-8"
    decimal: Literal[".", ","] = "."
    thousands: Literal[".", ",", " ", "'"] | None = None
    dates: Text | None = None
    """How dates, and the times of readings, are written: %d/%m/%Y %H:%M."""
    months: Text | None = None
    """How months are written: %m/%Y."""
    nulls: Names = []
    """Texts that stand for no value."""
    yes: Names = []
    """Texts of flags that mean 1."""
    no: Names = []
    """Texts of flags that mean 0."""
    units: Mapping[str, str | float] = {}
    """The unit in the file by column, or a factor (which may be below 0, for a sign)."""
    ids: Literal["cups"] | None = None
    """cups: ids are supply points, whose check characters must be right; 20 characters count."""
    clock: Literal["Europe/Madrid", "UTC", "+01:00", "offset"] | None = None
    """Time zone of the stamps: legal, UTC, CET all year, or an offset in each; none: days of 24 hours."""
    stamp: Literal["start", "end"] = "start"
    """Which end of its interval a stamp is."""
    resolution: Literal["hour", "half_hour", "quarter_hour"] | None = None
    wide: Mapping[str, Text | Names] = {}
    """The columns of a day in order by reading, as a list or as H{01..25}."""
    position: Text | None = None
    """Column that numbers the readings of a day; `timestamp` is then the day."""
    first_position: Annotated[int, Limited(ge=0, le=1)] = 1
    sheet: Text | None = None
    """Sheet of a workbook; none: the only one that holds something."""
    header_row: Annotated[int, Limited(ge=1)] = 1
    """Line of the column names in a workbook or CSV file."""
    corrections: Text | None = None
    """Pattern of the files of a folder whose readings replace those of the others."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if self.thousands == self.decimal:
            raise fault("thousands", "must differ from the decimal sign", self.thousands)
        if both := set(self.yes) & set(self.no):
            raise fault("yes", "names what 'no' names too", sorted(both))
        if self.dates and not _round_trip(self.dates, date(2021, 11, 22), datetime.date):
            raise fault("dates", "must write day, month and year, as %d/%m/%Y does", self.dates)
        if self.dates and ("%z" in self.dates) != (self.clock == "offset"):
            raise fault("dates", "must hold %z with clock: offset, and only then", self.dates)
        if self.months and not _round_trip(self.months, (2021, 11), lambda at: (at.year, at.month)):
            raise fault("months", "must write month and year, as %m/%Y does", self.months)
        if self.by_day and self.clock not in (None, "Europe/Madrid"):
            raise fault(
                "clock", "must be Europe/Madrid, or left out, where a day's readings are numbered", self.clock
            )
        if self.by_day and self.resolution is None:
            raise fault("resolution", "must be named where a day's readings are numbered", None)
        if self.by_day and (self.stamp == "end" or (self.wide and self.position)):
            raise fault("position", "must stand alone: without wide, and without stamp: end", self.position)
        if any(len(names) > self.places for names in self.spread.values()):
            raise fault(
                "wide", f"must name at most {self.places} columns (clock: {self.clock})", dict(self.wide)
            )
        if len({len(names) for names in self.spread.values()}) > 1:
            raise fault("wide", "must name as many columns for each reading", dict(self.wide))
        return self

    @property
    def by_day(self) -> bool:
        """Whether readings are told by their day and place in it."""
        return bool(self.wide or self.position)

    @property
    def spread(self) -> dict[str, list[str]]:
        """The columns of a day in order, by reading."""
        return {column: _names(names) for column, names in self.wide.items()}

    @property
    def places(self) -> int:
        """Readings of the longest day."""
        return (25 if self.clock else 24) * 60 // STEPS[self.resolution or "hour"]

    @property
    def grid(self) -> Grid:
        """How the stamps lie on time, once they are read."""
        clock = "UTC" if self.by_day and self.clock else CLOCKS[self.clock] if self.clock else None
        return Grid(STEPS[self.resolution] if self.resolution else None, clock, self.stamp == "end")

    @property
    def typed_hours_stand(self) -> bool:
        """Whether hours of Parquet types mean what the project's own do, but for the stamps' grid."""
        free = {"delimiter", "encoding", "decimal", "thousands", "resolution", "stamp", "clock"}
        free |= {"sheet", "header_row"}
        names = set(Format.model_fields) - free
        return self.clock != "offset" and all(getattr(self, name) == getattr(PLAIN, name) for name in names)

    def check(self, table: str) -> None:
        """Raise a `fault` for what the columns of `table` cannot be."""
        fields = contract(table).fields
        for name in OF_HOURS:
            if table != HOURS and getattr(self, name) != Format.model_fields[name].default:
                raise fault(f"{table}.{name}", f"is for {HOURS} alone", getattr(self, name))
        for column, unit in self.units.items():
            member(f"{table}.units.{column}", f"column of {table}", column, fields)
            if fields[column].kind is not Kind.NUMBER:
                raise fault(f"{table}.units.{column}", "is no column of numbers", unit)
            if isinstance(unit, str):
                member(f"{table}.units.{column}", f"unit of {column}", unit, units(column))
            elif not unit:
                raise fault(f"{table}.units.{column}", "must not be 0", unit)
        for column in self.wide:
            readings = [name for name, field in fields.items() if field.kind is Kind.NUMBER]
            member(f"{table}.wide.{column}", "reading", column, readings)

    def factor(self, column: str) -> tuple[float, float]:
        """What a value of the column is multiplied and divided by."""
        unit = self.units.get(column, 1.0)
        return (unit, 1) if isinstance(unit, int | float) else units(column)[unit]


PLAIN = Format()


def units(column: str) -> Mapping[str, tuple[float, float]]:
    """The units that a column of this name may have; of the endings that fit, the longest says which."""
    ending = max((end for end in UNITS if column.endswith(f"_{end}")), key=len, default="")
    return UNITS.get(ending, {})


def _names(names: str | list[str]) -> list[str]:
    span = _SPAN.fullmatch(names) if isinstance(names, str) else None
    if span:
        before, first, last, after = span.groups()
        return [f"{before}{n:0{len(first)}d}{after}" for n in range(int(first), int(last) + 1)]
    return [names] if isinstance(names, str) else list(names)


def _round_trip(form: str, expected: object, part: Any) -> bool:
    try:
        return bool(part(datetime.strptime(_EXAMPLE.strftime(form), form)) == expected)
    except ValueError:
        return False


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
    midnight = timezone(LEGAL, day).cast("timestamp") if how.clock else day
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
