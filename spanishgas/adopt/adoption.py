"""A table taken in as gold: the first time with a proposed experiments folder, later by the folder that is there.

table -> columns, target -> proposal -> gold rows under its contract -> gold published -> folder put in place
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spanishgas import provenance
from spanishgas.adopt.gold import gold_rows
from spanishgas.adopt.proposal import Roles, propose, write_folder
from spanishgas.adopt.reading import read_table
from spanishgas.adopt.target import strengths
from spanishgas.config.adopted import TableMap, read_map
from spanishgas.config.tiers import Tiers, read_tiers
from spanishgas.errors import UsageError
from spanishgas.lake import Lake, Snapshot, location
from spanishgas.lifecycle import runs
from spanishgas.stages import Stage, unkeyed


class Adopted(NamedTuple):
    """What a table became; `strength`, how far each feature alone tells who left, is None with a folder of before."""

    folder: Path
    columns: TableMap
    gold: Snapshot
    rows: pd.DataFrame
    strength: pd.Series | None


@dataclass(frozen=True)
class AdoptInputs:
    """What gold of an adopted table depends on; `source` is the SHA-256 of its file."""

    source: str
    columns: TableMap
    tiers: Tiers
    as_of: date
    rows: pd.DataFrame = unkeyed("follows from the file, by the map and the dictionary")


ADOPT = Stage[AdoptInputs]("adopt", (__name__, "spanishgas.adopt.gold"))


def adopt(path: Path, roles: Roles, as_of: date, folder: Path, *, lake: Lake) -> Adopted:
    """Publish the table in `path` as gold; everything is checked before anything is written.

    - Without `folder`, one is proposed, for which a target is needed.
    - With it, the table is read as its table.yaml says and must keep the contract of its tiers.yaml; one without the
      target column is a table to be scored.
    - UsageError for options and file, DataError and ContractError for what the table holds.
    """
    table, there = read_table(path, roles.id), folder.exists()
    if there:
        columns, tiers = read_map(folder), read_tiers(folder / "tiers.yaml")
    else:
        columns, tiers = propose(table, roles)
    if columns.id != roles.id:
        raise UsageError(f"{folder} has '{columns.id}' for its id, but --id is '{roles.id}': name that one")
    rows = gold_rows(table, columns, tiers.rules(), as_of)
    source = hashlib.sha256(path.read_bytes()).hexdigest()
    strength = None if there else strengths(rows, tiers, columns)
    gold = _publish(path.name, AdoptInputs(source, columns, tiers.rules(), as_of, rows), lake)
    if strength is not None:
        write_folder(folder, columns, tiers, strength)
    return Adopted(folder, columns, gold, rows, strength)


def _publish(name: str, inputs: AdoptInputs, lake: Lake) -> Snapshot:
    rows, key, as_of = inputs.rows, ADOPT.key(inputs), inputs.as_of
    if (there := lake.made("gold_master", as_of, key)) is not None:
        return there

    def write(part: Path) -> None:
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), part / "part-0.parquet")

    params, tags = {"table": name, "as_of": as_of}, {runs.LAKE: location(lake.root)}
    with (
        runs.stage("adopt", f"adopt {name} as of {as_of}", params=params, tags=tags) as run,
        lake.building(as_of),
    ):
        published = lake.publish(
            "gold_master",
            as_of,
            write,
            built_from={name: inputs.source},
            fingerprint=key,
            code=provenance.identity(ADOPT.source),
            run_id=run.run_id,
        )
        counts = {"adopt.rows": len(rows), "adopt.features": len(inputs.columns.columns)}
        run.log(metrics=counts, tags={"gold_master": published.uri, "table.sha256": inputs.source})
    return published
