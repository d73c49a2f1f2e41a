"""Gold scored in parts, wherever that happens: cut into requests, sent, and the answers held against what was sent.

- A part is the model's inputs of some rows, encoded, and never larger than a payload may be. Parts are cut in the
  table's order, one in memory at a time, so scoring needs no more memory for more customers.
- Every customer comes back once, in order: none added, none lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, repeat
from pathlib import Path
from typing import Protocol

import pandas as pd
import pyarrow as pa

from spanishgas.errors import SpanishGasError, UsageError
from spanishgas.lake import Snapshot
from spanishgas.scoring.payload import ID, Media, Refused, read, write
from spanishgas.scoring.settings import Transform
from spanishgas.training.model import FLAG, PROBABILITY, TIER

Progress = Callable[[str, int, int], None]
SUFFIX = {Media.PARQUET: "parquet", Media.CSV: "csv", Media.JSON: "json"}
ANSWER = {ID: pa.string(), PROBABILITY: pa.float64(), FLAG: pa.float64(), TIER: pa.string()}


class TransformError(SpanishGasError):
    """A transform failed, was stopped, or lost a part; nothing was published."""


@dataclass(frozen=True)
class Part:
    """A request: its name, its body, and how many rows it holds."""

    name: str
    body: bytes
    rows: int


@dataclass
class Shards:
    """The parts of a table, and `cut`: the rows of each, once they were iterated over.

    A table without rows has one part without rows, so that the model answers for it too.
    """

    table: Snapshot
    columns: Sequence[str]
    media: Media
    rows: int
    payload: int
    cut: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[Part]:
        """The parts in the table's order; the same table and limits give the same parts."""
        self.cut = []
        for rows in slices(self.table, self.columns, self.rows, repeat(self.rows)):
            for part, body in self._fitting(rows):
                self.cut.append(part.num_rows)
                yield Part(f"part-{len(self.cut) - 1:05d}.{SUFFIX[self.media]}", body, part.num_rows)

    def _fitting(self, rows: pa.Table) -> Iterator[tuple[pa.Table, bytes]]:
        body = write(rows, self.media)
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


def slices(table: Snapshot, columns: Sequence[str], most: int, sizes: Iterable[int]) -> Iterator[pa.Table]:
    """Rows of a table in its order, as many at a time as `sizes` says, the last time fewer; at least one table.

    `most` rows are read at a time.
    """
    data = table.dataset()
    held = data.schema.empty_table().select(list(columns))
    batches = data.to_batches(columns=list(columns), batch_size=most, batch_readahead=1, fragment_readahead=1)
    for number, size in enumerate(sizes):
        while held.num_rows < size and (batch := next(batches, None)) is not None:
            held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        if number and not held.num_rows:
            return
        yield held.slice(0, size).combine_chunks()
        held = held.slice(size)


@dataclass(frozen=True)
class Task:
    """One scoring of a table by a model, in parts."""

    model_dir: Path
    """Folder of the model's artefact."""
    model: str
    """Name of the registered model."""
    version: str
    gold_digest: str
    rows: int
    shards: Shards
    tags: Mapping[str, str]
    model_sha256: str = ""
    """SHA-256 of the model file, as it was judged; the serving process then takes no other."""

    def environment(self, given: Transform, workers: int) -> dict[str, str]:
        """What the serving process must be told to take the parts, and to serve this model alone."""
        return {
            "SPANISHGAS_SERVE_WORKERS": str(workers),
            "SPANISHGAS_SERVE_PAYLOAD_MB": str(given.payload_mb),
            "SPANISHGAS_SERVE_MAX_ROWS": str(given.part_rows),
            **({"SPANISHGAS_SERVE_MODEL_SHA256": self.model_sha256} if self.model_sha256 else {}),
        }


class Backend(Protocol):
    """Where parts are scored."""

    def answers(self, task: Task, progress: Progress) -> Iterator[bytes]:
        """The answer to each part of the task in order, as Parquet or CSV; TransformError where one is missing."""
        ...

    def clean_up(self, task: Task) -> None:
        """Remove what only this task needed, as the policy says; called once the scores are published."""
        ...


@dataclass
class Reconciled:
    """Answers as tables beside the rows they are about, with an account of both as they are read."""

    shards: Shards
    beside: list[str]
    """Columns of the scored table that come along with each answer."""
    rows: int = 0
    parts: list[dict[str, object]] = field(default_factory=list)

    def pairs(self, answers: Iterable[bytes]) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
        """For each part: the answer's rows, and `beside` of the same customers in the same order.

        TransformError names the part whose customers differ from those that were sent, without naming one.
        """
        table, cut = self.shards.table, self.shards
        # Answers may come while parts are still being cut.
        sent = slices(table, [ID, *self.beside], cut.rows, (cut.cut[part] for part in count()))
        for number, body in enumerate(answers):
            if number == len(cut.cut):
                raise TransformError("more parts came back than were sent: nothing was published")
            asked = next(sent).to_pandas()
            name = f"part {number}"
            answer = _answer(body, cut.media, name)
            _same(asked[ID], answer[ID], name)
            self.rows += len(answer)
            self.parts.append(
                {"part": number, "rows": len(answer), "sha256": hashlib.sha256(body).hexdigest()}
            )
            yield answer, asked
        if len(self.parts) != len(self.shards.cut) or self.rows != table.manifest.rows:
            raise TransformError(
                f"{self.rows:,} rows in {len(self.parts)} parts came back of {table.manifest.rows:,} in "
                f"{len(cut.cut)}: nothing was published"
            )


def _answer(body: bytes, media: Media, name: str) -> pd.DataFrame:
    try:
        frame = read(body, media, ANSWER, 10**9)
    except Refused as fault:
        raise TransformError(
            f"the answer to {name} cannot be read ({fault}): nothing was published"
        ) from fault
    if frame[[PROBABILITY, FLAG, TIER]].isna().any(axis=None):
        raise TransformError(f"the answer to {name} has rows without a score: nothing was published")
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
