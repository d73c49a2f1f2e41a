"""Random streams and the calendar they are keyed by.

Each stream is named by what it draws and the block of customers it draws for. No stream depends on how many
customers an extract has or when it is taken, except those that are meant to: OUTCOME and CONTACT.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Draw = Callable[[tuple[int, int]], NDArray[np.float64]]

BASE = date(2024, 12, 31)
"""As-of of the published data; customers known on this day are the base cohort."""
HORIZON = 36
"""Months that are drawn for every customer, from 2024-01 on, whatever part of them an extract shows."""
EARLY = 24
"""Months that one stream draws; the later ones come from a stream of their own and so leave these as they were."""
LAST = date(2026, 12, 31)
"""End of the horizon, the latest as-of."""
BLOCK = 100
"""Customers drawn together; 100 customers x 8,784 hours make one Parquet row group."""
WINDOW = 12
"""Whole calendar months that an extract shows."""


class Stream(IntEnum):
    """What a stream draws; the value is part of the key and must not change."""

    PEOPLE = 1
    ENERGY = 2
    PRICES = 3
    HOURS = 4
    OUTCOME = 5
    CONTACT = 6
    SHIFT = 7
    ORDER = 8
    RESPONSE = 9
    DATES = 10


class Draws(NamedTuple):
    """The streams of a block: of which utility (`seed`), cohort and place in it."""

    seed: int
    cohort: int
    block: int

    def rng(self, stream: Stream, *key: int) -> np.random.Generator:
        """The generator of one stream of the block."""
        return rng(self.seed, stream, self.cohort, self.block, *key)


def rng(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """The generator of one stream; equal keys give equal draws on every machine."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(int(stream), *key))
    return np.random.Generator(np.random.SFC64(sequence))


def drawn_months(first: Draw, later: Draw) -> NDArray[np.float64]:
    """Customers x HORIZON, of which one stream draws the first EARLY months and another the rest."""
    return np.hstack([first((BLOCK, EARLY)), later((BLOCK, HORIZON - EARLY))])


def last_month(as_of: date) -> int:
    """Index (0 = 2024-01) of the last whole calendar month on or before `as_of`."""
    ended = (as_of + timedelta(days=1)).day == 1
    return (as_of.year - BASE.year) * 12 + as_of.month - 1 - (0 if ended else 1)


def window(as_of: date) -> slice:
    """The twelve whole months that end on or before `as_of`, as a slice of the horizon."""
    end = last_month(as_of) + 1
    return slice(end - WINDOW, end)


def month_start(index: int) -> date:
    """First day of the month `index` of the horizon."""
    return date(BASE.year + index // 12, index % 12 + 1, 1)


def months(span: slice) -> list[str]:
    """The months of `span` as YYYY-MM."""
    return [f"{month_start(m):%Y-%m}" for m in range(span.start, span.stop)]
