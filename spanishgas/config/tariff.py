"""The tariff: which periods a day is divided into, by which calendar, in which time zone: experiments/tariff.yaml."""

from __future__ import annotations

import math
import re
from calendar import isleap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator, model_validator

from spanishgas.config.reading import Strict, Text, fault, member, read, unique
from spanishgas.settings import Settings, settings

FILE = "tariff.yaml"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
HOLIDAY: Literal["holiday"] = "holiday"
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "holiday"]
DAY_MINUTES = 24 * 60
_SPAN = re.compile(r"(\d{1,2})(?::([0-5]\d))?-(\d{1,2})(?::([0-5]\d))?")


def zone(name: str) -> str:
    """The name, which must be a time zone's."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as unknown:
        raise fault("", "must be a time zone, such as Europe/Madrid", name) from unknown
    return name


def _is_span(text: str) -> str:
    if not _SPAN.fullmatch(text) or max(minutes(text)) > DAY_MINUTES:
        raise fault("", "must be a span of the day, such as '10-14' or '0:30-7:30'", text)
    return text


def minutes(span: str) -> tuple[int, int]:
    """First minute of the span, and the first after it, from midnight."""
    begin, past, end, over = (int(part or 0) for part in _SPAN.fullmatch(span).groups())  # type: ignore[union-attr]
    return 60 * begin + past, 60 * end + over


def _is_day_of_year(text: str) -> str:
    try:
        date.fromisoformat(f"2024-{text}")
    except ValueError as wrong:
        raise fault("", "must be month and day, such as '12-25'", text) from wrong
    return text


Zone = Annotated[Text, AfterValidator(zone)]
Span = Annotated[Text, AfterValidator(_is_span)]


class Holidays(Strict):
    """Days that count as `holiday`: of fixed date, and those of a country or region, the moving ones included."""

    fixed: list[Annotated[Text, AfterValidator(_is_day_of_year)]] = []
    """Month and day, as 12-25."""
    country: Text | None = None
    """Code by ISO 3166-1, as ES: its public holidays by the package `holidays`."""
    subdivision: Text | None = None
    """Region by ISO 3166-2 without the country, as CT, whose holidays count too."""

    @model_validator(mode="after")
    def _are_known(self) -> Self:
        if self.subdivision and not self.country:
            raise fault("subdivision", "needs a country", self.subdivision)
        try:
            self.of([2024])
        except NotImplementedError as unknown:
            raise fault("country", str(unknown), self.country) from unknown
        return self

    def of(self, years: Sequence[int]) -> list[date]:
        """The holidays of these years; NotImplementedError for a country or region that the package does not know."""
        days = [
            date.fromisoformat(f"{year}-{day}")
            for year in years
            for day in self.fixed
            if day != "02-29" or isleap(year)
        ]
        if self.country is None:
            return days
        import holidays

        return [*days, *holidays.country_holidays(self.country, self.subdivision, years=years)]


class Line(Strict):
    """One rule of the calendar: the period of the times for which all that it says holds."""

    period: Text
    months: list[Annotated[int, Field(ge=1, le=12)]] = []
    """None: all."""
    days: Annotated[list[Day], AfterValidator(unique)] = []
    """Weekdays and `holiday`, one of which the day must be; none: any day."""
    hours: list[Span] = []
    """Spans of local time, one of which the time must lie in; the end is outside. None: the whole day."""


class Tariff(Strict):
    """Periods in the order of their prices, the calendar that tells them, and the legal time that it counts in."""

    name: Text
    zone: Zone
    periods: dict[Annotated[Text, Field(pattern=r"^[a-z][a-z0-9_]*$")], Text] = Field(
        min_length=1, max_length=9
    )
    """What each period is, by its name; the first one's price is `variable_price_tier1_eur_kwh`, and so on."""
    holidays: Holidays = Holidays()
    calendar: list[Line] = Field(min_length=1)
    """The first line that holds decides."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @field_validator("calendar")
    @classmethod
    def _leaves_no_time_out(cls, calendar: list[Line]) -> list[Line]:
        last = calendar[-1]
        if last.months or last.days or last.hours:
            raise fault(
                "", "must end with a line that names a period alone, for all other times", last.period
            )
        return calendar

    @model_validator(mode="after")
    def _gives_every_period(self) -> Self:
        for number, line in enumerate(self.calendar):
            member(f"calendar.{number}.period", "period", line.period, self.periods)
        if idle := sorted(set(self.periods) - {line.period for line in self.calendar}):
            raise fault("calendar", f"gives no time to {', '.join(idle)}", len(self.calendar))
        return self

    @property
    def prices(self) -> list[str]:
        """The column of each period's price."""
        return [f"variable_price_tier{number}_eur_kwh" for number in range(1, len(self.periods) + 1)]

    def finest(self) -> int:
        """Minutes of the longest step on whose grid every period begins."""
        edges = [minute for line in self.calendar for span in line.hours for minute in minutes(span)]
        return math.gcd(60, *edges)


_applied: ContextVar[Tariff | None] = ContextVar("tariff", default=None)


def tariff() -> Tariff:
    """The tariff that is applied: that of the build under way, else tariff.yaml's.

    A folder of experiments without that file has the project's own: Spain's 2.0TD.
    """
    if (applied := _applied.get()) is not None:
        return applied
    own = settings().experiments / FILE
    return read(own if own.exists() else Settings.model_fields["experiments"].default / FILE, Tariff)


@contextmanager
def applied(fixed: Tariff) -> Iterator[None]:
    """The time in which `fixed` is the tariff, whatever the file says by then."""
    token = _applied.set(fixed)
    try:
        yield
    finally:
        _applied.reset(token)
