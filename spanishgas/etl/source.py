"""Open one raw extract: find its seven files, and read the six small ones as text, before anything is typed.

Extra and reordered columns, a byte-order mark and CRLF make no difference.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from spanishgas import contracts
from spanishgas.errors import ContractError, UsageError
from spanishgas.lake import RAW_FILES, file_digest

HOURS = "consumption_hourly_2024"
MEND = "Mend the file in the raw folder and run again; nothing was published."


@dataclass(frozen=True)
class Source:
    """One raw extract: the folder, and what was found in it."""

    folder: Path
    found: Mapping[str, Path]
    """By table the file (for the hours also a folder of parts) that holds it; tables without a file are left out."""

    def file(self, table: str) -> Path:
        """The table's file, or where it should lie."""
        return self.found.get(table, self.folder / RAW_FILES[table])

    def present(self, table: str) -> Path:
        """The table's file; `ContractError` if there is none."""
        if table not in self.found:
            way_out = f"Put it into {self.folder} and run again."
            raise ContractError.broken(self.file(table).name, ["the file is missing"], way_out)
        return self.found[table]

    def digests(self) -> dict[str, str]:
        """Digest of each raw file that is there, by `raw/<table>`."""
        return {f"raw/{table}": file_digest(file) for table, file in self.found.items()}

    def text(self, table: str) -> pa.Table:
        """The declared columns of a small table as text, an empty text as null; a missing label file has no rows.

        Raises `ContractError` for a file or column that is missing, and for a file that cannot be read.
        """
        columns = list(contracts.contract(table).fields)
        if table == "churn_label" and table not in self.found:
            return pa.table({column: pa.array([], pa.string()) for column in columns})
        file = self.present(table)
        try:
            return _json(file, columns) if file.suffix == ".json" else _csv(file, columns)
        except (OSError, ValueError, csv.Error) as fault:
            words = f"cannot be read: {str(fault).splitlines()[0]}"
            raise ContractError.broken(file.name, [words], MEND) from fault


def open_source(raw: Path | str) -> Source:
    """The extract in the folder `raw`; `UsageError` if there is no such folder."""
    folder = Path(raw)
    if not folder.is_dir():
        raise UsageError(f"raw folder '{raw}' does not exist: give the folder that holds the seven raw files")
    files = {table: _file(folder, table) for table in RAW_FILES}
    return Source(folder, {table: file for table, file in files.items() if file.exists()})


def _file(folder: Path, table: str) -> Path:
    file = folder / RAW_FILES[table]
    parts = file.with_suffix("")
    return parts if table == HOURS and not file.exists() and parts.is_dir() else file


def _csv(file: Path, columns: list[str]) -> pa.Table:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        header = next(csv.reader(stream), [])
    _check_header(file, [name.strip() for name in header], columns)
    return pa_csv.read_csv(
        file,
        read_options=pa_csv.ReadOptions(column_names=[name.strip() for name in header], skip_rows=1),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            include_columns=columns,
            column_types={column: pa.string() for column in columns},
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _check_header(file: Path, header: list[str], columns: list[str]) -> None:
    faults = [f"missing column '{column}'" for column in columns if column not in header]
    faults += [
        f"column '{column}' stands {header.count(column)} times"
        for column in columns
        if header.count(column) > 1
    ]
    if faults:
        raise ContractError.broken(
            file.name, faults, f"Its columns are {', '.join(header) or 'none'}. {MEND}"
        )


def _json(file: Path, columns: list[str]) -> pa.Table:
    records = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError("expected a list of records, [{...}, ...]")
    if records:
        _check_header(file, list(dict.fromkeys(key for record in records for key in record)), columns)
    for column in columns:
        _check_texts(file, column, [record.get(column) for record in records])
    # As in the CSV files, an empty text is no value.
    return pa.table(
        {c: pa.array([record.get(c) or None for record in records], pa.string()) for c in columns}
    )


def _check_texts(file: Path, column: str, values: list[object]) -> None:
    odd = [value for value in values if value is not None and not isinstance(value, str)]
    if odd:
        fault = f"{len(odd)} rows in column '{column}' are not text, for example {json.dumps(odd[0])[:80]}"
        raise ContractError.broken(file.name, [fault], MEND)
