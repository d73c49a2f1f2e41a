"""Read the raw files as typed Ibis tables: text first, then a cast that tells which values do not parse.

Extra and reordered columns, a byte-order mark and CRLF make no difference. What stops the run is a `ContractError`
that names file, column, number of rows and an example: a file or column that is missing, a number, flag or key that
does not parse, a value outside its limits, a column of dates most of which do not parse.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.csv as pa_csv

from spanishgas import contracts
from spanishgas.contracts.fields import Field, Kind
from spanishgas.contracts.tables import DATED
from spanishgas.errors import ContractError, UsageError
from spanishgas.etl.engine import Engine
from spanishgas.etl.quality import Quality
from spanishgas.lake import RAW_FILES

MEND = "Mend the file in the raw folder and run again; nothing was published."
UNREADABLE_DATES = 0.5
"""More of a column's dates than this share that do not parse are not dirt but a wrong column."""


def read(raw: Path, engine: Engine, quality: Quality) -> dict[str, ir.Table]:
    """The six small raw tables, typed and held; without churn_label.csv that table has no rows."""
    if not raw.is_dir():
        raise UsageError(f"raw folder '{raw}' does not exist: give the folder that holds the seven raw files")
    names = [name for name in RAW_FILES if name != "consumption_hourly_2024"]
    return {name: _table(name, raw / RAW_FILES[name], engine, quality) for name in names}


def digests(raw: Path, digest: Callable[[Path], str]) -> dict[str, str]:
    """Digest of each raw file that exists, by table."""
    files = {name: path(raw, name) for name in RAW_FILES}
    return {f"raw/{name}": digest(file) for name, file in files.items() if file.exists()}


def path(raw: Path, table: str) -> Path:
    """The table's file; hours may also be a folder of Parquet parts, with or without the suffix."""
    file = raw / RAW_FILES[table]
    folder = file.with_suffix("")
    return folder if table == "consumption_hourly_2024" and not file.exists() and folder.is_dir() else file


def missing(file: Path) -> ContractError:
    """The error for a raw file that is not there."""
    return ContractError.broken(
        file.name, ["the file is missing"], f"Put it into {file.parent} and run again."
    )


def _table(name: str, file: Path, engine: Engine, quality: Quality) -> ir.Table:
    fields = contracts.contract(name).fields
    text = _text(name, file, list(fields))
    table = ibis.memtable(text)
    typed = table.select(**{column: _parse(table[column], field) for column, field in fields.items()})
    typed = engine.hold(f"raw_{name}", typed)
    _check_parsed(name, file, engine, text, quality)
    contracts.check(name, typed, named=file.name, way_out=MEND)
    quality.add(name, rows_in=text.num_rows)
    return typed


def _text(name: str, file: Path, columns: list[str]) -> pa.Table:
    if name == "churn_label" and not file.exists():
        return pa.table({column: pa.array([], pa.string()) for column in columns})
    try:
        return _json(file, columns) if file.suffix == ".json" else _csv(file, columns)
    except FileNotFoundError as fault:
        raise missing(file) from fault
    except (OSError, ValueError, csv.Error) as fault:
        raise ContractError.broken(
            file.name, [f"cannot be read: {str(fault).splitlines()[0]}"], MEND
        ) from fault


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


def _parse(text: ir.StringColumn, field: Field) -> ir.Value:
    """The typed value; null where the text does not parse."""
    match field.kind:
        case Kind.TEXT:
            return text
        case Kind.DAY:
            return text.try_cast("timestamp").cast("date")
        case Kind.MONTH:
            return ibis.ifelse(text.re_search(r"^\d{4}-(0[1-9]|1[0-2])(-\d{2})?$"), text.substr(0, 7), None)
        case Kind.NUMBER:
            return _number(text)
        case _:
            number = _number(text)
            return ibis.ifelse(number == number.round(), number, None).cast("int64")


def _number(text: ir.StringColumn) -> ir.FloatingValue:
    number = text.try_cast("float64")
    return ibis.ifelse(number.isnan() | number.isinf(), None, number)


def _check_parsed(name: str, file: Path, engine: Engine, text: pa.Table, quality: Quality) -> None:
    fields, table = contracts.contract(name).fields, ibis.memtable(text)
    unread = {
        c: table[c].notnull() & _parse(table[c], f).isnull()
        for c, f in fields.items()
        if f.kind is not Kind.TEXT
    }
    found = _unread(table, unread, engine)
    dates = DATED.get(name, ())
    for column in dates:
        quality.add(name, **{f"unreadable.{column}": found[column][0]})
    allowed = {c: UNREADABLE_DATES * (text.num_rows - text[c].null_count) for c in dates}
    faults = list(_sentences(fields, found, allowed))
    if faults:
        raise ContractError.broken(file.name, faults, MEND)


def _unread(
    table: ir.Table, unread: Mapping[str, ir.BooleanValue], engine: Engine
) -> dict[str, tuple[int, str | None]]:
    """Per column the number of values that do not parse, and the first of them in sort order."""
    sums = {f"n_{c}": bad.cast("int64").sum() for c, bad in unread.items()}
    examples = {f"e_{c}": ibis.ifelse(bad, table[c], None).min() for c, bad in unread.items()}
    row = engine.con.to_pyarrow(table.aggregate(**sums, **examples)).to_pylist()[0]
    return {column: (int(row[f"n_{column}"] or 0), row[f"e_{column}"]) for column in unread}


def _sentences(
    fields: Mapping[str, Field], found: Mapping[str, tuple[int, str | None]], allowed: Mapping[str, float]
) -> Iterator[str]:
    for column, (count, example) in found.items():
        if count > allowed.get(column, 0):
            yield f"{count} rows in column '{column}' are not {fields[column].kind.words}, for example '{example}'"
