"""Gold scored in parts, wherever that happens: cut into requests, sent, and the answers held against what was sent.

- A part is the model's inputs of some rows, encoded, and never larger than a payload may be. Parts are cut in the
  table's order, one in memory at a time, so scoring needs no more memory for more customers.
- Every customer comes back once, in order: none added, none lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd
import pyarrow as pa

from spanishgas import provenance
from spanishgas.errors import SpanishGasError, UsageError
from spanishgas.lake import Snapshot
from spanishgas.lifecycle.version import Version
from spanishgas.scoring.payload import ID, Media, Refused, read, write
from spanishgas.scoring.settings import Transform
from spanishgas.training import artefact
from spanishgas.training.model import FLAG, PROBABILITY, TIER

Progress = Callable[[str, int, int], None]
SUFFIX = {Media.PARQUET: "parquet", Media.CSV: "csv", Media.JSON: "json"}
ANSWER = {ID: pa.string(), PROBABILITY: pa.float64(), FLAG: pa.float64(), TIER: pa.string()}


class TransformError(SpanishGasError):
    """A transform failed, was stopped, or lost a part; nothing was published."""


@dataclass(frozen=True)
class Part:
    """A request: its name, its body, and the customers that it asks about."""

    name: str
    media: Media
    body: bytes
    customers: pd.DataFrame
    """`Shards.beside` of each, in the body's order."""


@dataclass(frozen=True)
class Shards:
    """The parts of a table.

    A table without rows has one part without rows, so that the model answers for it too.
    """

    table: Snapshot
    columns: Sequence[str]
    """What is sent."""
    media: Media
    rows: int
    payload: int
    beside: Sequence[str] = (ID,)
    """What is kept here of each customer, the id among it."""

    def __iter__(self) -> Iterator[Part]:
        """The parts in the table's order; the same table and limits give the same parts."""
        bodies = (part for rows in self._slices() for part in self._fitting(rows))
        for number, (rows, body) in enumerate(bodies):
            name = f"part-{number:05d}.{SUFFIX[self.media]}"
            yield Part(name, self.media, body, rows.select(list(self.beside)).to_pandas())

    def _slices(self) -> Iterator[pa.Table]:
        """So many rows at a time, the last time fewer; at least one table."""
        columns, data = list(dict.fromkeys([*self.columns, *self.beside])), self.table.dataset()
        rest = data.schema.empty_table().select(columns)
        for batch in data.to_batches(
            columns=columns, batch_size=self.rows, batch_readahead=1, fragment_readahead=1
        ):
            rest = pa.concat_tables([rest, pa.Table.from_batches([batch])])
            while rest.num_rows > self.rows:
                yield rest.slice(0, self.rows).combine_chunks()
                rest = rest.slice(self.rows)
        yield rest.combine_chunks()

    def _fitting(self, rows: pa.Table) -> Iterator[tuple[pa.Table, bytes]]:
        body = write(rows.select(list(self.columns)), self.media)
        if len(body) <= self.payload:
            yield rows, body
            return
        if rows.num_rows < 2:
            raise UsageError(
                f"a single row takes {len(body):,} bytes, more than the payload of {self.payload:,}: raise "
                "SPANISHGAS_TRANSFORM_PAYLOAD_MB"
            )
        half = rows.num_rows // 2
        yield from self._fitting(rows.slice(0, half))
        yield from self._fitting(rows.slice(half))


@dataclass(frozen=True)
class Task:
    """One scoring of a table by a version, in parts."""

    version: Version
    shards: Shards

    @property
    def model_sha256(self) -> str:
        """SHA-256 of the model file, as it was judged; the serving process takes no other."""
        return self.version.record.manifest.files[artefact.FILE]

    @property
    def tags(self) -> dict[str, str]:
        """Where the scores come from."""
        gold = self.shards.table.manifest
        return {
            "model_version": self.version.number,
            "gold_digest": gold.digest,
            "as_of": gold.as_of.isoformat(),
            "run_id": self.version.run_id,
            "code": provenance.commit(),
        }

    def environment(self, settings: Transform, workers: int) -> dict[str, str]:
        """What the serving process must be told to take the parts, and to serve this model alone."""
        return {
            "SPANISHGAS_SERVE_WORKERS": str(workers),
            "SPANISHGAS_SERVE_PAYLOAD_MB": str(settings.payload_mb),
            "SPANISHGAS_SERVE_MAX_ROWS": str(settings.part_rows),
            "SPANISHGAS_SERVE_MODEL_SHA256": self.model_sha256,
        }


class Backend(Protocol):
    """Where parts are scored."""

    def answers(self, task: Task, progress: Progress) -> Iterator[tuple[Part, bytes]]:
        """Each part in order with its answer, as Parquet or CSV; TransformError where one is missing."""
        ...

    def clean_up(self, task: Task) -> None:
        """Remove what only this task needed, as the policy says; called once the scores are published."""
        ...


def reconciled(
    table: Snapshot, answers: Iterable[tuple[Part, bytes]], curve: Sequence[str] = ()
) -> Iterator[tuple[Part, pd.DataFrame, str]]:
    """Each part of `table` with its answer as a table, row for row of the same customers, and the answer's SHA-256.

    `curve` names the columns that the model adds. TransformError names the part whose customers differ from those that
    were sent, without naming one.
    """
    rows = 0
    for part, body in answers:
        scores = _scores(part, body, curve)
        _same(part.customers[ID], scores[ID], part.name)
        rows += len(scores)
        yield part, scores, hashlib.sha256(body).hexdigest()
    if rows != table.manifest.rows:
        raise TransformError(
            f"{rows:,} rows came back of {table.manifest.rows:,}: a part lacks its answer, so nothing was published"
        )


def _scores(part: Part, body: bytes, curve: Sequence[str]) -> pd.DataFrame:
    try:
        frame = read(body, part.media, ANSWER | dict.fromkeys(curve, pa.float64()), 10**9)
    except Refused as fault:
        raise TransformError(
            f"the answer to {part.name} cannot be read ({fault}): nothing was published"
        ) from fault
    if frame[[PROBABILITY, FLAG, TIER]].isna().any(axis=None):
        raise TransformError(f"the answer to {part.name} has rows without a score: nothing was published")
    return frame.astype({FLAG: "int64"})


def _same(asked: pd.Series, ids: pd.Series, name: str) -> None:
    if len(asked) == len(ids) and (asked.to_numpy() == ids.to_numpy()).all():
        return
    lost, added = len(set(asked) - set(ids)), len(set(ids) - set(asked))
    twice = int(ids.duplicated().sum())
    raise TransformError(
        f"the answer to {name} has {len(ids)} rows for {len(asked)} customers: {lost} lost, {added} added, {twice} "
        "repeated or out of order. Nothing was published"
    )
