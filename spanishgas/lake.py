"""Tables in the lake: a contract-checked table goes in, an immutable snapshot comes out, one pointer is swapped last.

    <lake>/raw/<as_of>/                                   the seven source files of one extract
    <lake>/<layer>/<table>/as_of=<date>/<snapshot>/       Parquet parts and _manifest.json
    <lake>/<layer>/<table>/as_of=<date>/_current.json     names the snapshot that readers see

A reader sees the old table or the new one, never a mixture: parts are written to a hidden folder, renamed as a whole,
and only then the pointer is replaced. A snapshot's name is its content's digest, so writing the same rows again makes
no second copy. Writers take turns under locks that the kernel frees when their holder dies, so no lock outlives it,
and whoever holds a table's lock knows that every hidden folder there was left by a run that was killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from pydantic import BaseModel, ConfigDict

from spanishgas.errors import LakeError, UsageError

RAW_FILES: Mapping[str, str] = {
    "churn_label": "churn_label.csv",
    "customer_attributes": "customer_attributes.csv",
    "customer_contracts": "customer_contracts.csv",
    "consumption_hourly_2024": "consumption_hourly_2024.parquet",
    "price_history": "price_history.csv",
    "costs_by_province_month": "costs_by_province_month.csv",
    "customer_interactions": "customer_interactions.json",
}
LAYERS: Mapping[str, str] = {
    "quarantine": "quarantine",
    "bronze_customer": "bronze",
    "bronze_customer_month": "bronze",
    "silver_customer": "silver",
    "silver_customer_month": "silver",
    "gold_master": "gold",
    "scores": "scored",
    "recommendations": "scored",
}


class Erasure(BaseModel):
    """A tombstone: that rows of a person were taken out of a snapshot, not whose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: date
    rows: int
    reason: str


