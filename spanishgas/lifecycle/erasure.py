"""Taking one person out of the lake: out of raw extracts and their truth, and out of every snapshot of every table.

Each file is copied without the person's rows and replaced as a whole; a snapshot's manifest changes to the copies and
keeps a tombstone with a date and a number of rows. What is to be done afterwards is written down before it is caused:
a run that was killed is finished by the next one, which says the same.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import shutil
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spanishgas.errors import DataError, LakeError, UsageError
from spanishgas.etl.mapping import Renamed, named_files, read_mapping
from spanishgas.lake import (
    SCHEME,
    Erasure,
    Lake,
    ListedFile,
    LocalStore,
    Place,
    S3Store,
    Snapshot,
    Store,
    local_path,
)
from spanishgas.lake.digests import sealed, unsealed
from spanishgas.lake.store import staged, sweep
from spanishgas.lake.tables import MANIFEST, POINTER
from spanishgas.raw_files import ARCHIVES, DELIMITERS, MAPPING, WORKBOOKS, table_of

ID = "customer_id"
_FOLDER = re.compile(r"(raw|truth|downloads)/[^/]+(?=/)|[^/]+/[^/]+/as_of=[^/]+/[^/]+(?=/)")
"""A raw extract, its truth or copy, or a snapshot: what is gone through as a whole."""
_DAY = re.compile(r"(?:^|/)(?:as_of=)?(\d{4}-\d\d-\d\d)/")


@dataclass
class Erased:
    """Rows taken out, by file or snapshot, and the digests of the gold tables that held the person."""

    rows: dict[str, int] = field(default_factory=dict)
    gold: set[str] = field(default_factory=set)
    dates: set[date] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    """Files that may still name the person, and why."""


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
    - Local copies of what lies on S3, and temporary files of killed runs, are removed as a whole.
    - With `dry` nothing is changed; the result says what would be.
    - Raises `DataError` if nothing of the person is there, `UsageError` for a reason that names the person.
    """
    if not customer_id.strip() or customer_id in reason:
        raise UsageError(f"the reason '{reason}' would keep the customer id '{customer_id}': leave it out")
    walk = _ErasureWalk(customer_id, reason, dry, lake)
    if raw is not None:
        walk.outside(raw, mapping)
    walk.inside()
    if not (walk.erased.rows or walk.erased.left or walk.begun):
        raise DataError(
            f"{lake.root} holds nothing of customer '{customer_id}': check the id, and --lake and --raw"
        )
    if not (dry or walk.erased.left):
        lake.store.remove(walk.record)
    return walk.erased


