"""Tables in the lake: a contract-checked table goes in, an immutable snapshot comes out, one pointer is swapped last.

    <lake>/raw/<as_of>/                                   the seven source files of one extract
    <lake>/<layer>/<table>/as_of=<date>/<snapshot>/       Parquet parts and _manifest.json
    <lake>/<layer>/<table>/as_of=<date>/_current.json     names the snapshot that readers see

A reader sees the old table or the new one, never a mixture: parts come first, then the manifest that names them, and
only then the pointer is swapped. A pointer that names nothing comes before them all: where there is none, it was lost.
What cannot be read is an error, never taken for what is not there. A snapshot's name is its content's digest, so
writing the same rows again makes no second copy. In a folder, writers take turns under locks; on S3 they do not, and
one that was overtaken says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import date
from functools import partial
from itertools import groupby
from pathlib import Path

from spanishgas.contracts.tables import LAYERS
from spanishgas.errors import LakeError, UsageError
from spanishgas.lake.digests import content, named_by_content
from spanishgas.lake.s3 import S3Store
from spanishgas.lake.store import SCHEME, LocalStore, Place, Replaced, local_path
from spanishgas.lake.tables import (
    MANIFEST,
    POINTER,
    Erasure,
    Manifest,
    Pointer,
    Snapshot,
    Store,
    ancestry,
    damage,
    day_of,
    parsed,
    unless_damaged,
    unnamed_parts,
)
from spanishgas.raw_files import RAW_FILES
from spanishgas.stages import outside


def open_store(place: Place) -> Store:
    """The store of a folder, a file:// URI or an s3:// prefix; `UsageError` for any other scheme."""
    return S3Store(str(place)) if str(place).startswith(SCHEME) else LocalStore(local_path(place))


