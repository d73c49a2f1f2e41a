"""Read the raw files as typed Ibis tables: text first, then a cast that tells which values do not parse.

Extra and reordered columns, a byte-order mark and CRLF make no difference. What stops the run is a `ContractError`
that names file, column, number of rows and an example: a file or column that is missing, a number, flag or key that
does not parse, a value outside its limits, a column of dates most of which do not parse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from spanishgas import contracts
from spanishgas.contracts.fields import Field, Kind
from spanishgas.contracts.tables import DATED
from spanishgas.errors import ContractError
from spanishgas.etl.engine import DuckEngine
from spanishgas.etl.quality import Quality
from spanishgas.etl.source import HOURS, MEND, Source
from spanishgas.lake import RAW_FILES

UNREADABLE_DATES = 0.5
"""More of a column's dates than this share that do not parse are not dirt but a wrong column."""


def read(source: Source, engine: DuckEngine, quality: Quality) -> dict[str, ir.Table]:
    """The six small raw tables, typed and held; without churn_label.csv that table has no rows."""
    return {name: _table(name, source, engine, quality) for name in RAW_FILES if name != HOURS}


def _table(name: str, source: Source, engine: DuckEngine, quality: Quality) -> ir.Table:
    fields = contracts.contract(name).fields
    text, named = source.text(name), source.file(name).name
    table = ibis.memtable(text)
    typed = table.select(**{column: _parse(table[column], field) for column, field in fields.items()})
    typed = engine.hold(f"raw_{name}", typed)
    _check_parsed(name, named, engine, text, quality)
    contracts.check(name, typed, named=named, way_out=MEND)
    quality.add(name, rows_in=text.num_rows)
    return typed


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


def _check_parsed(name: str, named: str, engine: DuckEngine, text: pa.Table, quality: Quality) -> None:
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
        raise ContractError.broken(named, faults, MEND)


def _unread(
    table: ir.Table, unread: Mapping[str, ir.BooleanValue], engine: DuckEngine
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
