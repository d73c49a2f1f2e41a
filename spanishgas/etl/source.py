"""Open one raw extract: find its seven files, and read the six small ones as text, before anything is typed.

Extra and reordered columns, a byte-order mark, CRLF, gzip, Parquet for CSV or JSON lines for a JSON array, semicolons
for commas make no difference.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TextIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from spanishgas import contracts
from spanishgas.contracts.fields import Field
from spanishgas.errors import ContractError, DataError, UsageError
from spanishgas.etl.formats import PLAIN, Format
from spanishgas.etl.mapping import Renamed, named_files, read_mapping
from spanishgas.etl.packed import plain
from spanishgas.etl.parquet import is_text, misfits
from spanishgas.etl.records import parsed, plain_value
from spanishgas.lake import (
    SCHEME,
    Lake,
    ListedFile,
    Place,
    S3Store,
    file_digest,
    is_hidden,
    local_path,
    location,
)
from spanishgas.lifetime import temporary_folder
from spanishgas.raw_files import (
    ARCHIVES,
    JSON,
    LABELS,
    MAPPING,
    PARQUET,
    RAW_FILES,
    WORKBOOKS,
    forms,
    names,
    table_of,
)

BASE = date(2024, 12, 31)
"""Date of an extract whose folder says none."""
MEND = "Mend the file in the raw folder and run again; nothing was published."
ITS_OWN = Renamed()
_UNREADABLE = (OSError, EOFError, ValueError, RecursionError, csv.Error, zlib.error, pa.ArrowException)


@dataclass(frozen=True)
class Source:
    """One raw extract: where it is, what was found in it, and what its columns are called."""

    place: str
    """Folder or s3:// prefix, as given."""
    folder: Path
    found: Mapping[str, Path]
    """File by table (for the hours also a folder of parts); tables without a file are left out."""
    renamed: Mapping[str, Renamed]

    def file(self, table: str) -> Path:
        """The table's file, or where it should lie."""
        return self.found.get(table, self.folder / self.names.get(table, RAW_FILES[table]))

    def present(self, table: str) -> Path:
        """The table's file; `ContractError` if there is none."""
        if table not in self.found:
            lies = sorted(file.name for file in self.folder.iterdir())
            beside = [name for name in lies if name.lower().startswith(table)]
            way_out = f"Put it into {self.place} as {' or '.join(names(table, self.names))} and run again."
            missing = f"the file is missing{f', but {beside[0]} lies there' if beside else ''}"
            raise ContractError.broken(self.file(table).name, [missing], way_out)
        return self.found[table]

    @property
    def names(self) -> dict[str, str]:
        """File name by table, as the mapping gives it."""
        return named_files(self.renamed)

    @property
    def identity(self) -> list[object]:
        """What a result depends on: the files' bytes, their forms and the mapping."""
        names = {table: file.name for table, file in sorted(self.found.items())}
        return [self.digests, names, dict(sorted(self.renamed.items()))]

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digest of each raw file that is there, by `raw/<table>`."""
        return {f"raw/{table}": file_digest(file) for table, file in self.found.items()}

    def format(self, table: str) -> Renamed:
        """How the table's file is written."""
        return self.renamed.get(table, ITS_OWN)

    def columns(self, table: str) -> dict[str, str]:
        """The declared columns of a table that its file has, each with its header."""
        return self.format(table).theirs(table)

    def absent(self, table: str) -> set[str]:
        """The declared columns that the table's file does not have."""
        return {*contracts.contract(table).fields} - {*self.columns(table)}

    def text(self, table: str) -> pa.Table:
        """The declared columns of a small table as text, an empty text as null; a missing label file has no rows.

        Optional columns are there if the file has them. Raises `ContractError` for a file or column
        that is missing, and for a file that cannot be read.
        """
        columns, declared = self.columns(table), contracts.contract(table).every
        needed = contracts.contract(table).fields
        if table == LABELS and table not in self.found:
            return pa.table({column: pa.array([], pa.string()) for column in needed})
        fields, how = {theirs: declared[ours] for ours, theirs in columns.items()}, self.format(table)
        wanted = [theirs for ours, theirs in columns.items() if ours in needed or ours in how.columns]
        beside = [theirs for theirs in fields if theirs not in wanted]
        with temporary_folder() as folder:
            parts = plain(self.present(table), how, folder)
            texts = [read_text(part, wanted, beside, fields=fields, how=how) for part in parts]
            text = pa.concat_tables(texts, promote_options="default")
        absent = pa.nulls(len(text), pa.string())
        present = {ours: text[theirs] for ours, theirs in columns.items() if theirs in text.column_names}
        return pa.table({c: present.get(c, absent) for c in declared if c in present or c in needed})


