"""The window of twelve months before as_of, and the tariff period of each of its hours.

Spanish 2.0TD on the naive local timestamp (feature dictionary, "Bronze: the hourly roll-up").
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import pandas as pd

MONTHS = 12
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


@lru_cache(maxsize=8)
def hours(as_of: date) -> pd.DataFrame:
    """Every hour of the window: `hour`, `slot` (place of its month in the window x 10 + tariff period), `code`."""
    months = window(as_of)
    end = pd.Period(months[-1], freq="M").end_time
    hour = pd.date_range(f"{months[0]}-01", end, freq="h")
    place = {month: index for index, month in enumerate(months)}
    slot = [place[f"{h:%Y-%m}"] * 10 + tariff_period(h) for h in hour]
    return pd.DataFrame({"hour": hour, "slot": np.array(slot, dtype="int64"), "code": codes(len(hour))})


def codes(count: int) -> np.ndarray:
    """`count` well mixed 40-bit integers (splitmix64).

    Sums of different multisets of as many hours differ, but for one chance in 2^40.
    """
    z = np.arange(1, count + 1, dtype="uint64") * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = ((z ^ (z >> np.uint64(31))) >> np.uint64(24)).astype("int64")
    return mixed
