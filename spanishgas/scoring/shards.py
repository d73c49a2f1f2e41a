"""Gold in parts, each one request: the model's inputs of some rows, encoded, and never larger than a payload may be.

Parts are cut in the table's order, one in memory at a time, so scoring needs no more memory for more customers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from spanishgas.errors import UsageError
from spanishgas.lake import Snapshot
from spanishgas.scoring.payload import Media, write

SUFFIX = {Media.PARQUET: "parquet", Media.CSV: "csv", Media.JSON: "json"}


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
        for rows in slices(self.table, self.columns, self.rows):
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


def slices(table: Snapshot, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """`rows` rows of a table at a time in its order, the last time fewer; one table without rows if it has none."""
    data = table.dataset()
    held = data.schema.empty_table().select(list(columns))
    none_yet = True
    for batch in data.to_batches(
        columns=list(columns), batch_size=rows, batch_readahead=1, fragment_readahead=1
    ):
        held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        while held.num_rows >= rows:
            yield held.slice(0, rows).combine_chunks()
            held, none_yet = held.slice(rows), False
    if held.num_rows or none_yet:
        yield held.combine_chunks()
