"""Taking one person out of the lake: out of raw extracts and their truth, and out of every snapshot of every table.

Each file is copied without the person's rows and replaced as a whole; a snapshot's manifest changes to the copies and
keeps a tombstone with a date and a number of rows. A run that was killed is finished by the next one.
"""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spanishgas.errors import DataError, UsageError
from spanishgas.etl.mapping import MAPPING, Renamed, read_mapping
from spanishgas.etl.source import table_of
from spanishgas.lake import SCHEME, Erasure, Lake, Listed, LocalStore, Place, S3Store, Snapshot, Store
from spanishgas.lifetime import temporary_folder

ID = "customer_id"


@dataclass
class Erased:
    """Rows taken out, by file or snapshot, and the digests of the gold tables that held the person."""

    rows: dict[str, int] = field(default_factory=dict)
    gold: set[str] = field(default_factory=set)
    dates: set[date] = field(default_factory=set)


@dataclass(frozen=True)
class _Request:
    customer_id: str
    reason: str
    dry: bool
    mapping: Path | None = None


def erase(
    customer_id: str,
    lake: Lake,
    *,
    reason: str,
    raw: Place | None = None,
    mapping: Path | None = None,
    dry: bool = False,
) -> Erased:
    """Take every row of `customer_id` out of the lake, and out of the folder or s3:// prefix `raw` if one is named.

    - A raw folder's mapping.yaml (for `raw` also `mapping`) says what the id is called in its files.
    - Local copies of what lies on S3 are removed as a whole.
    - With `dry` nothing is changed; the result says what would be.
    - Raises `DataError` if nothing of the person is there, `UsageError` for a reason that names the person.
    """
    if not customer_id.strip() or customer_id in reason:
        raise UsageError(f"the reason '{reason}' would keep the customer id '{customer_id}': leave it out")
    found, ask, store = Erased(), _Request(customer_id, reason, dry), lake.store
    if isinstance(store, LocalStore):
        _count_copies(store, ask, found)
    if raw is not None:
        with temporary_folder() as work:
            outside = S3Store(str(raw), work) if str(raw).startswith(SCHEME) else LocalStore(Path(raw))
            _from_files(outside, "", replace(ask, mapping=mapping), found)
    for as_of in lake.as_of_dates():
        with lake.building(as_of):
            for folder in (f"raw/{as_of}", f"truth/{as_of}"):
                _from_files(store, folder, ask, found)
            for snapshot in [s for s, _ in lake.snapshots() if s.manifest.as_of == as_of]:
                with store.alone(snapshot.key.rpartition("/")[0]):
                    _from_snapshot(snapshot, lake, ask, found)
    if not dry:
        shutil.rmtree(store.downloads, ignore_errors=True)
    if not found.rows:
        raise DataError(
            f"{lake.root} holds nothing of customer '{customer_id}': check the id, and --lake and --raw"
        )
    return found


def _from_files(store: Store, folder: str, ask: _Request, found: Erased) -> None:
    """The files of a raw folder, or of one that holds Parquet with our own column names."""
    listing = store.listing(folder)
    if not listing:
        return
    own = [listed for listed in listing if listed.name == MAPPING]
    mapping = ask.mapping or (store.fetch(folder, own) / MAPPING if own else None)
    renamed = read_mapping(mapping) if mapping else {}
    for listed in listing:
        with store.staging(folder) as staging:
            fresh = staging / "fresh"
            gone = _copied(store, folder, listed, fresh, ask.customer_id, _header(listed.name, renamed))
            if gone:
                found.rows[str(store.place(listed.key))] = gone
            if gone and not ask.dry:
                store.put(fresh, listed.key)


def _header(name: str, renamed: dict[str, Renamed]) -> str:
    table = table_of(name, renamed)
    return renamed[table].columns.get(ID, ID) if table in renamed else ID


