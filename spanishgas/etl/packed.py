"""What lies in archives and workbooks as plain CSV files: UTF-8, the header first, no matter how it came.

.zip of CSV files, .csv.zst, .xlsx, .xls, .ods, and CSV in another encoding or below other lines
"""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from spanishgas.errors import ContractError, SpanishGasError
from spanishgas.etl.formats import Format
from spanishgas.lake import is_hidden
from spanishgas.raw_files import ARCHIVES, CSV, WORKBOOKS

WAY_OUT = "Mend the file, or what mapping.yaml says of it, and run again; nothing was published."
NEEDS = "a workbook needs the extra 'excel': make dev, or pip install 'spanishgas[excel]'"
FAULTS = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile, pa.ArrowException)
"""What reading a broken file raises; RuntimeError is an archive's password."""


def is_plain(file: Path, how: Format) -> bool:
    """Whether a file can be read where it lies."""
    packed = file.name.lower().endswith((*ARCHIVES, *WORKBOOKS))
    as_it_is = how.encoding == "utf-8" and how.header_row == 1
    return not packed and (as_it_is or not file.name.lower().endswith(CSV))


def plain(file: Path, how: Format, folder: Path) -> list[Path]:
    """The file as plain CSV files, copied into `folder` where it is none; one of an archive keeps its name.

    Raises `ContractError` for a file that cannot be read, and a workbook of which no sheet is named but several hold
    something.
    """
    if is_plain(file, how):
        return [file]
    work = folder / str(len(list(folder.iterdir())))
    work.mkdir()
    try:
        return list(_copies(file, how, work))
    except FAULTS as fault:
        words = (str(fault) or type(fault).__name__).splitlines()[0]
        raise ContractError.broken(file.name, [f"cannot be read: {words}"], WAY_OUT) from fault


def streams(file: Path) -> Iterator[tuple[str, IO[bytes] | Any]]:
    """The text files that a file holds, unpacked, by name; each is open until the next is asked for."""
    if file.suffix.lower() == ".zip":
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            for member in sorted(name for name in names if not is_hidden(name)):
                with archive.open(member) as stream:
                    yield Path(member).name, stream
    else:
        compression = {".zst": "zstd", ".gz": "gzip"}.get(file.suffix.lower())
        with pa.input_stream(str(file), compression=compression) as stream:
            yield f"{file.name.partition('.')[0]}.csv", stream


def _copies(file: Path, how: Format, work: Path) -> Iterator[Path]:
    if file.name.lower().endswith(WORKBOOKS):
        yield _sheet(file, how, work / f"{file.name}.csv")
        return
    number = -1
    for number, (name, stream) in enumerate(streams(file)):
        (work / str(number)).mkdir()
        yield _text(stream, how, work / str(number) / name)
    if number < 0:
        raise ValueError("the archive holds no .csv file")


def _text(stream: IO[bytes] | Any, how: Format, copy: Path) -> Path:
    """A copy in UTF-8 from the header on."""
    encoding = how.encoding.replace("utf-8", "utf-8-sig")
    text = io.TextIOWrapper(stream, encoding=encoding, newline="")
    with copy.open("w", encoding="utf-8", newline="") as out:
        for _ in range(how.header_row - 1):
            text.readline()
        shutil.copyfileobj(text, out, 2**20)
    return copy


def _sheet(file: Path, how: Format, copy: Path) -> Path:
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError as missing:
        raise SpanishGasError(f"{file.name}: {NEEDS}") from missing
    try:
        with CalamineWorkbook.from_path(str(file)) as book:
            rows = _rows(book, how)
    except CalamineError as fault:
        raise ValueError(str(fault)) from fault
    with copy.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, delimiter=how.delimiter or ",", lineterminator="\n")
        writer.writerows([_cell(value, how) for value in row] for row in rows[how.header_row - 1 :])
    return copy


def _rows(book: Any, how: Format) -> list[list[Any]]:
    """The rows of the sheet that is named, or of the only one that holds something."""
    names = [how.sheet] if how.sheet else list(book.sheet_names)
    if missing := set(names) - set(book.sheet_names):
        raise ValueError(f"it has no sheet '{missing.pop()}', but {', '.join(book.sheet_names)}")
    sheets = {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in names}
    full = [name for name, rows in sheets.items() if any(any(row) for row in rows)]
    if len(full) != 1:
        words = (
            f"several sheets hold rows: say 'sheet', one of {', '.join(full)}"
            if full
            else "no sheet holds rows"
        )
        raise ValueError(words)
    rows: list[list[Any]] = sheets[full[0]]
    return rows


def _cell(value: Any, how: Format) -> str:
    """A cell as a text of the format: typed numbers, dates and truth values are written in its manner."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        text = str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
        return text.replace(".", how.decimal)
    if isinstance(value, datetime):  # a workbook counts days, in fractions
        value = (value + timedelta(milliseconds=500)).replace(microsecond=0)
    if isinstance(value, date) and how.dates:
        return value.strftime(how.dates)
    return str(value)