class Manifest(BaseModel):
    """What a snapshot is: its rows, its digest, and everything it was built from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    as_of: date
    snapshot: str
    rows: int
    columns: dict[str, str]
    digest: str
    built_from: dict[str, str]
    fingerprint: str
    """Digest of inputs, parameters and code: equal fingerprints mean that the stage need not run again."""
    code: dict[str, str]
    run_id: str | None
    parts: dict[str, int] = {}
    """Size in bytes of each Parquet part."""
    erased: tuple[Erasure, ...] = ()
    """What is no longer there of the rows that `digest` was made from."""


@dataclass(frozen=True)
class Snapshot:
    """An immutable version of a table and where it lies."""

    manifest: Manifest
    folder: Path

    @property
    def uri(self) -> str:
        """Absolute URI of the folder of Parquet parts."""
        return self.folder.resolve().as_uri()

    @property
    def parts(self) -> str:
        """Glob over the Parquet parts, as DuckDB and Spark read it."""
        return str(self.folder / "*.parquet")

    @property
    def whole(self) -> bool:
        """Whether every part lies there in full, and no person was erased from it."""
        return _sizes(self.folder) == self.manifest.parts != {} and not self.manifest.erased

    def pandas(self, columns: list[str] | None = None) -> pd.DataFrame:
        """The whole table in memory, in the order written."""
        frame: pd.DataFrame = ds.dataset(self.folder, format="parquet").to_table(columns=columns).to_pandas()
        return frame


class Lake:
    """A folder of snapshots.

    - `publish` leaves either the old current snapshot or the new one, also when it is killed half-way or not alone.
    - `current` raises `LakeError` where nothing was published yet, and names the table and the as-of date.
    """

    def __init__(self, uri: str | Path) -> None:
        if "://" in str(uri) and not str(uri).startswith("file://"):
            raise UsageError(f"lake '{uri}' is not a local folder: give a path such as --lake lake")
        self.root = Path(str(uri).removeprefix("file://"))

    def raw(self, as_of: date) -> Path:
        """Folder of the raw extract of `as_of`."""
        return self.root / "raw" / as_of.isoformat()

    def raw_extracts(self) -> list[Path]:
        """Raw extracts in the lake, oldest first."""
        return sorted(p for p in (self.root / "raw").glob("????-??-??") if p.is_dir())

    def as_of_dates(self) -> list[date]:
        """Every date under which the lake holds a raw extract or anything of a table, oldest first."""
        tables = (p.name.removeprefix("as_of=") for p in self.root.glob("*/*/as_of=????-??-??"))
        return sorted({date.fromisoformat(d) for d in (*tables, *(p.name for p in self.raw_extracts()))})

    @contextmanager
    def building(self, as_of: date) -> Iterator[None]:
        """One build of `as_of` at a time, so that its tables come from one run; others wait for their turn."""
        with _alone(self.root / ".locks" / f"as_of={as_of}"):
            yield

    @contextmanager
    def writing(self, table: str, as_of: date) -> Iterator[Path]:
        """The folder of `table` at `as_of`, for one writer at a time and free of what killed writers left."""
        home = self._table(table) / f"as_of={as_of}"
        with _alone(self.root / ".locks" / f"{table}-as_of={as_of}"):
            for left in home.glob(".*-????????????????????????????????"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield home

    def _table(self, table: str) -> Path:
        if table not in LAYERS:
            raise UsageError.unknown("table", table, [*LAYERS, *RAW_FILES])
        return self.root / LAYERS[table] / table

    def find(self, table: str, as_of: date) -> Snapshot | None:
        """The current snapshot of `table` at `as_of`, or None where none was published."""
        pointer = self._table(table) / f"as_of={as_of}" / "_current.json"
        try:
            name = json.loads(pointer.read_text())["snapshot"]
            folder = pointer.parent / name
            manifest = Manifest.model_validate_json((folder / "_manifest.json").read_text())
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as fault:
            raise LakeError(f"{pointer} cannot be read ({fault}): build {table} again") from fault
        return Snapshot(manifest, folder)

    def current(self, table: str, as_of: date | None = None) -> Snapshot:
        """The current snapshot of `table` at `as_of`, of the newest as-of date if none is named."""
        dates = [as_of] if as_of else self.dates(table)[::-1]
        for day in dates:
            if found := self.find(table, day):
                return found
        when = f" as of {as_of}" if as_of else ""
        raise LakeError(
            f"{self.root} holds no {table}{when}: run the stage that makes it (spanishgas --help)"
        )

    def dates(self, table: str) -> list[date]:
        """As-of dates under which `table` was published, oldest first."""
        folders = self._table(table).glob("as_of=????-??-??/_current.json")
        return sorted(date.fromisoformat(p.parent.name.removeprefix("as_of=")) for p in folders)

    def at(self, digest: str, table: str) -> Snapshot:
        """The snapshot of `table` with this digest, current or not; LakeError if it is gone."""
        for folder in self._table(table).glob(f"as_of=*/{digest[:16]}"):
            try:
                manifest = Manifest.model_validate_json((folder / "_manifest.json").read_text())
            except (OSError, ValueError) as fault:
                raise LakeError(f"{folder} has no manifest that can be read: build {table} again") from fault
            return Snapshot(manifest, folder)
        raise LakeError(
            f"{self.root} no longer holds {table} with digest {digest}: restore it or train again"
        )

    def publish(
        self,
        table: str,
        as_of: date,
        write: Callable[[Path], None],
        *,
        built_from: Mapping[str, str],
        fingerprint: str,
        code: Mapping[str, str],
        run_id: str | None = None,
    ) -> Snapshot:
        """Make what `write` puts into a folder (as Parquet parts) the current snapshot of `table`.

        The same rows under the same fingerprint leave the lake as it was, to the byte.
        """
        with self.writing(table, as_of) as home:
            staging = home / f".staging-{uuid.uuid4().hex}"
            staging.mkdir(parents=True)
            try:
                write(staging)
                digest, rows, columns = _content(staging)
                manifest = Manifest(
                    table=table,
                    as_of=as_of,
                    snapshot=digest[:16],
                    rows=rows,
                    columns=columns,
                    digest=digest,
                    built_from=dict(built_from),
                    fingerprint=fingerprint,
                    code=dict(code),
                    run_id=run_id,
                    parts=_sizes(staging),
                )
                return self._make_current(home, staging, manifest)
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def _make_current(self, home: Path, staging: Path, fresh: Manifest) -> Snapshot:
        held = _read(home / fresh.snapshot)
        if held and held.whole:
            current = self._current_name(home) == fresh.snapshot
            if current and held.manifest.fingerprint == fresh.fingerprint:
                return held
            fresh = fresh.model_copy(update={"parts": held.manifest.parts})
        elif (home / fresh.snapshot).exists():  # damaged, or a person was erased from it
            (home / fresh.snapshot).rename(home / f".replaced-{uuid.uuid4().hex}")
        if held and held.whole:
            write_manifest(held.folder, fresh)
        else:
            write_manifest(staging, fresh)
            staging.rename(home / fresh.snapshot)
        _replace(home / "_current.json", json.dumps({"snapshot": fresh.snapshot}))
        return Snapshot(fresh, home / fresh.snapshot)

    @staticmethod
    def _current_name(home: Path) -> str | None:
        try:
            return str(json.loads((home / "_current.json").read_text())["snapshot"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def snapshots(self) -> list[tuple[Snapshot, bool]]:
        """Every snapshot that can be read, with whether it is current; newest first within its table and date."""
        found = []
        for table in LAYERS:
            for file in self._table(table).glob("as_of=*/[!.]*/_manifest.json"):
                if held := _read(file.parent):
                    made = -file.stat().st_mtime_ns
                    current = self._current_name(file.parents[1]) == file.parent.name
                    found.append((table, held.manifest.as_of, made, file.parent.name, held, current))
        return [(held, current) for *_, held, current in sorted(found, key=lambda row: row[:4])]

    def prunable(self, keep: int, older_than: float, protected: Collection[str] = ()) -> list[Snapshot]:
        """Snapshots beyond the newest `keep` of a table and date whose manifest is older than `older_than` (epoch s).

        Never the current ones, never those with a digest in `protected`, and none that either were built from.
        """
        held = self.snapshots()
        safe = _lineage(
            [s for s, _ in held], {s.manifest.digest for s, current in held if current} | {*protected}
        )
        seen: dict[tuple[str, date], int] = {}
        found = []
        for snapshot, current in held:
            place = (snapshot.manifest.table, snapshot.manifest.as_of)
            seen[place] = seen.get(place, 0) + 1
            old = (snapshot.folder / "_manifest.json").stat().st_mtime < older_than
            if old and not current and seen[place] > keep and snapshot.manifest.digest not in safe:
                found.append(snapshot)
        return found

    def remove(self, snapshot: Snapshot) -> bool:
        """Remove a snapshot, unless it has become current in the meantime; gives whether it is gone."""
        with self.writing(snapshot.manifest.table, snapshot.manifest.as_of) as home:
            if self._current_name(home) == snapshot.manifest.snapshot:
                return False
            gone = home / f".removed-{uuid.uuid4().hex}"
            snapshot.folder.rename(gone)
            shutil.rmtree(gone)
        return True


def _lineage(held: list[Snapshot], digests: set[str]) -> set[str]:
    """The digests, and those of everything that they were built from."""
    sources = {s.manifest.digest: {*s.manifest.built_from.values()} for s in held}
    known, new = set(digests), set(digests)
    while new:
        new = {source for digest in new for source in sources.get(digest, ())} - known
        known |= new
    return known


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold an advisory lock on a file that is never removed; the kernel frees it when the process dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sizes(folder: Path) -> dict[str, int]:
    return {part.name: part.stat().st_size for part in sorted(folder.glob("*.parquet"))}


def _read(folder: Path) -> Snapshot | None:
    try:
        return Snapshot(Manifest.model_validate_json((folder / "_manifest.json").read_text()), folder)
    except (FileNotFoundError, ValueError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest into a snapshot's folder by one rename."""
    _replace(folder / "_manifest.json", manifest.model_dump_json(indent=1))


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    fresh.write_text(text)
    os.replace(fresh, path)


