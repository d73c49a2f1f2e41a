"""A small table and its publishing, for tests and for the processes that they start."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd

from spanishgas.lake import Lake, Replaced, Snapshot

DAY, LATER = date(2024, 12, 31), date(2025, 3, 31)
TABLE = "gold_master"


def frame(rows: int = 3, value: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame({"customer_id": [f"C{i:05d}" for i in range(rows)], "value": value})


def writer(content: pd.DataFrame) -> Callable[[Path], None]:
    return lambda folder: content.to_parquet(folder / "part-0.parquet", index=False)


def publish(lake: Lake, content: pd.DataFrame, as_of: date = DAY, fingerprint: str = "f") -> Snapshot:
    return lake.publish(TABLE, as_of, writer(content), built_from={}, fingerprint=fingerprint, code={})


def publish_and_die(place: str, ending: str) -> None:
    """Ends by a kill before the file is written whose key ends so."""
    lake = Lake(place)
    put, swap = lake.store.put, lake.store.swap

    def unless_due(key: str) -> None:
        if key.endswith(ending):
            os.kill(os.getpid(), signal.SIGKILL)

    lake.store.put = lambda file, key: (unless_due(key), put(file, key))[1]
    lake.store.swap = lambda key, *rest: (unless_due(key), swap(key, *rest))[1]
    publish(lake, frame(value=2.0))


def publish_many(place: str, offset: str) -> None:
    """On S3 a writer may be overtaken, and is told so; in a folder never."""
    for i in range(4):
        try:
            publish(Lake(place), frame(value=float(i % 3) + float(offset)))
        except Replaced:
            assert place.startswith("s3://")


if __name__ == "__main__":
    {"die": publish_and_die, "many": publish_many}[sys.argv[1]](*sys.argv[2:])
