"""A utility's own file and column names, told in one YAML file, per table: our name on the left, theirs on the right.

customer_attributes:
  file: clientes.csv
  columns: {customer_id: ID_CLIENTE, contracted_power_kw: POTENCIA}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Self

from pydantic import ConfigDict, RootModel, model_validator

from spanishgas.config.reading import Strict, Text, fault, member, read, unique
from spanishgas.contracts import contract
from spanishgas.errors import UsageError
from spanishgas.raw_files import RAW_FILES


class Renamed(Strict):
    """What one table is called in the utility's files."""

    file: Text | None = None
    """Name in the raw folder; its ending says how it is read."""
    columns: Mapping[str, Text] = {}
    """Their header by our column; a column that is not named here has our name."""


class Renaming(RootModel[dict[str, Renamed]]):
    """What each table is called; every table and column is one that the project reads."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="after")
    def _names_what_is_read(self) -> Self:
        for table, renamed in self.root.items():
            member(table, "table", table, RAW_FILES)
            fields = contract(table).fields
            for column in renamed.columns:
                member(f"{table}.columns.{column}", f"column of {table}", column, fields)
            headers = [renamed.columns.get(column, column) for column in fields]
            if len(set(headers)) < len(headers):
                raise fault(f"{table}.columns", "must name a header once", headers)
            if renamed.file is not None and _leaves_the_folder(renamed.file):
                raise fault(f"{table}.file", "must lie in the raw folder", renamed.file)
        unique([renamed.file for renamed in self.root.values() if renamed.file])
        return self


def read_mapping(path: Path) -> dict[str, Renamed]:
    """Read a mapping strictly; `UsageError` names the file, and the table, key or column that is wrong."""
    if not path.is_file():
        raise UsageError(f"mapping '{path}' does not exist: give --mapping a YAML file")
    return read(path, Renaming, "it must name tables").root


def named_files(renamed: Mapping[str, Renamed]) -> dict[str, str]:
    """File name by table, where the mapping gives one."""
    return {table: names.file for table, names in renamed.items() if names.file}


def _leaves_the_folder(name: str) -> bool:
    place = PurePosixPath(name)
    return not place.parts or place.is_absolute() or ".." in place.parts
