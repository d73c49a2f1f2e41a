"""The window of twelve months before as_of, and the tariff period of each reading that a file may hold of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.tariff import HOLIDAY, WEEKDAYS, Line, Tariff, minutes, tariff
from spanishgas.errors import UsageError

Integers = NDArray[np.int64]
MONTHS = 12


def window(as_of: date) -> list[str]:
    """The twelve whole calendar months that end on or before `as_of`, as YYYY-MM, oldest first.

    >>> window(date(2024, 12, 31))[0], window(date(2025, 3, 30))[-1]
    ('2024-01', '2025-02')
    """
    whole = (as_of + timedelta(days=1)).replace(day=1) - timedelta(days=1)
    last = pd.Period(whole, freq="M")
    return [str(last - back) for back in range(MONTHS - 1, -1, -1)]


def period_numbers(times: pd.DatetimeIndex, tariff: Tariff) -> Integers:
    """The number of the tariff period, from 1, that each local time lies in."""
    holidays, names = tariff.holidays.of(sorted(set(times.year))), list(tariff.periods)
    where = [_holds(line, times, holidays) for line in tariff.calendar]
    return np.select(where, [names.index(line.period) + 1 for line in tariff.calendar]).astype("int64")


def _holds(line: Line, times: pd.DatetimeIndex, holidays: list[date]) -> NDArray[np.bool_]:
    where: NDArray[np.bool_] = np.ones(len(times), dtype=bool)
    if line.months:
        where &= times.month.isin(line.months)
    if line.days:
        numbers = [WEEKDAYS.index(day) for day in line.days if day != HOLIDAY]
        off = times.normalize().isin(pd.DatetimeIndex(holidays if HOLIDAY in line.days else []))
        where &= times.dayofweek.isin(numbers) | off
    if line.hours:
        minute = (times.hour * 60 + times.minute).to_numpy()
        where &= np.any([_within(minute, *minutes(span)) for span in line.hours], axis=0)
    return where


def _within(minute: Integers, begin: int, end: int) -> NDArray[np.bool_]:
    """Whether each minute of the day lies in a span, which goes over midnight where its end is not after its begin."""
    return (minute >= begin) & (minute < end) if begin < end else (minute >= begin) | (minute < end)


@dataclass(frozen=True)
class Grid:
    """How a file stamps its readings."""

    step: int | None = None
    """Minutes of a reading; none: an hour, unless the file shows another."""
    clock: str | None = None
    """Time zone of the stamps; none: a day has 24 hours all year, as the simulator writes them."""
    end: bool = False
    """Whether a stamp is the end of its interval."""

    @property
    def minutes(self) -> int:
        """Minutes of a reading."""
        return self.step or 60


def hours(as_of: date, grid: Grid = Grid()) -> pd.DataFrame:
    """Every stamp of the window, once: `hour` as the file has it, `slot`, `code`, and `times` that it comes.

    `slot` is the place of its month in the window x 10 + tariff period, by the tariff that is applied. A local stamp
    comes twice where the clock goes back; its `code` is then half of what both add to the sum. `UsageError` for
    readings that are too coarse for the tariff.
    """
    if grid.minutes > (step := tariff().finest()):
        raise UsageError(
            f"tariff.yaml has periods that begin between readings of {grid.minutes} minutes: give readings of {step} "
            "minutes and say 'resolution' in mapping.yaml, or let its periods begin where readings do"
        )
    return _hours(as_of, grid, tariff())


@lru_cache(maxsize=8)
def _hours(as_of: date, grid: Grid, tariff: Tariff) -> pd.DataFrame:
    months = window(as_of)
    end = pd.Period(months[-1], freq="M").end_time
    step = pd.Timedelta(minutes=grid.minutes)
    start = pd.date_range(f"{months[0]}-01", end, freq=step, tz=tariff.zone if grid.clock else None)
    stamp = start + step if grid.end else start
    stamp = stamp.tz_convert(grid.clock).tz_localize(None) if grid.clock else stamp
    local = start.tz_localize(None)
    place = (local.year - int(months[0][:4])) * 12 + local.month - int(months[0][5:])
    frame = pd.DataFrame(
        {"hour": stamp, "slot": place.to_numpy("int64") * 10 + period_numbers(local, tariff)}
    )
    frame["times"] = frame.groupby("hour")["hour"].transform("size")
    frame = frame.drop_duplicates("hour", ignore_index=True)
    return frame.assign(code=codes(len(frame)))


def doubled(as_of: date, grid: Grid) -> list[pd.Timestamp]:
    """The stamps that a clock of the tariff's legal time shows twice in the window."""
    frame = hours(as_of, Grid(grid.step, tariff().zone, grid.end))
    return list(frame["hour"][frame["times"] > 1])


def codes(count: int) -> np.ndarray:
    """`count` well mixed 40-bit integers (splitmix64).

    Sums of different multisets of as many hours differ, but for one chance in 2^40.
    """
    z = np.arange(1, count + 1, dtype="uint64") * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = ((z ^ (z >> np.uint64(31))) >> np.uint64(24)).astype("int64")
    return mixed
