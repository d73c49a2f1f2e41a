"""A stage as an MLflow run: what stands under its key is taken, else its work runs and publishes under that key."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from spanishgas import provenance
from spanishgas.contracts import check, typed
from spanishgas.lake import Lake, Snapshot, location
from spanishgas.lifecycle import runs
from spanishgas.lifecycle.runs import M, StageRun
from spanishgas.lifecycle.version import Version
from spanishgas.stages import Stage

if TYPE_CHECKING:
    import pandas as pd

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
KEY = "fingerprint"
"""Tag of a run, and of a version, that holds the key of what it was made from."""


@dataclass(frozen=True)
class Work(StageRun):
    """The open run of a stage's work, and how the work publishes: under its key, from its inputs."""

    key: str
    source: str
    built_from: Mapping[str, str]

    def publish(self, lake: Lake, table: str, as_of: date, write: Callable[[Path], None]) -> Snapshot:
        """Publish what `write` puts into a folder as the current snapshot of `table`."""
        return lake.publish(
            table,
            as_of,
            write,
            built_from=self.built_from,
            fingerprint=self.key,
            code=provenance.identity(self.source),
            run_id=self.run_id,
        )

    def publish_rows(self, lake: Lake, table: str, as_of: date, rows: pd.DataFrame) -> Snapshot:
        """Publish the columns of `rows` that the contract of `table` names; `ContractError` where they break it."""
        import ibis
        import pyarrow.parquet as pq

        content = typed(table, rows)
        check(table, ibis.memtable(content))
        return self.publish(
            lake, table, as_of, lambda folder: pq.write_table(content, folder / "part-0.parquet")
        )


def through(
    stage: Stage[I],
    inputs: I,
    work: Callable[[Work, I], R],
    *,
    title: str,
    recall: Callable[[str], R | None] = lambda key: None,
    params: Mapping[str, object] = MappingProxyType({}),
    tags: Mapping[str, object] = MappingProxyType({}),
) -> R:
    """What `recall` has of these inputs, else what `work` makes of them, in a run of its own.

    The run logs every snapshot among the inputs under its field's name, also those of a tuple of records, such as
    earlier campaigns; what is published names them as its sources, the latter with their day. `work` is a plain
    function: one that brings values of its own along would compute with what is in no key, and is refused.
    """
    if getattr(work, "__closure__", None):
        raise TypeError(f"the work of {stage.name} is a closure: pass what it needs among its inputs")
    key = stage.key(inputs)
    if (earlier := recall(key)) is not None:
        # The run of a process that was killed after it had published is open still.
        runs.end_killed()
        return earlier
    fields = {f.name: getattr(inputs, f.name) for f in dataclasses.fields(inputs)}  # type: ignore[arg-type]
    snapshots = {name: s for name, s in fields.items() if isinstance(s, Snapshot)}
    versions = {v.name: v.number for v in fields.values() if isinstance(v, Version)}
    listed = [(name, one) for name, many in fields.items() if isinstance(many, tuple) for one in many]
    records = [(name, vars(one)) for name, one in listed if dataclasses.is_dataclass(one)]
    beside = [(name, s) for name, record in records for s in record.values() if isinstance(s, Snapshot)]
    built_from = {f"{s.manifest.table} {s.manifest.as_of}": s.manifest.digest for _, s in beside}
    built_from |= {s.manifest.table: s.manifest.digest for s in snapshots.values()} | versions
    lakes = [location(v.store.root) for v in fields.values() if isinstance(v, Lake | Snapshot)]
    tags = {**tags, KEY: key, **({runs.LAKE: lakes[0]} if lakes else {})}
    with runs.stage(stage.name, title, params=params, tags=tags) as run:
        for (name, _), snapshot in {(name, s.uri): s for name, s in [*snapshots.items(), *beside]}.items():
            run.read(snapshot, name)
        opened = Work(run.run_id, run.experiment_id, key, stage.source, built_from)
        with stage.working():
            return work(opened, inputs)


def earlier(stage: Stage[Any], key: str) -> str | None:
    """The newest finished run of the stage under this key."""
    same = runs.find({"stage": stage.name, KEY: key})
    return str(same[0].info.run_id) if same else None


def recorded(stage: Stage[Any], key: str, kind: type[M], path: str) -> M | None:
    """The document `path` of the newest finished run of the stage under this key, as `kind`."""
    run_id = earlier(stage, key)
    return runs.record(kind, run_id, path) if run_id else None
