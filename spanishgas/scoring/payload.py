"""Request and answer bodies of the serving process: Parquet, CSV or JSON in, Parquet, CSV or JSON out.

- A body is a whole table: a Parquet file, a CSV file with its header, or {"dataframe_split": {"columns", "data"}}.
- customer_id and every input of the model must be there in its type (numbers, or text); other columns are ignored.
- In CSV an empty cell is null and "" is an empty text. Numbers keep every digit on their way through each format.
- A number must fit single precision, in which trees split; NaN, where a format has it, is null.
- What is refused names the column, the type or the format, never a value: answers and logs hold no customer data.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from spanishgas.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from spanishgas.training.model import ChurnModel

ID = "customer_id"
DECODED = 512 * 2**20
"""Bytes that a table may take once decoded; 500,000 rows of gold take about 300 MB."""
MOST_COLUMNS = 1_000
LARGEST = 3.4028234e38
"""Largest number of single precision."""
TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
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

    def __reduce__(self) -> tuple[object, ...]:
        return partial(Refused, self.status, str(self), **self.where), ()


def media_type(header: str | None, encoding: str | None = None) -> Media:
    """The format that a Content-Type header names; 415 for another, or for a charset or encoding."""
    name, _, parameters = (header or "").lower().partition(";")
    name, charset = name.strip(), re.search(r"charset=\W*([\w-]+)", parameters)
    if (encoding or "identity").strip().lower() != "identity":
        raise Refused(415, "a Content-Encoding is not undone: send the body as it is")
    if charset and charset[1] not in ("utf-8", "utf8", "us-ascii"):
        raise Refused(415, "text is read as UTF-8 alone: send no other charset")
    try:
        return Media(name)
    except ValueError:
        formats = ", ".join(Media)
        raise Refused(
            415, f"content type '{name[:80]}' is not read: send {formats}", content_type=name[:80]
        ) from None


def accepted(header: str | None, sent: Media) -> Media:
    """The format to answer in: the most wanted of an Accept header that is known, else that of the request."""
    wanted = []
    for part in (header or "*/*").lower().split(","):
        name, _, parameters = part.partition(";")
        stated = re.search(r"q=(\d*\.?\d+)", parameters)
        wanted.append((name.strip(), float(stated[1]) if stated else 1.0))
    for name, weight in sorted(wanted, key=lambda pair: -pair[1]):
        if weight <= 0:
            continue
        if name in ("*/*", ""):
            return sent
        for media in Media:
            if name in (media, f"{media.partition('/')[0]}/*"):
                return media
    raise Refused(406, f"none of the accepted types is written: accept {', '.join(Media)}")


def inputs(model: ChurnModel) -> Inputs:
    """The columns that a body must hold for `model`, and what each is read as."""
    from spanishgas.training.matrix import is_text

    kinds = {f: pa.string() if is_text(model.kinds[f]) else pa.float64() for f in model.features}
    return {ID: pa.string(), **kinds}


def read(body: bytes, media: Media, wanted: Inputs, max_rows: int, decoded: int = DECODED) -> pd.DataFrame:
    """The wanted columns of a body, in their types; `Refused` where it cannot be read or lacks one of them."""
    frame: pd.DataFrame = decode(body, media, wanted, max_rows, decoded).to_pandas()
    return frame


def decode(body: bytes, media: Media, wanted: Inputs, max_rows: int, decoded: int) -> pa.Table:
    """The same as an Arrow table; 413 for one that is larger than it may be, 400 for whatever else is wrong with it."""
    try:
        table = _READERS[media](body, wanted, max_rows, decoded)
        if table.num_rows > max_rows:
            raise _too_long(table.num_rows, max_rows)
        typed = pa.table({name: _typed(table[name], name, kind) for name, kind in wanted.items()})
    except Refused:
        raise
    except MemoryError:
        raise too_large(decoded) from None
    except Exception:
        # Whatever a library says of bytes that anybody may send: its words quote them.
        raise Refused(400, f"the body is not {_SHAPES[media]}", body=media.name.lower()) from None
    if typed.nbytes > decoded:
        raise too_large(decoded)
    if typed[ID].null_count:
        raise Refused(400, f"{typed[ID].null_count} rows have no {ID}", column=ID)
    return typed


def answer(ids: pd.Series, predicted: pd.DataFrame) -> pa.Table:
    """What is answered: customer_id, churn_probability, churn_flag, risk_tier and its curve, a row per row sent."""
    from spanishgas.training.model import FLAG, PROBABILITY, TIER

    return pa.table(
        {
            ID: pa.array(ids, pa.string()),
            PROBABILITY: pa.array(predicted[PROBABILITY], pa.float64()),
            FLAG: pa.array(predicted[FLAG], pa.int64()),
            TIER: pa.array(predicted[TIER], pa.string()),
            **{name: pa.array(predicted[name], pa.float64()) for name in predicted.columns[3:]},
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


def _parquet(body: bytes, wanted: Inputs, max_rows: int, most: int) -> pa.Table:
    file = pq.ParquetFile(pa.BufferReader(body))
    schema, groups = file.schema_arrow, file.metadata.num_row_groups
    _named(schema.names, wanted)
    for name, kind in wanted.items():
        _fitting(schema.field(name).type, name, kind)
    if file.metadata.num_rows > max_rows:
        raise _too_long(file.metadata.num_rows, max_rows)
    # What the file claims of itself; what it holds is seen when it is read.
    if sum(file.metadata.row_group(i).total_byte_size for i in range(groups)) > most:
        raise too_large(most)
    return file.read(columns=list(wanted), use_threads=False)


def _csv(body: bytes, wanted: Inputs, *_: int) -> pa.Table:
    first = body[: max(body.find(b"\n"), 0) or None].decode("utf-8-sig")
    names = next(csv.reader(io.StringIO(first)), [])
    _named(names, wanted)
    convert = pacsv.ConvertOptions(
        column_types=dict(wanted),
        include_columns=list(wanted),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse, one = pacsv.ParseOptions(newlines_in_values=True), pacsv.ReadOptions(use_threads=False)
    try:
        return pacsv.read_csv(pa.BufferReader(body), one, parse, convert)
    except pa.ArrowInvalid as fault:
        if wrong := re.match(r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error", str(fault)):
            name = names[int(wrong[1])]
            raise _wrong_type(name, wanted[name], "other text") from None
        raise


def _json(body: bytes, wanted: Inputs, max_rows: int, _: int) -> pa.Table:
    # NaN and Infinity are no JSON: int refuses them.
    split = json.loads(body.decode("utf-8-sig"), parse_constant=int)["dataframe_split"]
    names, rows = split["columns"], split["data"]
    _named(names, wanted)
    if len(rows) > max_rows:
        raise _too_long(len(rows), max_rows)
    if not all(isinstance(row, list) and len(row) == len(names) for row in [names, *rows]):
        raise ValueError
    position = {name: names.index(name) for name in wanted}
    return pa.table({n: _json_column([row[i] for row in rows], n, wanted[n]) for n, i in position.items()})


def _json_column(values: list[Any], name: str, kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values)
    except (OverflowError, UnicodeEncodeError, pa.ArrowException):
        raise _wrong_type(name, kind, "values that do not fit") from None


_READERS: Mapping[Media, Callable[[bytes, Inputs, int, int], pa.Table]] = {
    Media.PARQUET: _parquet,
    Media.CSV: _csv,
    Media.JSON: _json,
}
_SHAPES: Mapping[Media, str] = {
    Media.PARQUET: "a Parquet file that can be read",
    Media.CSV: "a CSV file in UTF-8 whose rows are as long as its header",
    Media.JSON: '{"dataframe_split": {"columns": [...], "data": [[...], ...]}} with rows as long as the columns',
}


def _named(names: Sequence[str], wanted: Inputs) -> None:
    if len(names) > MOST_COLUMNS:
        raise Refused(413, f"the body has more than {MOST_COLUMNS:,} columns: send what the model takes")
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


def _fitting(actual: pa.DataType, name: str, kind: pa.DataType) -> None:
    values = actual.value_type if pa.types.is_dictionary(actual) else actual
    if not any(fits(values) for fits in (pa.types.is_null, *(TEXTS if kind == pa.string() else NUMBERS))):
        raise _wrong_type(name, kind, re.split(r"\W", str(values))[0])


def _typed(column: pa.ChunkedArray, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    _fitting(column.type, name, kind)
    try:
        typed = column.cast(kind)
        typed.validate(full=True)
    except pa.ArrowInvalid:
        raise _wrong_type(name, kind, "values that do not fit") from None
    if kind != pa.string() and pc.any(pc.greater(pc.abs(typed), LARGEST)).as_py():
        raise _wrong_type(name, kind, "one that is not finite in single precision")
    return typed


def _wrong_type(name: str, kind: pa.DataType, actual: str) -> Refused:
    words = "text" if kind == pa.string() else "numbers"
    return Refused(400, f"column '{name}' must hold {words}, but holds {actual}", column=name, expected=words)


def too_large(most: int) -> Refused:
    """The refusal of a body whose table takes more than `most` bytes."""
    return Refused(413, f"the body takes more than {most // 2**20} MB once decoded: send it in parts")


def _too_long(rows: int, limit: int) -> Refused:
    return Refused(413, f"the body has {rows:,} rows, more than {limit:,}: send it in parts", rows=rows)
