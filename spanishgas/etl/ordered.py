"""Sums of hours that stand as an export writes them: customer by customer, each in time order.

A run of hours without a gap is summed where it lies, by slices of the calendar: no row needs a join or a place in a
hash table. What stands otherwise is left to `rollup`, which gives the same sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Integers = NDArray[np.int64]
ROWS = 20 * 8_784
"""Rows of a batch: of whole years where row groups hold whole years."""
LARGEST = 2.0**53
"""Units in an hour up to which 1,024 of them (a slot has at most 744) fit a 64-bit integer."""
AT_ONCE = 8
"""Customers whose arithmetic happens in the processor's cache."""
LEAST = 100
"""Hours in a run, on average, that make this way the faster one."""


class _NotInOrder(Exception):
    """These hours are not for this module."""


@dataclass(frozen=True)
class _Slots:
    """A stretch of the calendar by slot."""

    names: Integers
    order: Integers
    """Hours of the stretch, those of a slot together."""
    starts: Integers
    """Where each slot begins in `order`."""
    place: Integers
    """Slot of each hour, as a position in `names`."""
    hours: Integers
    code: Integers


class _Calendar:
    def __init__(self, frame: pd.DataFrame) -> None:
        self.clock: Integers = frame["hour"].to_numpy().astype("datetime64[us]").astype(np.int64)
        self.slot: Integers = frame["slot"].to_numpy()
        self.code: Integers = frame["code"].to_numpy()
        self.step = int(self.clock[1] - self.clock[0])
        self.stretch = lru_cache(maxsize=64)(self._stretch)

    def _stretch(self, first: int, hours: int) -> _Slots:
        """The slots of `hours` hours from the `first` of the calendar."""
        slot, code = (values[first : first + hours] for values in (self.slot, self.code))
        order = np.argsort(slot, kind="stable")
        names, starts, place, size = np.unique(
            slot[order], return_index=True, return_inverse=True, return_counts=True
        )
        by_hour = np.empty(hours, np.int64)
        by_hour[order] = place
        return _Slots(names, order, starts, by_hour, size, np.add.reduceat(code[order], starts))


def sums(
    parts: Sequence[Path], columns: Mapping[str, str], frame: pd.DataFrame, unit: float, threads: int
) -> pa.Table | None:
    """Sums per run of a customer's hours and slot: customer_id, slot, n_rows, code, elec and gas in units, negative_*.

    `columns` names customer_id, timestamp and the two readings in the Parquet files `parts`; `frame` is the calendar.
    Returns None if runs are short, if some row is null, off the hour, or out of the window or the range of a reading,
    if a column has another type (text, a number that is no double), and if a page cannot be read: the other way through
    the hours says more about it.
    """
    names, calendar = list(columns.values()), _Calendar(frame)
    try:
        groups = [group for part in parts for group in _groups(part)]
        with ThreadPoolExecutor(threads) as pool:
            summed = list(pool.map(partial(_read, names=names, calendar=calendar, unit=unit), groups))
    except (_NotInOrder, pa.ArrowException, OSError):
        return None
    tables = [table for tables in summed for table in tables]
    return pa.concat_tables(tables) if tables else None


def _groups(part: Path) -> Iterator[tuple[Path, pq.FileMetaData, int]]:
    footer = pq.read_metadata(part)
    return ((part, footer, group) for group in range(footer.num_row_groups))


def _read(
    group: tuple[Path, pq.FileMetaData, int], names: list[str], calendar: _Calendar, unit: float
) -> list[pa.Table]:
    part, footer, number = group
    with pq.ParquetFile(part, metadata=footer, read_dictionary=names[:1]) as file:
        batches = file.iter_batches(ROWS, row_groups=[number], columns=names, use_threads=False)
        return [
            table for batch in batches if len(batch) for table in _runs(batch.select(names), calendar, unit)
        ]


def _runs(batch: pa.RecordBatch, calendar: _Calendar, unit: float) -> Iterator[pa.Table]:
    """The batch's sums, neighbouring customers with the same stretch of hours together."""
    ids, time, *readings = batch.columns
    if any(column.null_count for column in batch.columns) or not _typed(ids, time, readings):
        raise _NotInOrder
    code, hour = ids.indices.to_numpy(), time.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    breaks = (np.diff(code) != 0) | (np.diff(hour) != calendar.step)
    begin = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    size = np.diff(begin, append=len(code))
    first = np.searchsorted(calendar.clock, hour[begin])
    last = np.minimum(first + size, len(calendar.clock)) - 1
    # a run without a gap that ends where the calendar does as many stamps on has each of them
    outside = calendar.clock[np.minimum(first, last)] != hour[begin]
    outside |= calendar.clock[last] != hour[begin + size - 1]
    if outside.any() or len(begin) > len(code) // LEAST + LEAST:
        raise _NotInOrder
    edges = np.flatnonzero(np.diff(size) | np.diff(first)) + 1
    for a, b in pairwise([0, *edges, len(begin)]):
        rows = slice(begin[a], begin[a] + size[a] * (b - a))
        slots = calendar.stretch(int(first[a]), int(size[a]))
        sums = {
            name: _reading(values.to_numpy()[rows].reshape(b - a, -1), slots, unit)
            for name, values in zip(("elec", "gas"), readings, strict=True)
        }
        yield _table(ids.dictionary.take(pa.array(code[begin[a:b]])), slots, sums)


def _typed(ids: pa.Array, time: pa.Array, readings: list[pa.Array]) -> bool:
    return (
        pa.types.is_dictionary(ids.type)
        and pa.types.is_timestamp(time.type)
        and all(pa.types.is_float64(reading.type) for reading in readings)
    )


def _reading(values: NDArray[np.float64], slots: _Slots, unit: float) -> tuple[Integers, Integers]:
    """Customer x slot: the sum in units, a reading below 0 as 0, and how many are below 0."""
    total = np.empty((len(values), len(slots.names)), np.int64)
    for i in range(0, len(values), AT_ONCE):
        units = np.maximum(values[i : i + AT_ONCE], 0)
        units *= unit
        if not units.max() < LARGEST:  # so written, NaN is out as well
            raise _NotInOrder
        whole = np.rint(units, out=units).astype(np.int64)
        np.add.reduceat(whole[:, slots.order], slots.starts, axis=1, out=total[i : i + AT_ONCE])
    customer, hour = np.divmod(np.flatnonzero(values < 0), values.shape[1])
    cells = customer * len(slots.names) + slots.place[hour]
    return total, np.bincount(cells, minlength=total.size)


def _table(ids: pa.Array, slots: _Slots, sums: Mapping[str, tuple[Integers, Integers]]) -> pa.Table:
    count = len(ids)
    return pa.table(
        {
            "customer_id": ids.take(pa.array(np.repeat(np.arange(count), len(slots.names)))),
            "slot": np.tile(slots.names.astype(np.int16), count),
            "n_rows": np.tile(slots.hours.astype(np.int32), count),
            "code": np.tile(slots.code, count).astype(np.float64),
            **{name: total.ravel() for name, (total, _) in sums.items()},
            **{f"negative_{name}": below.astype(np.int32) for name, (_, below) in sums.items()},
        }
    )
