"""What makes two tables, parts or files equal, and what tells that one was changed since it was written."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds


def content(data: ds.Dataset) -> tuple[str, int, dict[str, str]]:
    """Digest, number of rows and columns of a table, as manifests hold them."""
    columns = {field.name: str(field.type) for field in data.schema}
    total, rows = rows_digest(data)
    return hashlib.sha256(json.dumps([columns, rows, total]).encode()).hexdigest(), rows, columns


def rows_digest(data: ds.Dataset | pa.Table) -> tuple[list[str], int]:
    """Order-free digest of all rows: two sums of 64-bit row hashes under different keys, and the number of rows.

    Reads in batches, so memory is bounded. Lists are hashed by their JSON text.
    """
    import pandas as pd
    import pyarrow as pa

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


def is_hidden(name: str) -> bool:
    """Whether a part of the name begins with `_`, `.` or `~`: a mark, a lock, or what a killed writer left."""
    return any(part.startswith(("_", ".", "~")) for part in name.split("/"))


def files_of(folder: Path) -> list[Path]:
    """The files below a folder that are not hidden, in name order."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return [file for file in files if not is_hidden(file.relative_to(folder).as_posix())]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, or of `files_of` a folder."""
    digest = hashlib.sha256()
    for file in files_of(path) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def named_by_content(folder: Path) -> dict[str, int]:
    """Give each Parquet part in the folder a name that tells its bytes; sizes by name, in the order of the rows.

    Writers that meet on one snapshot can then never overwrite a part by another, and readers see damage.
    """
    sizes = {}
    for part in sorted(folder.glob("*.parquet")):
        named = part.rename(part.with_name(f"{part.stem}-{file_digest(part)[:12]}.parquet"))
        sizes[named.name] = named.stat().st_size
    return sizes


_SEEN: dict[tuple[int, int], tuple[int, int, str]] = {}
"""Size, time of change and digest of files by device and inode: a process reads each once for its digest."""
SETTLED = 1.0
"""Seconds after a change from which on the next is sure to get another time."""


def intact(file: Path) -> bool:
    """Whether the file holds the bytes that the last word of its name, a digest's beginning, tells."""
    stat = file.stat()
    place, state = (stat.st_dev, stat.st_ino), (stat.st_size, stat.st_ctime_ns)
    *seen_state, digest = _SEEN.get(place, ("",))
    if seen_state != [*state]:
        digest = file_digest(file)
        if time.time() > stat.st_ctime + SETTLED:
            _SEEN[place] = (*state, digest)
    return digest.startswith(file.stem.rpartition("-")[2])


def sealed(body: Mapping[str, object]) -> str:
    """The JSON text of `body` and of a digest of it, which `unsealed` checks."""
    return json.dumps({**body, "check": json_digest(body)[:16]}, indent=1)


def unsealed(text: str) -> dict[str, Any]:
    """The object that was sealed; ValueError for a text that differs from what was written.

    An object without a digest was written before there were any, and passes.
    """
    body: Any = json.loads(text)
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")
    if body.pop("check", None) not in (None, json_digest(body)[:16]):
        raise ValueError("it was changed since it was written")
    return body


def json_digest(data: object) -> str:
    """SHA-256 of JSON data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
