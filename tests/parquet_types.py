"""Every type and layout in which a column may lie in a Parquet file, with whole numbers that it can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

Make = Callable[[int], pa.Array]
"""So many values, 1 or the first of February 2024 where the type has them."""
DAY, MOMENT = date(2024, 2, 1), datetime(2024, 2, 1, 3)


def repeated(value: Any, kind: pa.DataType) -> Make:
    return lambda rows: pa.array([value] * rows, kind)


def decimal(kind: Callable[[int, int], pa.DataType], precision: int, scale: int) -> Make:
    return repeated(Decimal(1), kind(precision, scale))


INTEGERS = {
    str(kind()): repeated(1, kind())
    for kind in (pa.int8, pa.int16, pa.int32, pa.int64, pa.uint8, pa.uint16, pa.uint32, pa.uint64)
}
FLOATS: dict[str, Make] = {
    "float16": lambda rows: pa.array(np.ones(rows, np.float16)),
    "float32": repeated(1.0, pa.float32()),
    "float64": repeated(1.0, pa.float64()),
}
DECIMALS = {
    "decimal32(9, 3)": decimal(pa.decimal32, 9, 3),
    "decimal64(18, 6)": decimal(pa.decimal64, 18, 6),
    "decimal128(5, 0)": decimal(pa.decimal128, 5, 0),
    "decimal128(20, 3)": decimal(pa.decimal128, 20, 3),
    "decimal128(38, 12)": decimal(pa.decimal128, 38, 12),
    "decimal128(38, 37)": decimal(pa.decimal128, 38, 37),
    "decimal256(10, 3)": decimal(pa.decimal256, 10, 3),
    "decimal256(38, 12)": decimal(pa.decimal256, 38, 12),
}
WIDE = {
    "decimal256(39, 3)": decimal(pa.decimal256, 39, 3),
    "decimal256(50, 12)": decimal(pa.decimal256, 50, 12),
    "decimal256(55, 12)": decimal(pa.decimal256, 55, 12),
    "decimal256(76, 30)": decimal(pa.decimal256, 76, 30),
}
TEXTS: dict[str, Make] = {
    "string": repeated("1", pa.string()),
    "large_string": repeated("1", pa.large_string()),
    "string_view": repeated("1", pa.string_view()),
    "dictionary": lambda rows: pa.array(["1"] * rows).dictionary_encode(),
    "dictionary of large_string": lambda rows: pa.array(["1"] * rows, pa.large_string()).dictionary_encode(),
}
DAYS = {"date32": repeated(DAY, pa.date32()), "date64": repeated(DAY, pa.date64())}
MOMENTS = {f"timestamp[{unit}]": repeated(MOMENT, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")}
ZONED = {
    f"timestamp[{unit}, {zone}]": repeated(MOMENT, pa.timestamp(unit, zone))
    for unit in ("s", "ms", "us", "ns")
    for zone in ("UTC", "Europe/Madrid")
}
FLAGS = {"bool": repeated(True, pa.bool_())}
OTHERS: dict[str, Make] = {
    "binary": repeated(b"1", pa.binary()),
    "large_binary": repeated(b"1", pa.large_binary()),
    "binary_view": repeated(b"1", pa.binary_view()),
    "fixed_size_binary": repeated(b"1", pa.binary(1)),
    "time32": repeated(time(3), pa.time32("s")),
    "time64": repeated(time(3), pa.time64("ns")),
    "duration": repeated(timedelta(1), pa.duration("us")),
    "list": repeated([1], pa.list_(pa.int64())),
    "struct": repeated({"a": 1}, pa.struct({"a": pa.int64()})),
    "map": repeated([("a", 1)], pa.map_(pa.string(), pa.int64())),
    "uuid": repeated(b"1" * 16, pa.uuid()),
    "json": repeated("1", pa.json_()),
}
NUMBERS: Mapping[str, Make] = {**INTEGERS, **FLOATS, **DECIMALS}
TYPES: Mapping[str, Make] = {**NUMBERS, **WIDE, **TEXTS, **DAYS, **MOMENTS, **ZONED, **FLAGS, **OTHERS}
LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"compression": name} for name in ("none", "snappy", "gzip", "zstd", "lz4", "brotli")},
    "many row groups": {"row_group_size": 7},
    "no statistics": {"write_statistics": False},
    "pages of version 2": {"data_page_version": "2.0"},
    "format 1.0": {"version": "1.0"},
    "no dictionaries": {"use_dictionary": False},
    "int96": {"use_deprecated_int96_timestamps": True},
    "no Arrow schema": {"store_schema": False},
}
