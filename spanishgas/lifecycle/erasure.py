"""Taking one person out of the lake: out of raw extracts and their truth, and out of every snapshot of every table.

Each file is copied without the person's rows and replaced by one rename; a snapshot's manifest keeps a tombstone with
a date and a number of rows. A run that was killed is finished by the next one.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spanishgas.errors import DataError, UsageError
from spanishgas.lake import Erasure, Lake, Snapshot, write_manifest

ID = "customer_id"


@dataclass
class Erased:
    """Rows taken out, by file or snapshot, and the digests of the gold tables that held the person."""

    rows: dict[Path, int] = field(default_factory=dict)
    gold: set[str] = field(default_factory=set)
    dates: set[date] = field(default_factory=set)


def erase(customer_id: str, lake: Lake, *, reason: str, raw: Path | None = None, dry: bool = False) -> Erased:
    """Take every row of `customer_id` out of the lake, and out of the folder `raw` if one is named.

    - With `dry` nothing is changed; the result says what would be.
    - Raises `DataError` if nothing of the person is there, `UsageError` for a reason that names the person.
    """
    if not customer_id.strip() or customer_id in reason:
        raise UsageError(f"the reason '{reason}' would keep the customer id '{customer_id}': leave it out")
    found = Erased()
    for as_of in lake.as_of_dates():
        with lake.building(as_of):
            for folder in (lake.raw(as_of), lake.root / "truth" / as_of.isoformat()):
                _from_files(folder, customer_id, found, dry)
            for snapshot in [s for s, _ in lake.snapshots() if s.manifest.as_of == as_of]:
                with lake.writing(snapshot.manifest.table, as_of):
                    _from_snapshot(snapshot, customer_id, reason, found, dry)
    for folder in (lake.root / "downloads", *([raw] if raw else [])):
        _from_files(folder, customer_id, found, dry)
    if not found.rows:
        raise DataError(
            f"{lake.root} holds nothing of customer '{customer_id}': check the id, and --lake and --raw"
        )
    return found


def _from_files(folder: Path, customer_id: str, found: Erased, dry: bool) -> None:
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        if re.search(r"^\..*-[0-9a-f]{32}$", file.name):
            file.unlink()  # the copy of a run that was killed
        elif gone := _take(file, customer_id, dry):
            found.rows[file] = gone


def _from_snapshot(snapshot: Snapshot, customer_id: str, reason: str, found: Erased, dry: bool) -> None:
    """Rows are counted against the manifest, so that a run killed before its tombstone is finished."""
    manifest, counted = snapshot.manifest, Erased()
    _from_files(snapshot.folder, customer_id, counted, dry)
    parts = sorted(snapshot.folder.glob("*.parquet"))
    left = sum(pq.read_metadata(part).num_rows for part in parts)
    gone = sum(counted.rows.values()) if dry else manifest.rows - left
    if gone <= 0:
        return
    found.rows[snapshot.folder] = gone
    found.dates.add(manifest.as_of)
    if manifest.table == "gold_master":
        found.gold.add(manifest.digest)
    if not dry:
        stone = Erasure(on=date.today(), rows=gone, reason=reason)
        sizes = {part.name: part.stat().st_size for part in parts}
        changes = {"rows": left, "parts": sizes, "erased": (*manifest.erased, stone)}
        write_manifest(snapshot.folder, manifest.model_copy(update=changes))


def _take(file: Path, customer_id: str, dry: bool) -> int:
    kind = "".join(file.suffixes[-2:]) if file.suffix == ".gz" else file.suffix
    if kind not in _COPIES or file.name.startswith("_"):
        return 0
    fresh = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    try:
        gone = _COPIES[kind](file, fresh, customer_id)
        if gone and not dry:
            os.replace(fresh, file)
    finally:
        fresh.unlink(missing_ok=True)
    return gone


def _csv(file: Path, fresh: Path, customer_id: str) -> int:
    gone = 0
    with _text(file, "rt", file) as source, _text(fresh, "wt", file) as out:
        rows, writer = csv.reader(source), csv.writer(out, lineterminator="\n")
        header = next(rows, [])
        names = [name.lstrip("\ufeff").strip() for name in header]
        if ID not in names:
            return 0
        at = names.index(ID)
        writer.writerow(header)
        for row in rows:
            if len(row) > at and row[at].strip() == customer_id:
                gone += 1
            else:
                writer.writerow(row)
    return gone


def _json(file: Path, fresh: Path, customer_id: str) -> int:
    """An array of records, or a record a line."""
    with _text(file, "rt", file) as source:
        text = source.read().lstrip("\ufeff")
    lines = not text.lstrip().startswith("[")
    records: list[Any] = (
        [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    )
    kept = [r for r in records if not (isinstance(r, dict) and str(r.get(ID)).strip() == customer_id)]
    with _text(fresh, "wt", file) as out:
        if lines:
            out.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
        else:
            json.dump(kept, out, ensure_ascii=False)
    return len(records) - len(kept)


def _parquet(file: Path, fresh: Path, customer_id: str) -> int:
    """Ids are written as plain text: a dictionary would go on naming the person."""
    gone = 0
    with pq.ParquetFile(file) as source:
        schema = source.schema_arrow
        if ID not in schema.names:
            return 0
        at = schema.get_field_index(ID)
        schema = schema.set(at, pa.field(ID, pa.string()))
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


_COPIES: dict[str, Callable[[Path, Path, str], int]] = {
    ".csv": _csv,
    ".csv.gz": _csv,
    ".json": _json,
    ".jsonl": _json,
    ".json.gz": _json,
    ".parquet": _parquet,
}