def _content(folder: Path) -> tuple[str, int, dict[str, str]]:
    data = ds.dataset(folder, format="parquet")
    columns = {field.name: str(field.type) for field in data.schema}
    total, rows = rows_digest(data)
    return hashlib.sha256(json.dumps([columns, rows, total]).encode()).hexdigest(), rows, columns


def rows_digest(data: ds.Dataset | pa.Table) -> tuple[list[str], int]:
    """Order-free digest of all rows: two sums of 64-bit row hashes under different keys, and the number of rows.

    Reads in batches, so memory is bounded. Lists are hashed by their JSON text.
    """
    sums, rows = [0, 0], 0
    for batch in data.to_batches():
        frame = batch.to_pandas()
        for name, kind in zip(batch.schema.names, batch.schema.types, strict=True):
            if pa.types.is_nested(kind):
                frame[name] = [json.dumps(v if v is None else list(v)) for v in frame[name]]
        for i, key in enumerate(("spanishgas-lake-", "-digest-of-rows-")):
            hashes = pd.util.hash_pandas_object(frame, index=False, hash_key=key)
            sums[i] = (sums[i] + int(hashes.to_numpy().sum(dtype="uint64"))) % 2**64
        rows += len(frame)
    return [f"{s:016x}" for s in sums], rows


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder in name order."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 22):
                    digest.update(chunk)
    return digest.hexdigest()
