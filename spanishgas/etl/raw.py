"""Read the raw files as typed Ibis tables: text first, then a cast that tells which values do not parse.

Extra and reordered columns, a byte-order mark and CRLF make no difference. A row with a number, flag or key that does
not parse, without its key or with a value outside its limits goes to quarantine. What stops the run is a
`ContractError`: a missing file or column, too many rows in quarantine, a column most of whose dates do not parse.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator
from functools import lru_cache

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from spanishgas import contracts
from spanishgas.contracts.fields import Field, Kind
from spanishgas.errors import ContractError
from spanishgas.etl import values
from spanishgas.etl.formats import Format
from spanishgas.etl.quality import FAULT, ROW, Audit, flagged
from spanishgas.etl.source import MEND, Source
from spanishgas.raw_files import HOURS, RAW_FILES

NOBODY = ("repeated_header", "total")
"""Rules for rows that are of no customer."""
TOTALS = r"(?i)^\W*(grand |sub-?)?(total[a-z]{0,2}|sum[a-z]{0,2}|somme|soma|gesamt[a-z]*)( general[a-z]?| amount)?\W*$"
"""Ids of rows in which a sheet sums the others."""
UNREADABLE_DATES = 0.5
"""More of a column's dates than this share that do not parse are not dirt but a wrong column."""


def read(source: Source, audit: Audit) -> tuple[dict[str, ir.Table], ir.Table]:
    """The usable rows of the six small raw tables, typed and held, and the ids of all customers.

    - A customer is who has a row with an id in labels or attributes, be that row usable or not.
    - Without churn_label.csv that table has no rows.
    """
    tables = {name: _typed(name, source, audit) for name in RAW_FILES if name != HOURS}
    people = [tables[name] for name in ("churn_label", "customer_attributes")]
    ids = [t.filter(t[FAULT].isnull() | t[FAULT].notin(NOBODY)).select("customer_id") for t in people]
    named = ibis.union(*ids, distinct=True).filter(lambda t: t.customer_id.notnull())
    customer_ids = audit.engine.materialize("known", named, by=["customer_id"])
    return {name: _usable(name, table, audit) for name, table in tables.items()}, customer_ids


def _typed(name: str, source: Source, audit: Audit) -> ir.Table:
    """Every row with its typed values, its place in the file, and under `FAULT` the first rule that it breaks."""
    text = source.text(name)
    fields = contracts.contract(name).of(text.column_names).fields
    audit.quality.read(name, text)
    places = pa.array(range(text.num_rows), pa.int64())
    table = audit.engine.import_table(f"text_{name}", text.append_column(ROW, places))
    typed = _parsed(name, table, source.columns(name).get("customer_id"), source.format(name))
    typed = audit.engine.materialize(f"raw_{name}", typed)
    _count_dates(name, source.file(name).name, typed, audit)
    return typed.drop(*(f"given_{column}" for column in fields))


@lru_cache(maxsize=64)
def _parsed(name: str, table: ir.Table, header: str | None, how: Format) -> ir.Table:
    """`_typed` of a table of texts; `header` is what the file calls customer_id."""
    fields = contracts.contract(name).of(table.columns).fields
    texts = {column: values.given(table[column], field, how) for column, field in fields.items()}
    table = table.select(
        ROW,
        **{column: values.parse(texts[column], column, field, how) for column, field in fields.items()},
        **{f"given_{column}": texts[column].notnull() for column in fields},
    )
    rules = [rule for column in fields for rule in _rules(table, column, fields[column])]
    return table.mutate(**{FAULT: ibis.cases(*_nobody(table, header), *rules)})


def _usable(name: str, typed: ir.Table, audit: Audit) -> ir.Table:
    """The rows without fault; the others go to quarantine."""
    quality, faulty = audit.quality, typed[FAULT].notnull()
    faults = audit.engine.fetch(typed.filter(faulty).select(ROW, FAULT))
    for rule in sorted(set(faults[FAULT].to_pylist())):
        quality.take(name, rule, faults.filter(pc.equal(faults[FAULT], rule))[ROW])
    quality.judge(name)
    table = typed.filter(typed[FAULT].isnull()).drop(FAULT)
    quality.profile(name, audit.check(name, table, named=RAW_FILES[name], way_out=MEND))
    return table


def _nobody(table: ir.Table, header: str | None) -> Iterator[tuple[ir.BooleanValue, str]]:
    if header is not None:
        yield table.customer_id.strip().lower().isin(["customer_id", header.lower()]), NOBODY[0]
        yield table.customer_id.re_search(TOTALS), NOBODY[1]


def _rules(table: ir.Table, column: str, field: Field) -> Iterator[tuple[ir.BooleanValue, str]]:
    """The ways in which a value of the column makes its row unusable."""
    value, (low, high) = table[column], field.bounds
    if not field.lenient:
        yield table[f"given_{column}"] & value.isnull(), f"unreadable.{column}"
    if field.required:
        yield value.isnull(), f"missing.{column}"
    if low is not None or high is not None:
        outside = [value < low] * (low is not None) + [value > high] * (high is not None)
        yield functools.reduce(operator.or_, outside), f"out_of_range.{column}"


def _count_dates(name: str, named: str, typed: ir.Table, audit: Audit) -> None:
    """Note unreadable dates that are null from here on; `ContractError` where most of a column is so."""
    columns = [column for column, field in contracts.contract(name).fields.items() if field.lenient]
    if not columns:
        return
    quality, unread = audit.quality, {c: typed[f"given_{c}"] & typed[c].isnull() for c in columns}
    filled = {f"filled_{c}": flagged(typed[f"given_{c}"]) for c in columns}
    first = {f"first_{c}": ibis.ifelse(bad, typed[ROW], None).min() for c, bad in unread.items()}
    sums = audit.sums(typed, **{c: flagged(bad) for c, bad in unread.items()}, **filled, **first)
    counts = {c: sums[c] for c in columns}
    quality.add(name, **{f"repaired.unreadable.{c}": count for c, count in counts.items()})
    faults = [
        f"{n} rows in column '{c}' are not {Kind.DAY.words}, for example '{quality.text(name, c, sums[f'first_{c}'])}'"
        for c, n in counts.items()
        if n > UNREADABLE_DATES * sums[f"filled_{c}"]
    ]
    if faults:
        raise ContractError.broken(named, faults, MEND)
