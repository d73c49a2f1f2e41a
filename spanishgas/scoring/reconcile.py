"""Answers held against the parts they answer: every customer once, in order, none added, none lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa

from spanishgas.scoring.payload import ID, Media, Refused, read
from spanishgas.scoring.shards import Shards, slices
from spanishgas.scoring.transform import TransformError
from spanishgas.training.model import FLAG, PROBABILITY, TIER

ANSWER = {ID: pa.string(), PROBABILITY: pa.float64(), FLAG: pa.float64(), TIER: pa.string()}


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
        sent = Rows(slices(self.shards.table, [ID, *self.beside], self.shards.rows))
        for number, body in enumerate(answers):
            asked = sent.take(self.shards.cut[number])
            name = f"part {number}"
            found = _answer(body, self.shards.media, name)
            _same(asked[ID], found[ID], name)
            self.rows += len(found)
            self.parts.append(
                {"part": number, "rows": len(found), "sha256": hashlib.sha256(body).hexdigest()}
            )
            yield found, asked
        if len(self.parts) != len(self.shards.cut) or self.rows != self.shards.table.manifest.rows:
            raise TransformError(
                f"{self.rows:,} rows in {len(self.parts)} parts came back of {self.shards.table.manifest.rows:,} in "
                f"{len(self.shards.cut)}: nothing was published"
            )


class Rows:
    """Rows of a sequence of tables, a given number at a time."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._held: pa.Table | None = None

    def take(self, count: int) -> pd.DataFrame:
        """The next `count` rows; fewer where no more are left."""
        while self._held is None or self._held.num_rows < count:
            following = next(self._tables, None)
            if following is None:
                break
            self._held = following if self._held is None else pa.concat_tables([self._held, following])
        if self._held is None:
            raise TransformError("more parts came back than were sent: nothing was published")
        taken, self._held = self._held.slice(0, count), self._held.slice(count)
        frame: pd.DataFrame = taken.to_pandas()
        return frame


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


def _same(asked: pd.Series, found: pd.Series, name: str) -> None:
    if len(asked) == len(found) and (asked.to_numpy() == found.to_numpy()).all():
        return
    lost, added = len(set(asked) - set(found)), len(set(found) - set(asked))
    twice = int(found.duplicated().sum())
    raise TransformError(
        f"the answer to {name} has {len(found)} rows for {len(asked)} customers: {lost} lost, {added} added, {twice} "
        "repeated or out of order. Nothing was published"
    )
