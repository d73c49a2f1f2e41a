"""What the lake holds: the names of its tables, the manifest of a snapshot, and the snapshot that readers get."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from spanishgas.config.adopted import of_adopted
from spanishgas.contracts.tables import LAYERS
from spanishgas.errors import LakeError
from spanishgas.lake.digests import intact, sealed, unsealed
from spanishgas.lake.s3 import S3Store
from spanishgas.lake.store import ListedFile, LocalStore

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds

Store = LocalStore | S3Store
"""Where files lie; a suite of tests holds both to what `LocalStore` says of each operation."""
POINTER, MANIFEST = "_current.json", "_manifest.json"
Body = TypeVar("Body", bound=BaseModel)
T = TypeVar("T")


def parsed(store: Store, key: str, kind: type[Body]) -> Body | None:
    """What a small file says, or None where it is missing; LakeError if it says nothing."""
    try:
        text = store.read(key)
        return kind.model_validate(unsealed(text.text)) if text else None
    except (ValueError, OSError) as fault:
        words = fault.errors()[0]["msg"] if isinstance(fault, ValidationError) else str(fault)
        raise damage(store, key, f"cannot be read ({words})") from fault


def damage(store: Store, key: str, words: str) -> LakeError:
    """The error about a file of a table, with what makes it whole again."""
    layer, table, day = key.split("/")[:3]
    verbs = {"experiments": "experiment", "scored": "outcomes" if table == "outcomes" else "score"}
    raw = store.uri(day.replace("as_of=", "raw/"))
    verb = verbs.get(layer, f"adopt TABLE --as-of {day[6:]}" if of_adopted() else f"etl --raw {raw}")
    way_out = f"build {table} again (spanishgas {verb}), or restore it from a copy"
    return LakeError(f"{store.uri(key)} {words}: {way_out}")


class Sealed(BaseModel):
    """What a small file of the lake says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def text(self) -> str:
        """What is written of it."""
        return sealed(self.model_dump(mode="json"))


class Pointer(Sealed):
    """Which snapshot is current; none before the first is whole."""

    snapshot: str | None


class Erasure(BaseModel):
    """A tombstone: that rows of a person were taken out of a snapshot, not whose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: date
    rows: int
    reason: str


class Manifest(Sealed):
    """What a snapshot is: its rows, its digest, and everything it was built from."""

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
    parts: dict[str, int]
    """Size in bytes of each Parquet part, in the order of the rows; other files there are not of the table."""
    erased: tuple[Erasure, ...] = ()
    """What is no longer there of the rows that `digest` was made from."""

    @property
    def key(self) -> str:
        """The only folder of a store where it may lie."""
        return f"{LAYERS.get(self.table)}/{self.table}/as_of={self.as_of}/{self.digest[:16]}"


@dataclass(frozen=True)
class Snapshot:
    """An immutable version of a table and where it lies."""

    manifest: Manifest
    store: Store
    key: str
    """Folder in the store."""

    @property
    def identity(self) -> list[str]:
        """What results that are made of it depend on."""
        return [self.manifest.table, self.manifest.as_of.isoformat(), self.manifest.digest]

    @property
    def uri(self) -> str:
        """The `location` of the folder of Parquet parts."""
        return self.store.uri(self.key)

    @property
    def folder(self) -> Path:
        """The parts as local files, fetched where they lie elsewhere; `LakeError` names one that is damaged."""
        folder, faults = self._checked()
        for name, fault in faults.items():
            raise damage(self.store, f"{self.key}/{name}", fault)
        return folder

    @property
    def faults(self) -> Mapping[str, str]:
        """What is wrong with parts, by name: bytes are held against the digest in the name, once a process."""
        return self._checked()[1]

    @property
    def intact(self) -> bool:
        """Whether every part holds the bytes that were written, and no person was erased from it."""
        return not self.manifest.erased and not self.faults

    def dataset(self) -> ds.Dataset:
        """The table in the order written, for reading in batches."""
        import pyarrow.dataset as ds

        folder = self.folder
        return ds.dataset([str(folder / name) for name in self.manifest.parts], format="parquet")

    def pandas(self, columns: list[str] | None = None) -> pd.DataFrame:
        """The whole table in memory, in the order written."""
        frame: pd.DataFrame = self.dataset().to_table(columns=columns).to_pandas()
        return frame

    def _checked(self) -> tuple[Path, dict[str, str]]:
        lies = {listed.name: listed for listed in self.store.listing(self.key)}
        parts = self.manifest.parts
        there = [lies[name] for name, size in parts.items() if name in lies and lies[name].size == size]
        folder = self.store.fetch(self.key, there)
        faults = dict.fromkeys(sorted(parts.keys() - {o.name for o in there}), "is missing or cut short")
        changed = (o.name for o in there if not intact(folder / o.name))
        return folder, faults | dict.fromkeys(changed, "was changed since it was written")


def unnamed_parts(
    listing: Sequence[ListedFile], current: Manifest, own: Collection[str], before: float
) -> list[str]:
    """Keys of a table's parts that no manifest names: `own` at once, others if written `before` (epoch s).

    By then their writer must have been killed.
    """
    whole = {o.name.partition("/")[0] for o in listing if o.name.endswith(f"/{MANIFEST}")}
    keys = []
    for listed in listing:
        folder, _, part = listed.name.partition("/")
        if not part.endswith(".parquet"):
            continue
        ours = folder == current.snapshot
        named = part in current.parts if ours else folder in whole
        if not named and (listed.modified <= before or (ours and part in own)):
            keys.append(listed.key)
    return keys


def ancestry(snapshots: Collection[Snapshot], digests: Collection[str]) -> set[str]:
    """The digests, and those of everything that they were built from."""
    sources = {s.manifest.digest: {*s.manifest.built_from.values()} for s in snapshots}
    reached, new = set(digests), set(digests)
    while new:
        new = {source for digest in new for source in sources.get(digest, ())} - reached
        reached |= new
    return reached


def unless_damaged(read: Callable[[], T | None], otherwise: T | None = None) -> T | None:
    """What `read` gives; `otherwise` where it meets damage."""
    try:
        return read()
    except LakeError:
        return otherwise


def day_of(name: str) -> date | None:
    """The date that a folder is named after, if it is one."""
    return date.fromisoformat(name) if re.fullmatch(r"\d{4}-\d\d-\d\d", name) else None
