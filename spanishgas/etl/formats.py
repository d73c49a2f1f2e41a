"""How a utility's files write their values, declared per table in mapping.yaml; values.py reads them.

What a format does not say is in the project's own form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, model_validator
from pydantic import Field as Limited
from pydantic_core import PydanticCustomError

from spanishgas.config.reading import Names, Strict, Text, fault, member, packaged
from spanishgas.config.tariff import tariff, zone
from spanishgas.contracts import contract
from spanishgas.contracts.fields import Kind
from spanishgas.raw_files import HOURS

UNITS: Mapping[str, Mapping[str, tuple[float, float]]] = packaged(__file__)
STEPS = {"hour": 60, "half_hour": 30, "quarter_hour": 15}
OF_HOURS = ("clock", "stamp", "resolution", "wide", "position", "first_position", "corrections")
CLOCKS = {"+01:00": "Etc/GMT-1", "offset": "UTC"}
"""Time zone of the stamps as they are read, by those values of `clock` that are no zone."""
ZONE = r":\d\d.*([A-Za-z]|[+-] *\d)"
_EXAMPLE = datetime(2021, 11, 22, 13, 45, tzinfo=UTC)
_SPAN = re.compile(r"(.*)\{(\d+)\.\.(\d+)\}(.*)")


def _is_clock(name: str) -> str:
    if name in ("local", *CLOCKS):
        return name
    try:
        return zone(name)
    except PydanticCustomError as unknown:
        raise fault(
            "", "must be local, '+01:00', offset or a time zone, such as Europe/Madrid", name
        ) from unknown


Clock = Annotated[Text, AfterValidator(_is_clock)]


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
    clock: Clock | None = None
    """Time zone of the stamps: legal time by tariff.yaml, CET all year, an offset in each, or a zone by its name; none:
    days of 24 hours."""
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
        if self.by_day and self.clock not in (None, "local", legal := tariff().zone):
            raise fault(
                "clock", f"must be local ({legal}), or left out, where readings are numbered", self.clock
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