class _ErasureWalk:
    """One erasure on its way through the files; its record in the lake names nobody."""

    def __init__(self, customer_id: str, reason: str, dry: bool, lake: Lake) -> None:
        self.customer_id, self.reason, self.dry, self.lake = customer_id, reason, dry, lake
        self.store, self.erased = lake.store, Erased()
        # An id of digits alone would be seen in every other number.
        word = rb"(?!)" if customer_id.isdigit() else rb"(?<!\w)%b(?!\w)" % re.escape(customer_id.encode())
        self.named = re.compile(word)
        self.record = f"_erasing-{hashlib.sha256(customer_id.encode()).hexdigest()[:16]}.json"
        self.begun = self.store.read(self.record)
        if self.begun:
            # What the run that was killed had to say.
            try:
                body = unsealed(self.begun.text)
            except ValueError as fault:
                way_out = "remove it, and train every version again after erasing"
                raise LakeError(
                    f"{self.store.uri(self.record)} cannot be read ({fault}): {way_out}"
                ) from fault
            self.erased.gold, self.erased.dates = {*body["gold"]}, {*map(date.fromisoformat, body["dates"])}

    def outside(self, raw: Place, mapping: Path | None) -> None:
        """A raw folder or prefix elsewhere; copies of what lies on S3 are gone afterwards."""
        remote = str(raw).startswith(SCHEME)
        with staged(self.store.downloads) if remote else nullcontext(local_path(raw)) as work:
            store = S3Store(str(raw), work) if remote else LocalStore(work)
            self.files(store, "", store.listing(), mapping)

    def inside(self) -> None:
        """What is hidden, each date while nobody builds it, what has no date, and copies."""
        if isinstance(self.store, LocalStore):
            self.hidden(self.store.root)
        for as_of in [*map(str, self.lake.as_of_dates()), ""]:
            with self.lake.building(date.fromisoformat(as_of)) if as_of else nullcontext():
                for folder, files in self.folders(as_of).items():
                    snapshot = "/as_of=" in folder and folder.count("/") == 3
                    (self.table if snapshot else self.files)(self.store, folder, files)
        if not self.dry and self.store.downloads.exists():
            shutil.rmtree(self.store.downloads)

    def folders(self, as_of: str) -> dict[str, list[ListedFile]]:
        """The files of a date ("": those without one) by the folder that they belong to."""
        folders: dict[str, list[ListedFile]] = {}
        for listed in self.store.listing():
            day, folder = _DAY.search(listed.key), _FOLDER.match(listed.key)
            if (day[1] if day else "") == as_of and listed.key != self.record:
                folders.setdefault(folder[0] if folder else listed.key.rpartition("/")[0], []).append(listed)
        # The same bytes stand there a second time, under names that tell no table.
        folders.pop("downloads/objects", None)
        return folders

    def hidden(self, root: Path) -> None:
        """What killed runs left hidden goes; of the rest that is hidden, what names the person is told."""
        left = sweep(root, dry=True)
        for file in (f for f in root.rglob("*") if f.is_file() and "/." in f"/{f.relative_to(root)}"):
            if any(file.is_relative_to(path) for path in left):
                self.take(str(file), self.mentions(file))
            elif self.mentions(file):
                self.leave(str(file), "names the customer")
        sweep(root, dry=self.dry)

    def files(
        self, store: Store, folder: str, files: Sequence[ListedFile], mapping: Path | None = None
    ) -> None:
        """The files of a raw folder, or of one that holds others with our own column names."""
        own = [listed for listed in files if listed.name == f"{folder}/{MAPPING}".lstrip("/")]
        mapping = mapping or (store.fetch("", own) / own[0].name if own else None)
        renamed = read_mapping(mapping) if mapping else {}
        with store.staging(folder) as staging:
            for listed in files:
                column = _header(listed.name.removeprefix(folder).lstrip("/"), renamed)
                fresh = staging / Path(listed.name).name
                rows = self.copied(store, listed, fresh, column)
                if self.take(str(store.uri(listed.key)), rows) and not folder.startswith("downloads/"):
                    store.put(fresh, listed.key)

    def table(self, store: Store, folder: str, files: Sequence[ListedFile]) -> None:
        """A snapshot; what its manifest does not name is as any other file."""
        with store.lock(folder.rpartition("/")[0]), store.staging(folder) as staging:
            snapshot = None
            with suppress(LakeError):
                snapshot = self.lake.snapshot(folder)
            parts = {f"{folder}/{name}" for name in snapshot.manifest.parts} if snapshot else set()
            self.files(store, folder, [listed for listed in files if listed.key not in parts])
            if snapshot:
                self.parts(snapshot, [listed for listed in files if listed.key in parts], staging)

    def parts(self, snapshot: Snapshot, parts: Sequence[ListedFile], staging: Path) -> None:
        """The parts of a snapshot; one that is damaged is left."""
        gone, faults = 0, snapshot.faults
        for listed in parts:
            fresh = staging / Path(listed.name).name
            if fault := faults.get(fresh.name):
                self.leave(str(self.store.uri(listed.key)), fault)
            elif rows := self.copied(self.store, listed, fresh, ID):
                gone += rows
            else:
                fresh.unlink(missing_ok=True)
        manifest = snapshot.manifest
        self.erased.dates |= {manifest.as_of} if gone else set()
        self.erased.gold |= {manifest.digest} if gone and manifest.table == "gold_master" else set()
        if self.take(str(self.store.uri(snapshot.key)), gone):
            self.lake.amend(snapshot, staging, Erasure(on=date.today(), rows=gone, reason=self.reason))

    def take(self, place: str, rows: int) -> bool:
        """Whether rows are to go now; what will be left to do is written down before they do."""
        if not rows:
            return False
        self.erased.rows[place] = rows
        body = {"gold": sorted(self.erased.gold), "dates": sorted(map(str, self.erased.dates))}
        if not self.dry:
            self.store.swap(self.record, sealed(body), self.store.version(self.record))
        return not self.dry

    def leave(self, place: str, fault: str) -> None:
        """Note a file that may still name the person."""
        self.erased.left.append(f"{place} {fault}: mend or remove it, and erase again")

    def copied(self, store: Store, listed: ListedFile, fresh: Path, column: str) -> int:
        """Rows of the person in a file; `fresh` is a copy of it without them. What still names the person is left."""
        file, place = store.fetch("", [listed]) / listed.name, str(store.uri(listed.key))
        if file.name in (POINTER, MANIFEST):
            return 0
        if file.name.lower().endswith((*ARCHIVES, *WORKBOOKS)):
            self.leave(
                place,
                "is an archive or workbook, which is not looked into: replace it by one without the customer",
            )
            return 0
        copy = (
            self.redacted
            if file.name.startswith("_")
            else _COPIES.get(Path(file.name.removesuffix(".gz")).suffix)
        )
        try:
            rows = copy(file, fresh, self.customer_id, column) if copy else 0
        except (ValueError, OSError, EOFError, csv.Error, zlib.error) as fault:
            if file.suffix in (".parquet", ".gz") or self.mentions(file):
                self.leave(place, f"cannot be read ({str(fault).splitlines()[0]})")
            return 0
        if file.suffix != ".parquet" and self.mentions(fresh if rows else file):
            self.leave(place, "names the customer elsewhere than in the customer's rows")
        return rows

    def redacted(self, file: Path, fresh: Path, *_: str) -> int:
        """A note beside a table, which is then no longer what was written: the next build makes it again."""
        text, count = self.named.subn(b"erased", file.read_bytes())
        fresh.write_bytes(text)
        return count

    def mentions(self, file: Path) -> int:
        """How often a file names the person; rows of a Parquet file."""
        if file.suffix == ".parquet":
            with suppress(ValueError, OSError):
                return _parquet(file, Path("/dev/null"), self.customer_id, ID)
        with _opened(file, "rb", file) as stream:
            return len(self.named.findall(stream.read()))