def open_source(raw: Path | str, mapping: Path | None = None, cache: Path | None = None) -> Source:
    """The extract in the folder or under the s3:// prefix `raw`, its names read by `mapping` (or its mapping.yaml).

    `cache` (a lake's `store.downloads`) holds what is downloaded. Raises `UsageError` for a folder that is not there
    and a mapping that is wrong, `ContractError` if a table stands there in two forms.
    """
    place = str(raw)
    if place.startswith(SCHEME):
        store = S3Store(place, cache)
        wanted, _ = _wanted(store, mapping)
        folder = store.fetch("", wanted)
    else:
        folder = local_path(place)
    if not folder.is_dir():
        raise UsageError(f"raw folder '{raw}' does not exist: give the folder that holds the seven raw files")
    renamed = _mapping(mapping, folder)
    files = {table: _find(place, folder, table, named_files(renamed)) for table in RAW_FILES}
    return Source(place, folder, {table: file for table, file in files.items() if file}, renamed)


def extract_date(raw: Place) -> date:
    """The as-of date of a raw folder or prefix: its own name, else the date of the base extract."""
    try:
        return date.fromisoformat(str(raw).rstrip("/").rpartition("/")[2])
    except ValueError:
        return BASE


def newest_extract(lake: Lake) -> Place:
    """The newest raw extract in the lake; UsageError where there is none."""
    extracts = lake.raw_extracts()
    if not extracts:
        raise UsageError(
            f"{lake.root}/raw holds no extract: run `spanishgas simulate`, or give --raw a folder"
        )
    return extracts[-1]


def read_text(
    file: Path,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    fields: Mapping[str, Field] | None = None,
    how: Format = PLAIN,
) -> pa.Table:
    """`columns` of a file as text, and those of `optional` that it has; an empty text is null.

    Raises `ContractError` for a column that is missing or stands twice, for one whose Parquet type does not fit its
    one of `fields`, and for a file that cannot be read.
    """
    try:
        more = [c for c in optional if c in _columns(file, how)] if optional else []
        return _read(file, [*columns, *more], fields or {}, how)
    except _UNREADABLE as fault:
        raise _unreadable(file, fault) from fault


def header(file: Path, columns: Iterable[str], how: Format = PLAIN) -> tuple[list[str], str]:
    """Names and delimiter of a CSV file: the format's, or a comma, unless semicolons find more of `columns`.

    Raises `ContractError` for a column that is missing or stands twice, and for a header that cannot be read.
    """
    wanted = list(columns)
    try:
        delimiters = (how.delimiter,) if how.delimiter else (",", ";")
        split = {delimiter: _header(file, delimiter) for delimiter in delimiters}
    except _UNREADABLE as fault:
        raise _unreadable(file, fault) from fault
    delimiter = max(split, key=lambda d: len(set(split[d]) & set(wanted)))
    check_header(file, split[delimiter], wanted)
    return split[delimiter], delimiter


