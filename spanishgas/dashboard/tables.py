"""Questions to published snapshots: SQL that DuckDB answers from the Parquet parts, never a whole table in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

import duckdb

from spanishgas.errors import LakeError, SpanishGasError
from spanishgas.lake import Lake, Snapshot
from spanishgas.settings import settings

SCORE = "spanishgas score"
"""What fills scores and recommendations."""
BEHIND = "silver_customer"
"""The table that every gold table is built from that was not adopted."""


class NothingYet(SpanishGasError):
    """There is nothing to show because a stage has not run."""

    @classmethod
    def of(cls, what: str, command: str) -> NothingYet:
        """`what` is not there, and `command` makes it."""
        return cls(f"{what}: run `{command}` (or `make run` for the whole chain), then load this page again")


@dataclass(frozen=True)
class ScoredCustomers:
    """The scores of one as-of date, what was recommended from them, and the gold table that they were made from."""

    scores: Snapshot
    recommendations: Snapshot
    gold: Snapshot

    @property
    def tables(self) -> dict[str, Snapshot]:
        """The three under their names in SQL."""
        return {"scores": self.scores, "recommendations": self.recommendations, "gold_master": self.gold}

    def known(self, *columns: str) -> list[str]:
        """Those of the columns that this gold table has: one that was adopted knows no segment, channel or renewal."""
        return [name for name in columns if name in self.gold.manifest.columns]

    @property
    def adopted(self) -> bool:
        """Whether the gold table was adopted, so that nothing lies behind it."""
        return BEHIND not in self.gold.manifest.built_from


def adopted(lake: Lake) -> bool:
    """Whether the newest gold table was adopted; not so where there is none yet."""
    return bool(lake.dates("gold_master")) and BEHIND not in lake.current("gold_master").manifest.built_from


def scores(lake: Lake, as_of: date | None = None) -> Snapshot:
    """The scores of `as_of`, the newest if None; `NothingYet` without any."""
    dates = lake.dates("scores")
    if not dates:
        raise NothingYet.of(f"{lake.root} holds no scores", SCORE)
    return lake.current("scores", as_of)


def scored(lake: Lake, as_of: date | None = None) -> ScoredCustomers:
    """The scores of `as_of` (the newest if None) with their recommendations and gold table.

    `NothingYet` where recommendations are missing or were made from other scores; LakeError where gold is gone.
    """
    newest = scores(lake, as_of)
    day, digest = newest.manifest.as_of, newest.manifest.digest
    recommended = lake.find("recommendations", day)
    if recommended is None or recommended.manifest.built_from.get("scores") != digest:
        raise NothingYet.of(f"{lake.root} holds no recommendations for the scores of {day}", SCORE)
    return ScoredCustomers(
        newest, recommended, lake.by_digest(newest.manifest.built_from["gold_master"], "gold_master")
    )


def ask(
    tables: Mapping[str, Snapshot], sql: str, values: Mapping[str, object] = MappingProxyType({})
) -> duckdb.DuckDBPyConnection:
    """One question over `tables`, to be fetched as a frame or an Arrow table; `values` are what $name stands for."""
    threads = settings().threads
    connection = duckdb.connect(config={"threads": threads} if threads else {})
    try:
        for name, snapshot in tables.items():
            parts = [str(snapshot.folder / part) for part in snapshot.manifest.parts]
            connection.read_parquet(parts).create_view(name)
        return connection.execute(sql, dict(values))
    except duckdb.IOException as fault:
        raise LakeError(f"a part of {', '.join(tables)} cannot be read ({fault}): build it again") from fault
