"""Write the seven raw files empty, with a README of their columns read off the contracts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spanishgas.contracts import contract
from spanishgas.contracts.fields import Field, Kind
from spanishgas.errors import UsageError
from spanishgas.raw_files import CONTACTS, HOURS, RAW_FILES


def write_template(folder: Path) -> None:
    """Write the files into a folder that is new or empty; `UsageError` for any other."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' is not an empty folder: name a new one for the template")
    folder.mkdir(parents=True, exist_ok=True)
    for table, name in RAW_FILES.items():
        columns = contract(table).every
        if table == HOURS:
            kinds = {Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string()}
            schema = [(column, kinds.get(f.kind, pa.timestamp("us"))) for column, f in columns.items()]
            pq.ParquetWriter(folder / name, pa.schema(schema)).close()
        else:
            (folder / name).write_text("[]\n" if table == CONTACTS else ",".join(columns) + "\n")
    (folder / "README.md").write_text("\n".join(_readme()) + "\n", encoding="utf-8")


def _readme() -> Iterator[str]:
    yield "# The seven raw files\n\nColumns may stand in any order, and others beside them."
    for table, name in RAW_FILES.items():
        yield f"\n## {name}\n{contract(table).meaning}\n\n| column | meaning | value |\n|---|---|---|"
        for column, field in contract(table).every.items():
            yield f"| {column} | {field.meaning} | {_value(field)} |"


def _value(field: Field) -> str:
    words = [field.kind.words]
    if field.bounds != (None, None) and field.kind is not Kind.FLAG:
        words.append(field.limits)
    if field.values:
        words.append(f"one of {', '.join(field.values)}")
    return ", ".join([*words, "needed" if field.required else "may be empty"])
