"""The window of twelve months before as_of, and the tariff period of each reading that a file may hold of it.

Spanish 2.0TD in local time (feature dictionary, "Bronze: the hourly roll-up").
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import pandas as pd

MONTHS = 12
LEGAL = "Europe/Madrid"
HOLIDAYS = ("01-01", "01-06", "05-01", "08-15", "10-12", "11-01", "12-06", "12-08", "12-25")
"""National holidays of fixed date."""
PEAK, STANDARD, OFFPEAK = 1, 2, 3
WORKING_DAY = [OFFPEAK] * 8 + [STANDARD] * 2 + [PEAK] * 4 + [STANDARD] * 4 + [PEAK] * 4 + [STANDARD] * 2


def window(as_of: date) -> list[str]:
    """The twelve whole calendar months that end on or before `as_of`, as YYYY-MM, oldest first.

    >>> window(date(2024, 12, 31))[0], window(date(2025, 3, 30))[-1]
    ('2024-01', '2025-02')
    """
    whole = (as_of + timedelta(days=1)).replace(day=1) - timedelta(days=1)
    last = pd.Period(whole, freq="M")
    return [str(last - back) for back in range(MONTHS - 1, -1, -1)]


def tariff_period(hour: pd.Timestamp) -> int:
    """1 peak, 2 standard, 3 off-peak.

    >>> tariff_period(pd.Timestamp("2024-03-04 10:00")), tariff_period(pd.Timestamp("2024-05-01 10:00"))
    (1, 3)
    """
    if hour.weekday() >= 5 or f"{hour:%m-%d}" in HOLIDAYS:
        return OFFPEAK
    return WORKING_DAY[hour.hour]


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


@lru_cache(maxsize=8)
def hours(as_of: date, grid: Grid = Grid()) -> pd.DataFrame:
    """Every stamp of the window, once: `hour` as the file has it, `slot`, `code`, and `times` that it comes.

    `slot` is the place of its month in the window x 10 + tariff period. A local stamp comes twice where the clock goes
    back; its `code` is then half of what both add to the sum.
    """
    months = window(as_of)
    end = pd.Period(months[-1], freq="M").end_time
    step = pd.Timedelta(minutes=grid.minutes)
    start = pd.date_range(f"{months[0]}-01", end, freq=step, tz=LEGAL if grid.clock else None)
    stamp = start + step if grid.end else start
    stamp = stamp.tz_convert(grid.clock).tz_localize(None) if grid.clock else stamp
    frame = pd.DataFrame({"hour": stamp, "slot": _slots(start.tz_localize(None), months)})
    frame["times"] = frame.groupby("hour")["hour"].transform("size")
    frame = frame.drop_duplicates("hour", ignore_index=True)
    return frame.assign(code=codes(len(frame)))


def doubled(as_of: date, grid: Grid) -> list[pd.Timestamp]:
    """The stamps that a clock of Spanish legal time shows twice in the window."""
    frame = hours(as_of, Grid(grid.step, LEGAL, grid.end))
    return list(frame["hour"][frame["times"] > 1])


def _slots(local: pd.DatetimeIndex, months: list[str]) -> np.ndarray:
    place = {month: index for index, month in enumerate(months)}
    hour = local.floor("h")
    slot = {h: place[f"{h:%Y-%m}"] * 10 + tariff_period(h) for h in hour.unique()}
    return np.array([slot[h] for h in hour], dtype="int64")


def codes(count: int) -> np.ndarray:
    """`count` well mixed 40-bit integers (splitmix64).

    Sums of different multisets of as many hours differ, but for one chance in 2^40.
    """
    z = np.arange(1, count + 1, dtype="uint64") * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = ((z ^ (z >> np.uint64(31))) >> np.uint64(24)).astype("int64")
    return mixed
