"""Request and answer bodies of the serving process: Parquet, CSV or JSON in, Parquet, CSV or JSON out.

- A body is a whole table: a Parquet file, a CSV file with its header, or {"dataframe_split": {"columns", "data"}}.
- customer_id and every input of the model must be there in its type (numbers, or text); other columns are ignored.
- In CSV an empty cell is null and "" is an empty text. Numbers keep every digit on their way through each format.
- What is refused names the column, the type or the format, never a value: answers and logs hold no customer data.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from spanishgas.errors import DataError
from spanishgas.training.matrix import is_text
from spanishgas.training.model import FLAG, PROBABILITY, TIER, ChurnModel

ID = "customer_id"
Inputs = Mapping[str, pa.DataType]


class Media(StrEnum):
    """What a body may be."""

    PARQUET = "application/x-parquet"
    CSV = "text/csv"
    JSON = "application/json"


class Refused(DataError):
    """A request that is not answered with scores: its HTTP status, and what is wrong as data and in words."""

    def __init__(self, status: int, message: str, **where: object) -> None:
        super().__init__(message)
        self.status = status
        self.where = where


def media_type(header: str | None) -> Media:
    """The format that a Content-Type header names; 415 for any other."""
    name = (header or "").partition(";")[0].strip().lower()
    try:
        return Media(name)
    except ValueError:
        known = ", ".join(Media)
        raise Refused(
            415, f"content type '{name[:80]}' is not read: send {known}", content_type=name[:80]
        ) from None


def accepted(header: str | None, sent: Media) -> Media:
    """The format to answer in: the most wanted of an Accept header that is known, else that of the request."""
    wanted = [_preference(part) for part in (header or "*/*").split(",")]
    for name, weight in sorted(wanted, key=lambda pair: -pair[1]):
        if weight <= 0:
            continue
        if name in ("*/*", ""):
            return sent
        for media in Media:
            if name == media or name == f"{media.partition('/')[0]}/*":
                return media
    raise Refused(406, f"none of the accepted types is written: accept {', '.join(Media)}")


def _preference(part: str) -> tuple[str, float]:
    name, _, parameters = part.partition(";")
    weight = re.search(r"q=([0-9.]+)", parameters)
    try:
        return name.strip().lower(), float(weight[1]) if weight else 1.0
    except ValueError:
        return name.strip().lower(), 0.0


def inputs(model: ChurnModel) -> Inputs:
    """The columns that a body must hold for `model`, and what each is read as."""
    kinds = {f: pa.string() if is_text(model.kinds[f]) else pa.float64() for f in model.features}
    return {ID: pa.string(), **kinds}


def read(body: bytes, media: Media, wanted: Inputs, max_rows: int) -> pd.DataFrame:
    """The wanted columns of a body, in their types; `Refused` where it cannot be read or lacks one of them."""
    table = _READERS[media](body, wanted, max_rows)
    if table.num_rows > max_rows:
        raise _too_long(table.num_rows, max_rows)
    typed = pa.table({name: _typed(table[name], name, kind) for name, kind in wanted.items()})
    if typed[ID].null_count:
        raise Refused(400, f"{typed[ID].null_count} rows have no {ID}", column=ID)
    frame: pd.DataFrame = typed.to_pandas()
    return frame


def answer(ids: pd.Series, predicted: pd.DataFrame) -> pa.Table:
    """What is answered: customer_id, churn_probability, churn_flag, risk_tier, a row per row of the request."""
    return pa.table(
        {
            ID: pa.array(ids, pa.string()),
            PROBABILITY: pa.array(predicted[PROBABILITY], pa.float64()),
            FLAG: pa.array(predicted[FLAG], pa.int64()),
            TIER: pa.array(predicted[TIER], pa.string()),
        }
    )


def write(table: pa.Table, media: Media) -> bytes:
    """A table as a body."""
    out = pa.BufferOutputStream()
    match media:
        case Media.PARQUET:
            pq.write_table(table, out)
        case Media.CSV:
            pacsv.write_csv(table, out)
        case Media.JSON:
            return json.dumps({"predictions": table.to_pylist()}).encode()
    written: bytes = out.getvalue().to_pybytes()
    return written


def _parquet(body: bytes, wanted: Inputs, max_rows: int) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        _named(file.schema_arrow.names, wanted)
        if file.metadata.num_rows > max_rows:
            raise _too_long(file.metadata.num_rows, max_rows)
        return file.read(columns=list(wanted))
    except (pa.ArrowException, OSError):
        raise Refused(400, "the body is not a Parquet file that can be read", body="parquet") from None


def _csv(body: bytes, wanted: Inputs, max_rows: int) -> pa.Table:
    names = _csv_header(body)
    _named(names, wanted)
    convert = pacsv.ConvertOptions(
        column_types=dict(wanted),
        include_columns=list(wanted),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = pacsv.ParseOptions(newlines_in_values=True)
    try:
        return pacsv.read_csv(pa.BufferReader(body), convert_options=convert, parse_options=parse)
    except pa.ArrowException as fault:
        raise _csv_fault(str(fault), names, wanted) from None  # Arrow's message quotes the cell


def _csv_header(body: bytes) -> list[str]:
    try:
        first = body[: max(body.find(b"\n"), 0) or None].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(400, "the header is not UTF-8 text", body="csv") from None
    return next(csv.reader(io.StringIO(first)), [])


def _csv_fault(message: str, names: Sequence[str], wanted: Inputs) -> Refused:
    found = re.match(r"In CSV column #(\d+): CSV conversion error", message)
    if not found:
        return Refused(400, "the body is not a CSV file whose rows are as long as its header", body="csv")
    name = names[int(found[1])]
    return _wrong_type(name, wanted[name], "other text")


def _json(body: bytes, wanted: Inputs, _: int) -> pa.Table:
    try:
        split = json.loads(body)["dataframe_split"]
        names, rows = split["columns"], split["data"]
        if any(len(row) != len(names) for row in rows):
            raise ValueError
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        shape = '{"dataframe_split": {"columns": [...], "data": [[...], ...]}}'
        raise Refused(400, f"the body is not {shape} with rows as long as the columns", body="json") from None
    _named(names, wanted)
    position = {name: names.index(name) for name in wanted}
    return pa.table({n: _json_column([row[i] for row in rows], n, wanted[n]) for n, i in position.items()})


def _json_column(values: list[Any], name: str, kind: pa.DataType) -> pa.Array:
    right = str if kind == pa.string() else (int, float)
    odd = next(
        (v for v in values if v is not None and (isinstance(v, bool) or not isinstance(v, right))), None
    )
    if odd is not None:
        raise _wrong_type(name, kind, type(odd).__name__)
    try:
        return pa.array([float(v) if v is not None and kind != pa.string() else v for v in values], kind)
    except (OverflowError, UnicodeEncodeError, pa.ArrowException):
        raise _wrong_type(name, kind, "a value that does not fit") from None


_READERS: Mapping[Media, Callable[[bytes, Inputs, int], pa.Table]] = {
    Media.PARQUET: _parquet,
    Media.CSV: _csv,
    Media.JSON: _json,
}


def _named(names: Sequence[str], wanted: Inputs) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Refused(
            400,
            f"columns {', '.join(missing)} are missing: send {ID} and every input of the model",
            columns=missing,
        )
    twice = [name for name in wanted if list(names).count(name) > 1]
    if twice:
        raise Refused(400, f"columns {', '.join(twice)} stand more than once", columns=twice)


def _typed(column: pa.ChunkedArray, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    held = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if kind == pa.string():
        fits = pa.types.is_string(held) or pa.types.is_large_string(held) or pa.types.is_string_view(held)
    else:
        fits = pa.types.is_integer(held) or pa.types.is_floating(held) or pa.types.is_boolean(held)
    if not fits and not pa.types.is_null(held):
        raise _wrong_type(name, kind, str(held))
    try:
        return column.cast(kind)
    except pa.ArrowException:
        raise _wrong_type(name, kind, f"{held} with values that do not fit") from None


def _wrong_type(name: str, kind: pa.DataType, found: str) -> Refused:
    words = "text" if kind == pa.string() else "numbers"
    return Refused(400, f"column '{name}' must hold {words}, but holds {found}", column=name, expected=words)


def _too_long(rows: int, limit: int) -> Refused:
    return Refused(413, f"the body has {rows:,} rows, more than {limit:,}: send it in parts", rows=rows)