class Lake:
    """Snapshots in a folder or under an s3:// prefix.

    - `publish` leaves either the old current snapshot or the new one, also when it is killed half-way or not alone.
    - `current` raises `LakeError` where nothing was published yet, and names the table and the as-of date.
    - What is damaged, unreadable or lost raises `LakeError`, which names the file; to publish again mends it.
    """

    def __init__(self, place: Place) -> None:
        self.store = open_store(place)
        self._seen: dict[str, str | None] = {}

    @property
    def root(self) -> Place:
        """The folder or s3:// prefix."""
        return self.store.root

    def raw(self, as_of: date) -> Place:
        """Folder or prefix of the raw extract of `as_of`."""
        return self.root / f"raw/{as_of}" if isinstance(self.root, Path) else self.store.uri(f"raw/{as_of}")

    def raw_extracts(self) -> list[Place]:
        """Raw extracts in the lake, oldest first."""
        dates = {listed.name.partition("/")[0] for listed in self.store.listing("raw")}
        return [self.raw(day) for day in sorted(filter(None, map(day_of, dates)))]

    def as_of_dates(self) -> list[date]:
        """Every date under which the lake holds a raw extract or anything of a table, oldest first."""
        folders = {f for listed in self.store.listing() for f in listed.key.split("/")[:-1]}
        return sorted(set(filter(None, (day_of(folder.removeprefix("as_of=")) for folder in folders))))

    @contextmanager
    def building(self, as_of: date) -> Iterator[None]:
        """One build of `as_of` at a time, so that its tables come from one run.

        In a folder others wait for their turn. On S3 nobody waits, but `publish` refuses to replace what another run
        published since the build began.
        """
        with self.store.lock(f"as_of={as_of}"):
            homes = [self._home(table, as_of) for table in LAYERS]
            self._seen = {home: self.store.version(f"{home}/{POINTER}") for home in homes}
            try:
                yield
            finally:
                self._seen = {}

    def _table(self, table: str) -> str:
        if table not in LAYERS:
            raise UsageError.unknown("table", table, [*LAYERS, *RAW_FILES])
        return f"{LAYERS[table]}/{table}"

    def _home(self, table: str, as_of: date) -> str:
        return f"{self._table(table)}/as_of={as_of}"

    def find(self, table: str, as_of: date) -> Snapshot | None:
        """The current snapshot of `table` at `as_of`, or None where none was ever published."""
        outside(f"the table {table}")
        home = self._home(table, as_of)
        name = self._pointed(home)
        if name is None:
            return None
        if snapshot := self.snapshot(f"{home}/{name}"):
            return snapshot
        raise damage(self.store, f"{home}/{name}/{MANIFEST}", f"is missing, but {POINTER} names it")

    def reusable(self, table: str, as_of: date) -> Snapshot | None:
        """The current snapshot if it is whole; None also where it is damaged, for to publish it again mends it."""
        snapshot = unless_damaged(lambda: self.find(table, as_of))
        return snapshot if snapshot and snapshot.intact else None

    def made(self, table: str, as_of: date, key: str) -> Snapshot | None:
        """The current snapshot if it was made under `key` and is whole; None also where it is damaged."""
        snapshot = self.reusable(table, as_of)
        return snapshot if snapshot and snapshot.manifest.fingerprint == key else None

    def current(self, table: str, as_of: date | None = None) -> Snapshot:
        """The current snapshot of `table` at `as_of`, of the newest as-of date if none is named."""
        outside(f"the table {table}")
        for day in [as_of] if as_of else self._days(table)[::-1]:
            if snapshot := self.find(table, day):
                return snapshot
        when = f" as of {as_of}" if as_of else ""
        raise LakeError(
            f"{self.root} holds no {table}{when}: run the stage that makes it (spanishgas --help)"
        )

    def dates(self, table: str) -> list[date]:
        """As-of dates under which `table` was published, be it damaged now or not, oldest first."""
        outside(f"the table {table}")
        homes = {day: partial(self._pointed, self._home(table, day)) for day in self._days(table)}
        return [day for day, pointed in homes.items() if unless_damaged(pointed, "") is not None]

    def _days(self, table: str) -> list[date]:
        folders = {listed.name.partition("/")[0] for listed in self.store.listing(self._table(table))}
        return sorted(filter(None, (day_of(folder.removeprefix("as_of=")) for folder in folders)))

    def by_digest(self, digest: str, table: str) -> Snapshot:
        """The snapshot of `table` with this digest, current or not; LakeError if it is gone."""
        outside(f"the table {table}")
        for listed in self.store.listing(self._table(table)):
            key = listed.key.removesuffix(f"/{digest[:16]}/{MANIFEST}")
            if key != listed.key and (snapshot := self.snapshot(f"{key}/{digest[:16]}")):
                return snapshot
        raise LakeError(
            f"{self.root} no longer holds {table} with digest {digest}: restore it or train again"
        )

    def _pointed(self, home: str) -> str | None:
        """Name of the current snapshot, None if there was none yet."""
        key = f"{home}/{POINTER}"
        pointer = parsed(self.store, key, Pointer)
        if pointer is None and (lies := self.store.listing(home)):
            # It may be the first build's, which put its pointer there since, before anything else.
            pointer = parsed(self.store, key, Pointer)
            if pointer is None:
                raise damage(self.store, key, f"is missing, but {lies[0].name} lies beside it")
        return pointer.snapshot if pointer else None

    def snapshot(self, key: str) -> Snapshot | None:
        """The snapshot whose folder this is, or None without a manifest."""
        manifest = parsed(self.store, f"{key}/{MANIFEST}", Manifest)
        if manifest and manifest.key != key:
            raise damage(self.store, f"{key}/{MANIFEST}", f"is the manifest of {manifest.key}")
        return Snapshot(manifest, self.store, key) if manifest else None

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

        - The same rows under the same fingerprint leave the lake as it was, to the byte.
        - `Replaced` where another run made other rows current meanwhile: those stand.
        """
        home = self._home(table, as_of)
        with self.store.lock(home), self.store.staging(home) as staging:
            before = self._seen.get(home, self.store.version(f"{home}/{POINTER}"))
            write(staging)
            import pyarrow.dataset as ds

            digest, rows, columns = content(ds.dataset(staging, format="parquet"))
            fresh = Manifest(
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
                parts=named_by_content(staging),
            )
            try:
                made = self._make_current(home, staging, fresh, before)
            except Replaced:  # also if only the manifest was, by a run that published the same rows
                made = self._make_current(home, staging, fresh, before)
            for key in self._unnamed(home, made.manifest, fresh.parts):
                self.store.remove(key)
            return made

    def _make_current(self, home: str, staging: Path, fresh: Manifest, before: str | None) -> Snapshot:
        key = fresh.key
        lies = self.store.version(f"{key}/{MANIFEST}")
        existing = unless_damaged(lambda: self.snapshot(key))
        # What this run has just put there need not be fetched to be sure of it.
        if existing and ((existing.manifest == fresh and not any(staging.iterdir())) or existing.intact):
            current = unless_damaged(lambda: self._pointed(home))
            if current == fresh.snapshot and existing.manifest.fingerprint == fresh.fingerprint:
                return existing
            fresh = fresh.model_copy(update={"parts": existing.manifest.parts})
        else:
            before = self._begun(home, before)
            for part in fresh.parts:
                self.store.put(staging / part, f"{key}/{part}")
                (staging / part).unlink(missing_ok=True)
        self.store.swap(f"{key}/{MANIFEST}", fresh.text, lies)
        version = self.store.swap(f"{home}/{POINTER}", Pointer(snapshot=fresh.snapshot).text, before)
        if home in self._seen:
            self._seen[home] = version
        return Snapshot(fresh, self.store, key)

    def _begun(self, home: str, before: str | None) -> str | None:
        """The pointer's version, after putting one that names nothing where nothing lies yet."""
        names = {listed.name for listed in self.store.listing(home)}
        if before or (names and POINTER not in names):
            return before
        with suppress(Replaced):
            return self.store.swap(f"{home}/{POINTER}", Pointer(snapshot=None).text, None)
        return None

    def tidy(self, table: str, as_of: date, *, dry: bool) -> list[str]:
        """Keys of parts that no manifest names, as killed runs and removals leave them; gone unless `dry`."""
        home = self._home(table, as_of)
        with nullcontext() if dry else self.store.lock(home):
            current = unless_damaged(partial(self.find, table, as_of))
            keys = self._unnamed(home, current.manifest, ()) if current else []
            for key in () if dry else keys:
                self.store.remove(key)
        return keys

    def _unnamed(self, home: str, current: Manifest, own: Collection[str]) -> list[str]:
        return unnamed_parts(self.store.listing(home), current, own, time.time() - self.store.grace)

    def read_note(self, table: str, as_of: date, name: str) -> str | None:
        """A file that lies beside the snapshots of `table`, or None."""
        text = self.store.read(f"{self._home(table, as_of)}/{name}")
        return text.text if text else None

    def write_note(self, table: str, as_of: date, name: str, text: str) -> None:
        """Put a file beside the snapshots of `table`, whatever stood there."""
        home = self._home(table, as_of)
        with self.store.lock(home), self.store.staging(home) as staging:
            (staging / name).write_text(text)
            self.store.put(staging / name, f"{home}/{name}")

    def snapshots(self) -> list[tuple[Snapshot, bool]]:
        """Every snapshot, with whether it is current; newest first within its table and date."""
        return [(snapshot, current) for snapshot, current, _ in self._dated()]

    def _dated(self) -> list[tuple[Snapshot, bool, float]]:
        dated = []
        for number, table in enumerate(LAYERS):
            for listed in self.store.listing(self._table(table)):
                key, _, name = listed.key.rpartition("/")
                if name != MANIFEST or not (snapshot := self.snapshot(key)):
                    continue
                home, _, snapshot_id = key.rpartition("/")
                current = self._pointed(home) == snapshot_id
                # S3 knows whole seconds: of several snapshots of one, the current one is the newest.
                order = (number, snapshot.manifest.as_of, -listed.modified, not current, snapshot_id)
                dated.append((order, snapshot, current, listed.modified))
        return [row[1:] for row in sorted(dated, key=lambda row: row[0])]

    def prunable(self, keep: int, older_than: float, protected: Collection[str] = ()) -> list[Snapshot]:
        """Snapshots beyond the newest `keep` of a table and date whose manifest is older than `older_than` (epoch s).

        Never the current ones, never those with a digest in `protected`, and none that either were built from.
        """
        dated = self._dated()
        safe = ancestry(
            [s for s, *_ in dated], {s.manifest.digest for s, current, _ in dated if current} | {*protected}
        )
        return [
            snapshot
            for _, of_home in groupby(dated, key=lambda row: row[0].key.rpartition("/")[0])
            for snapshot, current, made in list(of_home)[keep:]
            if made < older_than and not current and snapshot.manifest.digest not in safe
        ]

    def remove(self, snapshot: Snapshot) -> bool:
        """Remove a snapshot, unless it has become current in the meantime; gives whether it is gone.

        On S3 a run that publishes the same rows in the same moment may find them gone, and has to be run again.
        """
        home, _, name = snapshot.key.rpartition("/")
        with self.store.lock(home):
            if self._pointed(home) == name:
                return False
            lies = sorted(o.key for o in self.store.listing(snapshot.key))
            for key in sorted(lies, key=lambda key: not key.endswith(MANIFEST)):
                self.store.remove(key)
        return True

    def amend(self, snapshot: Snapshot, staging: Path, stone: Erasure) -> None:
        """Put the parts in `staging` in place of those of the same name, under a manifest with the tombstone.

        Whoever calls it has the store's lock of the snapshot's table and date.
        """
        manifest, parts = snapshot.manifest, dict(snapshot.manifest.parts)
        for old in sorted(staging.glob("*.parquet")):
            del parts[old.name]
            old.rename(old.with_name(f"{old.stem.rpartition('-')[0]}.parquet"))
        fresh = named_by_content(staging)
        for part in fresh:
            self.store.put(staging / part, f"{snapshot.key}/{part}")
        parts = dict(sorted((parts | fresh).items()))
        changes = {"rows": manifest.rows - stone.rows, "parts": parts, "erased": (*manifest.erased, stone)}
        key = f"{snapshot.key}/{MANIFEST}"
        self.store.swap(key, manifest.model_copy(update=changes).text, self.store.version(key))
        for part in manifest.parts.keys() - parts.keys():
            self.store.remove(f"{snapshot.key}/{part}")
