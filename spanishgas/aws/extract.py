"""Whether a raw extract under a prefix of the bucket is complete, and which content it is. Standard library only.

raw/<as_of>/churn_label.csv and six more     complete, labelled: to train on
raw/<as_of>/_unlabelled and the six          complete, without labels: to score
raw/<as_of>/consumption_hourly_2024/...      a table in parts counts once its folder holds _SUCCESS
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass

from spanishgas.raw_files import LABELS, MAPPING, RAW_FILES, names, table_of

UNLABELLED, WHOLE = "_unlabelled", "_SUCCESS"
_FOLDER = re.compile(r"(raw/(\d{4}-\d{2}-\d{2})/).*")


@dataclass(frozen=True)
class Listed:
    """An object: its name below the extract's prefix, its ETag and its size."""

    name: str
    etag: str
    size: int


@dataclass(frozen=True)
class Complete:
    """A complete extract: `train` where it has labels, else `score`; equal digests mean equal content.

    S3 gives an object under a KMS key a new ETag with every upload, so the same bytes sent again are another digest.
    """

    mode: str
    digest: str


def folder_of(key: str) -> tuple[str, str] | None:
    """Prefix and as-of date of the extract that an object belongs to; None for one that belongs to none."""
    found = _FOLDER.fullmatch(key)
    return (found[1], found[2]) if found else None


def complete(objects: Iterable[Listed]) -> Complete | None:
    """What the extract is, or None while a table is missing or unfinished."""
    listed = list(objects)
    lie = {o.name for o in listed}
    held = {table for table in RAW_FILES if _is_whole(table, lie)}
    if held | {LABELS} != RAW_FILES.keys() or (LABELS not in held and UNLABELLED not in lie):
        return None
    content = sorted((o.name, o.etag, o.size) for o in listed if o.name == MAPPING or table_of(o.name, {}))
    digest = hashlib.sha256(repr(content).encode()).hexdigest()
    return Complete("train" if LABELS in held else "score", digest)


def _is_whole(table: str, lie: Set[str]) -> bool:
    return any(name in lie or f"{name}/{WHOLE}" in lie for name in names(table, {}))
