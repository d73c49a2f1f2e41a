"""Hold a table against its contract with pandera, and say in words where it differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import ibis
import ibis.expr.types as ir
import pandas as pd
import pandera.ibis as pa
import pyarrow
from pandera.errors import SchemaError, SchemaErrorReason, SchemaErrors

from spanishgas.contracts import tables
from spanishgas.contracts.dictionary import read_tiers
from spanishgas.contracts.fields import Field, Table
from spanishgas.errors import ContractError, UsageError

WAY_OUT = "Mend the data or the stage that made it; nothing was published."


def contract(table: str) -> Table:
    """The contract of a table by its name; `UsageError` for a name the design does not know."""
    if table == "gold_master":
        return tables.gold(read_tiers())
    known: Mapping[str, Table] = {**tables.RAW, **tables.DERIVED}
    if table not in known:
        raise UsageError.unknown("table", table, [*known, "gold_master"])
    return known[table]


def schema(declared: Table) -> pa.DataFrameSchema:
    """The pandera schema of a contract (uniqueness on the schema: on a column the Ibis backend ignores it)."""
    columns = {name: _column(field) for name, field in declared.fields.items()}
    return pa.DataFrameSchema(columns, unique=list(declared.key) or None, strict=declared.closed)


def check(table: str, data: ir.Table, *, named: str | None = None, way_out: str = WAY_OUT) -> ir.Table:
    """Return `data` if it keeps the contract of `table`.

    Raises `ContractError` under the name `named` (the table's, if none) that lists every difference: columns that
    are missing or unexpected, types, and per column the number of rows outside what is allowed, with an example.
    """
    declared = contract(table)
    try:
        _schema(table).validate(data, lazy=True)
    except SchemaErrors as broken:
        faults = [words for fault in broken.schema_errors for words in _words(fault, declared, data)]
        if faults:  # none: pandera also reports a limit on a column without any value, which no row breaks
            raise ContractError.broken(named or table, dict.fromkeys(faults), way_out) from broken
    return data


def check_pandas(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """`check` for a table held in memory; the index is not part of the table."""
    check(table, ibis.memtable(pyarrow.Table.from_pandas(frame, preserve_index=False)))
    return frame


@cache
def _schema(table: str) -> pa.DataFrameSchema:
    return schema(contract(table))


def _column(field: Field) -> pa.Column:
    low, high = field.bounds
    checks = [pa.Check.ge(low)] if low is not None else []
    checks += [pa.Check.le(high)] if high is not None else []
    checks += [pa.Check.isin(list(field.values))] if field.values is not None else []
    return pa.Column(field.kind.dtype, checks, nullable=not field.required)


def _words(fault: SchemaError, declared: Table, data: ir.Table) -> Iterator[str]:
    name = str(getattr(fault.schema, "name", None))
    match fault.reason_code:
        case SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME:
            yield f"missing column '{fault.failure_cases}'"
        case SchemaErrorReason.COLUMN_NOT_IN_SCHEMA:
            yield f"unexpected column '{fault.failure_cases}'"
        case SchemaErrorReason.WRONG_DATATYPE:
            yield f"column '{name}' is {data[name].type()}, expected {declared.fields[name].kind.dtype}"
        case SchemaErrorReason.SERIES_CONTAINS_NULLS:
            yield f"{_count(data, data[name].isnull())} rows without a value in column '{name}'"
        case SchemaErrorReason.DUPLICATES:
            extra = data.count() - data.select(*declared.key).distinct().count()
            yield f"{int(extra.execute())} rows repeat another row's ({', '.join(declared.key)})"
        case _:
            yield from _outside(data, name, declared.fields[name])


def _outside(data: ir.Table, name: str, field: Field) -> Iterator[str]:
    """A sentence for each limit of the column that some rows break."""
    column, (low, high) = data[name], field.bounds
    rules: dict[str, ir.BooleanValue] = {}
    if low is not None:
        rules[f"below {low:g}"] = column < low
    if high is not None:
        rules[f"above {high:g}"] = column > high
    if field.values is not None:
        rules[f"not one of {', '.join(field.values)}"] = column.notin(field.values)
    for words, bad in rules.items():
        if rows := _count(data, bad):
            example = data.filter(bad)[name].min().execute()
            yield f"{rows} rows {words} in column '{name}', for example {example!r}"


def _count(data: ir.Table, condition: ir.BooleanValue) -> int:
    return int(data.filter(condition).count().execute())