def check_header(file: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    """`ContractError` if one of `columns` is missing in the file's `names` or stands there twice."""
    faults = [f"missing column '{column}'" for column in columns if column not in names]
    counts = {column: names.count(column) for column in columns}
    faults += [f"column '{column}' stands {count} times" for column, count in counts.items() if count > 1]
    if faults:
        theirs = f"Its columns are {', '.join(names) or 'none'}."
        way_out = f"{theirs} Rename them, or say in {MAPPING} which is which. Nothing was published."
        raise ContractError.broken(file.name, faults, way_out)


def _wanted(store: S3Store, mapping: Path | None) -> tuple[list[ListedFile], dict[str, Renamed]]:
    listing = store.listing()
    if not listing:
        raise DataError(f"{store.root} holds no object: give the prefix that holds the seven raw files")
    own = [listed for listed in listing if listed.name == MAPPING]
    renamed = _mapping(mapping, store.fetch("", own))
    parts = [o for o in listing if not is_hidden(o.name.partition("/")[2])]
    named = named_files(renamed)
    return [o for o in parts if o.name == MAPPING or table_of(o.name, named) is not None], renamed


def locate(raw: Path | str, table: str) -> str:
    """The `location` of the file that holds `table`, or where it should lie; nothing is downloaded."""
    if not str(raw).startswith(SCHEME):
        return location(open_source(raw).file(table))
    store = S3Store(str(raw))
    wanted, renamed = _wanted(store, None)
    named = named_files(renamed)
    files = {listed.name for listed in wanted if table_of(listed.name, named) == table}
    lies = [n for n in names(table, named) if any(h == n or h.startswith(f"{n}/") for h in files)]
    return store.uri([*lies, named.get(table, RAW_FILES[table])][0])


def _mapping(file: Path | None, folder: Path) -> dict[str, Renamed]:
    own = folder / MAPPING
    return read_mapping(file or own) if file or own.exists() else {}


def _find(place: str, folder: Path, table: str, named: Mapping[str, str]) -> Path | None:
    if table in named and not named[table].endswith(all_ := (*forms(table), *ARCHIVES, *WORKBOOKS)):
        endings = ", ".join(form for form in all_ if form)
        raise UsageError(f"{table} is mapped to '{named[table]}', whose ending is none of {endings}")
    files = [folder / name for name in names(table, named) if (folder / name).exists()]
    if len(files) > 1:
        twice = " and ".join(file.name for file in files)
        raise ContractError.broken(table, [f"it stands there twice, as {twice}"], f"Leave one in {place}.")
    return files[0] if files else None


def _read(file: Path, columns: list[str], fields: Mapping[str, Field], how: Format) -> pa.Table:
    if file.name.endswith(JSON):
        return _json(file, columns, how.encoding)
    return _parquet(file, columns, fields, how) if file.name.endswith(PARQUET) else _csv(file, columns, how)


def _opened(file: Path, encoding: str = "utf-8") -> TextIO:
    """The text of a file, unpacked and without a byte-order mark."""
    way = gzip.open if file.suffix == ".gz" else open
    return cast(TextIO, way(file, "rt", encoding=encoding.replace("utf-8", "utf-8-sig"), newline=""))


def _header(file: Path, delimiter: str) -> list[str]:
    with _opened(file) as stream:
        return [name.strip() for name in next(csv.reader(stream, delimiter=delimiter), [])]


def _csv(file: Path, columns: list[str], how: Format) -> pa.Table:
    names, delimiter = header(file, columns, how)
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as stream:
        content = stream.read()
    return pa_csv.read_csv(
        pa.BufferReader(content),
        # one block: Arrow loses a byte of CRLF within quotes where two blocks meet
        read_options=pa_csv.ReadOptions(
            column_names=names, skip_rows=1, block_size=min(len(content) + 1, 2**31 - 1)
        ),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(dict.fromkeys(columns)),
            column_types={column: pa.string() for column in columns},
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _parquet(file: Path, columns: list[str], fields: Mapping[str, Field], how: Format) -> pa.Table:
    check_header(file, pq.read_schema(file).names, columns)
    table = pq.read_table(file, columns=list(dict.fromkeys(columns)))
    filled = {n: fields[n] for n in table.column_names if n in fields and table[n].null_count < len(table)}
    if faults := misfits(table.schema, filled):
        raise ContractError.broken(file.name, faults, MEND)
    return pa.table({name: _as_text(table[name], how) for name in table.column_names})


def _as_text(values: pa.ChunkedArray, how: Format) -> pa.ChunkedArray:
    """As a CSV file of the format would have it: flags as 0 and 1, times as dates, no value for an empty text."""
    if values.null_count == len(values):
        return pa.chunked_array([pa.nulls(len(values), pa.string())])
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.date32(), safe=False)
    if pa.types.is_date(values.type) and how.dates:
        return pc.strftime(values, how.dates)
    text = values.cast(pa.string())
    if how.decimal != "." and not is_text(values.type):
        text = pc.replace_substring(text, ".", how.decimal)
    return pc.if_else(pc.equal(text, ""), None, text)


def _columns(file: Path, how: Format) -> list[str]:
    """Names that the header holds, by the format's delimiter or either of the usual ones."""
    if file.name.endswith(PARQUET):
        names: list[str] = pq.read_schema(file).names
        return names
    return [
        name
        for delimiter in (how.delimiter or "", ",", ";")
        if delimiter
        for name in _header(file, delimiter)
    ]


def _json(file: Path, columns: list[str], encoding: str) -> pa.Table:
    with _opened(file, encoding) as stream:
        text = stream.read().strip()
    records = parsed(text)
    if records:
        check_header(file, list(dict.fromkeys(key for record in records for key in record)), columns)
    return pa.table(
        {c: pa.array([plain_value(record.get(c)) for record in records], pa.string()) for c in columns}
    )


def _unreadable(file: Path, fault: BaseException) -> ContractError:
    words = (str(fault) or type(fault).__name__).splitlines()[0]
    return ContractError.broken(file.name, [f"cannot be read: {words}"], MEND)
