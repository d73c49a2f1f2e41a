"""A utility's own files, told in one YAML file, per table: our name on the left, theirs on the right.

customer_attributes:
  file: clientes.csv
  columns: {customer_id: ID_CLIENTE, contracted_power_kw: POTENCIA}
  decimal: ","

The keys of a format stand beside file and columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pydantic import ConfigDict, RootModel, model_validator

from spanishgas.config.reading import Text, fault, member, packaged, read, unique
from spanishgas.contracts import contract
from spanishgas.errors import UsageError
from spanishgas.etl.formats import Format
from spanishgas.raw_files import RAW_FILES

PRESETS: Mapping[str, dict[str, Any]] = packaged(__file__)


class Renamed(Format):
    """What one table is called in the utility's files, and how its values are written."""

    file: Text | None = None
    """Name in the raw folder; its ending says how it is read."""
    columns: Mapping[str, Text | None] = {}
    """Their header by our column; a column that is not named here has our name, and one with null is not there."""

    preset: Text | None = None
    """A layout of hours that many share, whose keys are added to those that stand beside it."""

    __hash__ = Format.__hash__

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, content: object) -> object:
        """The content with what its preset says where it says nothing itself, by column for columns."""
        if not isinstance(content, dict) or not isinstance(name := content.get("preset"), str):
            return content
        member("preset", "preset", name, PRESETS)
        columns = {**PRESETS[name]["columns"], **content.get("columns", {})}
        return {**PRESETS[name], **content, "columns": columns}

    def theirs(self, table: str) -> dict[str, str]:
        """The columns of a table that its file has, each with its header; those told by day have none of their own."""
        names = {column: self.columns.get(column, column) for column in contract(table).every}
        readings = self.spread if self.wide else {}
        return {ours: name for ours, name in names.items() if name is not None and ours not in readings}


class Renaming(RootModel[dict[str, Renamed]]):
    """What each table is called; every table and column is one that the project reads."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="after")
    def _names_what_is_read(self) -> Self:
        for table, renamed in self.root.items():
            member(table, "table", table, RAW_FILES)
            fields = contract(table).every
            for column in renamed.columns:
                member(f"{table}.columns.{column}", f"column of {table}", column, fields)
                if renamed.columns[column] is None and fields[column].required:
                    raise fault(f"{table}.columns.{column}", "must be there: rows need it", None)
            renamed.check(table)
            headers = list(renamed.theirs(table).values())
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
