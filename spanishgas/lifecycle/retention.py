"""What may go: old snapshots that nothing refers to, and which model versions a person's rows were used for."""

from __future__ import annotations

import time
from collections.abc import Collection

from spanishgas.contracts.tables import LAYERS
from spanishgas.errors import TrackingError
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.version import Version
from spanishgas.settings import of_offers


def versions() -> list[Version]:
    """All registered versions, those of offers last; TrackingError where the store cannot be asked."""
    runs.connect()
    with runs.translated_errors():
        every = [_of(offers) for offers in (False, True)]
    return [version for versions in every for version in versions]


def _of(offers: bool) -> list[Version]:
    with of_offers(offers):
        return registry.versions()


def prunable(lake: Lake, *, keep: int, days: int) -> list[Snapshot]:
    """Snapshots that may go; every gold table stays if no registered version can be asked what it was trained on."""
    try:
        protected = {str(value) for version in versions() for value in version.tags.values()}
    except TrackingError:
        protected = set()
    if not protected:
        protected = {s.manifest.digest for s, _ in lake.snapshots() if s.manifest.table == "gold_master"}
    return lake.prunable(keep, time.time() - days * 86_400, protected)


def left_over(lake: Lake, *, dry: bool) -> list[str]:
    """Parts of tables that no manifest names, as a killed run or removal leaves them; removed unless `dry`."""
    return [key for table in LAYERS for day in lake.dates(table) for key in lake.tidy(table, day, dry=dry)]


def trained_on(digests: Collection[str]) -> list[str]:
    """The registered versions that were trained on one of these gold tables, oldest first, as messages name them."""
    return [v.named for v in versions() if {*digests} & {*v.tags.values()}]


def to_train(digests: Collection[str]) -> list[str]:
    """What to train again after rows left these gold tables, in words; also where no version can be listed now."""
    try:
        numbers = trained_on(digests) if digests else []
    except TrackingError as fault:
        tables = " or ".join(sorted(digests))
        return [
            f"model versions could not be listed ({fault}): train those whose tag data.digest is {tables} again"
        ]
    return [f"train again: {number} was trained on rows of this person" for number in numbers]