def _header(name: str, renamed: dict[str, Renamed]) -> str:
    table = table_of(name, named_files(renamed))
    return renamed[table].columns.get(ID) or ID if table in renamed else ID


def _csv(file: Path, fresh: Path, customer_id: str, column: str) -> int:
    gone = 0
    with _opened(file, "rt", file) as source, _opened(fresh, "wt", file) as out:
        first = source.readline()
        source.seek(0)
        delimiter = max(DELIMITERS, key=lambda d: column in _names(first, d))
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
    with _opened(file, "rt", file) as source:
        text = source.read().lstrip("\ufeff")
    lines = not text.lstrip().startswith("[")
    records: list[Any] = (
        [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    )
    kept = [r for r in records if not (isinstance(r, dict) and str(r.get(column)).strip() == customer_id)]
    with _opened(fresh, "wt", file) as out:
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
            for batch in (one.cast(schema) for one in source.iter_batches(batch_size=1 << 20)):
                named = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(batch.column(at)), customer_id), False)
                if "row" in schema.names and column == ID:
                    # A row in quarantine may stand there without an id, and tell it in its text.
                    text = pc.match_substring(batch.column("row").cast(pa.string()), json.dumps(customer_id))
                    named = pc.or_(named, pc.fill_null(text, False))
                kept = batch.filter(pc.invert(named))
                gone += batch.num_rows - kept.num_rows
                out.write_batch(kept)
    return gone


def _opened(file: Path, mode: str, like: Path) -> IO[Any]:
    """A file, compressed as `like` is; texts are UTF-8 and keep the ends of their lines."""
    text = {"encoding": "utf-8", "newline": ""} if "t" in mode else {}
    opener: Callable[..., IO[Any]] = gzip.open if like.suffix == ".gz" else open
    return opener(file, mode, **text)


_COPIES: dict[str, Callable[[Path, Path, str, str], int]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _json,
    ".parquet": _parquet,
}
