"""A first look at a file of a raw folder: its columns, some of their texts, and how they lie in it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spanishgas.errors import DataError
from spanishgas.etl.formats import Format
from spanishgas.etl.packed import FAULTS, plain, streams
from spanishgas.etl.parquet import is_text
from spanishgas.lake import files_of, is_hidden
from spanishgas.lifetime import temporary_folder
from spanishgas.raw_files import ARCHIVES, CSV, DELIMITERS, JSON, MAPPING, PARQUET, WORKBOOKS

HEAD = 2**20
"""Bytes of a text file that are looked at."""
ROWS = 2_000
_CORRECTING = re.compile(r"corr|rect|storno", re.IGNORECASE)


@dataclass
class Look:
    """What was seen of one file."""

    file: Path
    columns: list[str] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    """Texts by column, no blank ones; numbers of a typed column as Python writes them."""
    typed: dict[str, pa.DataType] = field(default_factory=dict)
    """Columns that are no texts."""
    form: dict[str, Any] = field(default_factory=dict)
    """Keys of the mapping, as far as they are seen."""
    doubts: list[str] = field(default_factory=list)


def looks(raw: Path) -> Iterator[Look]:
    """A look at each file and folder of `raw` that may be a table; of a folder, at its first file."""
    endings = (*CSV, *JSON, *PARQUET, *ARCHIVES, *WORKBOOKS)
    for file in sorted(raw.iterdir()):
        parts = files_of(file) if file.is_dir() else [file]
        parts = [part for part in parts if part.name.lower().endswith(endings)]
        if is_hidden(file.name) or file.name == MAPPING or not parts:
            continue
        odd = [part.name for part in parts if _CORRECTING.search(part.stem)]
        first = next((part for part in parts if part.name not in odd), parts[0])
        try:
            seen = _look(first)
        except (*FAULTS, DataError) as fault:
            seen = Look(first, doubts=[f"{first.name} cannot be read: {str(fault).splitlines()[-1]}"])
        seen.file = file
        if 0 < len(odd) < len(parts):
            seen.doubts.append(f"{', '.join(odd[:3])}: if they replace other readings, add 'corrections'")
        yield seen


def _look(file: Path) -> Look:
    if file.name.lower().endswith(JSON):
        return Look(file)
    if file.name.lower().endswith(PARQUET):
        return _look_at_parquet(file)
    form: dict[str, Any] = {}
    lines = _head(file, form).splitlines()[:ROWS]
    delimiter = max(DELIMITERS, key=lambda sign: _evenness(sign, lines))
    rows = list(csv.reader(lines, delimiter=delimiter))
    width = max((len(row) for row in rows), default=0)
    start = next((n for n, row in enumerate(rows) if len(row) == width and all(row)), 0)
    form |= {"delimiter": delimiter} if delimiter in "\t|" else {}
    form |= {"header_row": start + 1} if start else {}
    columns = [column.strip() for column in rows[start]] if rows else []
    body = [row for row in rows[start + 1 :] if len(row) == width]
    values = {c: [row[n].strip() for row in body if row[n].strip()] for n, c in enumerate(columns)}
    return Look(file, columns, values, form=form)


def _look_at_parquet(file: Path) -> Look:
    with pq.ParquetFile(file) as opened:
        rows = next(opened.iter_batches(ROWS), None)
        kinds = dict(zip(opened.schema_arrow.names, opened.schema_arrow.types, strict=True))
    typed = {name: kind for name, kind in kinds.items() if not is_text(kind)}
    values = {
        name: [str(v).strip() for v in rows[name].to_pylist() if v is not None] if rows else []
        for name in kinds
    }
    return Look(file, list(kinds), values, typed)


def _evenness(delimiter: str, lines: Sequence[str]) -> tuple[float, int]:
    """The share of lines that a sign splits into as many parts, and how many."""
    counts = [line.count(delimiter) for line in lines]
    usual = max(set(counts), key=lambda n: (counts.count(n), n), default=0)
    return (counts.count(usual) / len(counts) if usual else 0, usual)


def _head(file: Path, form: dict[str, Any]) -> str:
    """The beginning of a file as text; its encoding goes into `form`."""
    if file.name.lower().endswith(WORKBOOKS):
        with temporary_folder() as folder:
            return plain(file, Format(), folder)[0].read_text(encoding="utf-8")
    data = next((bytes(stream.read(HEAD)) for _, stream in streams(file)), b"")
    encoding = _encoding(data)
    form |= {} if encoding == "utf-8" else {"encoding": encoding}
    whole = data[: data.rfind(b"\n") + 1] if len(data) == HEAD and encoding != "utf-16" else data
    return whole.decode("utf-8-sig" if encoding == "utf-8" else encoding, "ignore")


def _encoding(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        data[: data.rfind(b"\n") + 1].decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        return "cp1252" if any(0x80 <= byte < 0xA0 for byte in data) else "latin-1"
