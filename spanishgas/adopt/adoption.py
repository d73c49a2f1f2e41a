"""A table taken in as gold: the first time with a proposed experiments folder, later by the folder that is there.

table -> columns, target -> proposal -> gold rows under its contract -> folder put in place -> gold published
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spanishgas import provenance
from spanishgas.adopt.gold import gold_rows
from spanishgas.adopt.proposal import Proposal, propose, write_folder
from spanishgas.adopt.reading import digest, read_table
from spanishgas.adopt.target import read_target, strengths
from spanishgas.config.adopted import TableMap, read_map
from spanishgas.config.tiers import Tiers, read_tiers
from spanishgas.errors import UsageError
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import runs
from spanishgas.lifetime import temporary_folder
from spanishgas.stages import Stage, unkeyed


@dataclass(frozen=True)
class Adopted:
    """What a table became."""

    folder: Path
    fresh: bool
    """Whether the folder was proposed now."""
    columns: TableMap
    gold: Snapshot
    strength: pd.Series
    """How far features alone tell who left; empty where the folder was there already."""
    churners: int
    labelled: int
    repeated: int
    """Customers whose every value another one has too."""


@dataclass(frozen=True)
class AdoptInputs:
    """What gold of an adopted table depends on."""

    source: str
    """SHA-256 of the table's file."""
    columns: TableMap
    tiers: Tiers
    as_of: date
    rows: pd.DataFrame = unkeyed("follows from the file, by the map and the dictionary")


ADOPT = Stage[AdoptInputs]("adopt", (__name__, "spanishgas.adopt.gold"))


@dataclass(frozen=True)
class Roles:
    """What the caller says of a table's columns."""

    id: str
    target: str | None = None
    positive: str | None = None
    """The label of those who left."""
    value: str | None = None
    groups: Mapping[str, Sequence[str]] | None = None
    without: Sequence[str] = ()


def adopt(path: Path, roles: Roles, as_of: date, folder: Path, *, lake: Lake) -> Adopted:
    """Publish the table in `path` as gold; everything is checked before anything is written.

    - Without `folder`, one is proposed, for which a target is needed.
    - With it, the table is read as its table.yaml says and must keep the contract of its tiers.yaml; one without the
      target column is a table to be scored.
    - UsageError for options and file, DataError and ContractError for what the table holds.
    """
    table = read_table(path, roles.id)
    strength, made = pd.Series(dtype="float64"), None
    if folder.exists():
        columns, tiers = read_map(folder), read_tiers(folder / "tiers.yaml")
        if columns.id != roles.id:
            raise UsageError(
                f"{folder} has '{columns.id}' for its id, but --id is '{roles.id}': name that one"
            )
        rows = gold_rows(table, columns, tiers.rules(), as_of)
    else:
        made = _proposal(table, roles, folder)
        columns, tiers = made.columns, made.tiers
        rows = gold_rows(table, columns, tiers.rules(), as_of)
        strength = strengths(rows, made.entries, {f: c.column for f, c in columns.columns.items()})
    published = _publish(path, AdoptInputs(digest(path), columns, tiers.rules(), as_of, rows), lake)
    if made:
        _put(folder, made, strength)
    inputs = rows.drop(columns=["customer_id", "churn"])
    return Adopted(
        folder,
        made is not None,
        columns,
        published,
        strength,
        int(rows["churn"].sum()),
        int(rows["churn"].notna().sum()),
        int(inputs.duplicated().sum()),
    )


def _proposal(table: pd.DataFrame, roles: Roles, folder: Path) -> Proposal:
    if not roles.target:
        raise UsageError(
            f"{folder} is not there yet, and to propose it takes --target, the column that says who left"
        )
    if roles.target not in table:
        raise UsageError.unknown("column for --target", roles.target, table.columns)
    target = read_target(table[roles.target], roles.target, roles.positive)
    return propose(table, (roles.id, target, roles.value), roles.groups or {}, roles.without)


def _put(folder: Path, proposal: Proposal, strength: pd.Series) -> None:
    """The folder whole, or not at all."""
    import shutil

    with temporary_folder() as work:
        write_folder(work / folder.name, proposal, strength)
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(work / folder.name, part)
        part.rename(folder)


def _publish(path: Path, inputs: AdoptInputs, lake: Lake) -> Snapshot:
    rows, key = inputs.rows, ADOPT.key(inputs)
    if (there := lake.made("gold_master", inputs.as_of, key)) is not None:
        return there

    def write(part: Path) -> None:
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), part / "part-0.parquet")

    params = {"table": path.name, "as_of": inputs.as_of}
    with runs.stage("adopt", f"adopt {path.name} as of {inputs.as_of}", params=params) as run:
        with lake.building(inputs.as_of):
            published = lake.publish(
                "gold_master",
                inputs.as_of,
                write,
                built_from={path.name: inputs.source},
                fingerprint=key,
                code=provenance.identity(ADOPT.source),
                run_id=run.run_id,
            )
        run.log(
            metrics={"adopt.rows": len(rows), "adopt.features": len(inputs.columns.columns)},
            tags={"gold_master": published.uri, "table.sha256": inputs.source},
        )
    return published
