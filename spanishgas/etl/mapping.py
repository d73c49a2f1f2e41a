"""A utility's own file and column names, told in one YAML file, per table: our name on the left, theirs on the right.

customer_attributes:
  file: clientes.csv
  columns: {customer_id: ID_CLIENTE, contracted_power_kw: POTENCIA}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from spanishgas.config.reading import UniqueKeys
from spanishgas.contracts import contract
from spanishgas.errors import UsageError
from spanishgas.lake import RAW_FILES

MAPPING = "mapping.yaml"


class Renamed(BaseModel):
    """What one table is called in the utility's files."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    file: str | None = None
    """Name in the raw folder; its ending says how it is read."""
    columns: Mapping[str, str] = {}
    """Their header by our column; a column that is not named here has our name."""


def read_mapping(path: Path) -> dict[str, Renamed]:
    """Read a mapping strictly; `UsageError` names the file, and the table, key or column that is wrong."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=UniqueKeys)
    except FileNotFoundError as fault:
        raise UsageError(f"mapping '{path}' does not exist: give --mapping a YAML file") from fault
    except (OSError, ValueError, yaml.YAMLError) as fault:
        raise UsageError(f"mapping '{path}' is not YAML that can be read: {fault}") from fault
    if not isinstance(content, dict):
        raise UsageError(f"mapping '{path}' must name tables, such as customer_attributes: {{columns: ...}}")
    return {str(table): _renamed(path, str(table), entry) for table, entry in content.items()}


def _renamed(path: Path, table: str, entry: object) -> Renamed:
    if table not in RAW_FILES:
        raise UsageError.unknown(f"table in {path}:", table, RAW_FILES)
    for key in entry if isinstance(entry, dict) else ():
        if key not in Renamed.model_fields:
            raise UsageError.unknown(f"key of {table} in {path}:", str(key), Renamed.model_fields)
    try:
        renamed = TypeAdapter(Renamed).validate_python(entry)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in (table, *first["loc"]))
        raise UsageError(f"{path}: {where}: {first['msg']}") from fault
    for column in renamed.columns:
        if column not in contract(table).fields:
            raise UsageError.unknown(f"column of {table} in {path}:", column, contract(table).fields)
    if renamed.file is not None and _leaves_the_folder(renamed.file):
        raise UsageError(f"{path}: {table}.file must lie in the raw folder, but got '{renamed.file}'")
    return renamed


def _leaves_the_folder(name: str) -> bool:
    place = PurePosixPath(name)
    return not place.parts or place.is_absolute() or ".." in place.parts