def _from_snapshot(snapshot: Snapshot, lake: Lake, ask: _Request, found: Erased) -> None:
    """A part that the manifest does not name was left by a run that was killed: it goes where it holds the person."""
    store, manifest, gone = snapshot.store, snapshot.manifest, 0
    place = str(store.place(snapshot.key))
    with store.staging(snapshot.key) as staging:
        for listed in store.listing(snapshot.key):
            fresh = staging / listed.name
            rows = _copied(store, snapshot.key, listed, fresh, ask.customer_id, ID)
            if listed.name in manifest.parts and rows:
                gone += rows
                continue
            fresh.unlink(missing_ok=True)
            if rows:
                found.rows[str(store.place(listed.key))] = rows
                if not ask.dry:
                    store.remove(listed.key)
        if gone and not ask.dry:
            lake.amend(snapshot, staging, Erasure(on=date.today(), rows=gone, reason=ask.reason))
    if gone:
        found.rows[place] = gone
        found.dates.add(manifest.as_of)
        found.gold |= {manifest.digest} if manifest.table == "gold_master" else set()


def _count_copies(store: LocalStore, ask: _Request, found: Erased) -> None:
    copies = LocalStore(store.downloads)
    for folder in sorted({listed.name.partition("/")[0] for listed in copies.listing()} - {"objects"}):
        _from_files(copies, folder, replace(ask, dry=True), found)


def _copied(store: Store, folder: str, listed: Listed, fresh: Path, customer_id: str, column: str) -> int:
    """Rows of the person in a file; `fresh` is a copy of it without them."""
    suffixes = Path(listed.name).suffixes
    kind = "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])
    if kind not in _COPIES or Path(listed.name).name.startswith("_"):
        return 0
    return _COPIES[kind](store.fetch(folder, [listed]) / listed.name, fresh, customer_id, column)


def _csv(file: Path, fresh: Path, customer_id: str, column: str) -> int:
    gone = 0
    with _text(file, "rt", file) as source, _text(fresh, "wt", file) as out:
        first = source.readline()
        source.seek(0)
        delimiter = max(",;", key=lambda d: column in _names(first, d))
        rows = csv.reader(source, delimiter=delimiter)
        writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
        if column not in (names := _names(first, delimiter)):
            return 0
        at = names.index(column)
        writer.writerow(next(rows))
        for row in rows:
            if len(row) > at and row[at].strip() == customer_id:
                gone += 1
            else:
                writer.writerow(row)
    return gone


def _names(line: str, delimiter: str) -> list[str]:
    return [n.lstrip("\ufeff").strip() for n in next(csv.reader([line], delimiter=delimiter), [])]


def _json(file: Path, fresh: Path, customer_id: str, column: str) -> int:
    """An array of records, or a record a line."""
    with _text(file, "rt", file) as source:
        text = source.read().lstrip("\ufeff")
    lines = not text.lstrip().startswith("[")
    records: list[Any] = (
        [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    )
    kept = [r for r in records if not (isinstance(r, dict) and str(r.get(column)).strip() == customer_id)]
    with _text(fresh, "wt", file) as out:
        if lines:
            out.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
        else:
            json.dump(kept, out, ensure_ascii=False)
    return len(records) - len(kept)


def _parquet(file: Path, fresh: Path, customer_id: str, column: str) -> int:
    """Ids are written as plain text: a dictionary would go on naming the person."""
    gone = 0
    with pq.ParquetFile(file) as source:
        schema = source.schema_arrow
        if column not in schema.names:
            return 0
        at = schema.get_field_index(column)
        schema = schema.set(at, pa.field(column, pa.string()))
        with pq.ParquetWriter(fresh, schema, compression="zstd") as out:
            for batch in _batches(source, schema):
                named = pc.equal(pc.utf8_trim_whitespace(batch.column(at)), customer_id)
                kept = batch.filter(pc.invert(pc.fill_null(named, False)))
                gone += batch.num_rows - kept.num_rows
                out.write_batch(kept)
    return gone


def _batches(source: pq.ParquetFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in source.iter_batches(batch_size=1 << 20):
        columns = [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _text(file: Path, mode: str, like: Path) -> IO[str]:
    opened = gzip.open if like.suffix == ".gz" else open
    return cast("IO[str]", opened(file, mode, encoding="utf-8", newline=""))


_COPIES: dict[str, Callable[[Path, Path, str, str], int]] = {
    ".csv": _csv,
    ".csv.gz": _csv,
    ".json": _json,
    ".jsonl": _json,
    ".json.gz": _json,
    ".jsonl.gz": _json,
    ".parquet": _parquet,
}
