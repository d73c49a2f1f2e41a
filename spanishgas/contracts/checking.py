"""Hold a table against its contract, and say in words where it differs.

Names and types are read off the schema. One query takes the statistics that all row rules of a table, and its profile,
are read off; only where the smallest or largest value breaks a limit, a second one counts the rows that do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from spanishgas.config.tiers import Tiers, read_tiers
from spanishgas.contracts import tables
from spanishgas.contracts.fields import Table
from spanishgas.errors import ContractError, UsageError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pandas as pd
    import pyarrow as pa

    Fetch = Callable[[ir.Table], pa.Table]

Statistics = Mapping[str, Any]
WAY_OUT = "Mend the data or the stage that made it; nothing was published."

FEW = 100
"""Fewer rows than this have no rate of nulls to speak of."""


def contract(table: str, tiers: Tiers | None = None) -> Table:
    """The contract of a table by its name; `UsageError` for a name the design does not know.

    Gold's follows from the data dictionary `tiers`, from tiers.yaml if none is passed.
    """
    if table == "gold_master":
        return tables.gold(tiers or read_tiers())
    if table not in tables.TABLES:
        raise UsageError.unknown("table", table, tables.TABLES)
    return tables.TABLES[table]


def check(
    table: str,
    data: ir.Table,
    *,
    tiers: Tiers | None = None,
    named: str | None = None,
    way_out: str = WAY_OUT,
    fetch: Fetch | None = None,
) -> Statistics:
    """Hold `data` against the contract of `table`; returns what `statistics` of it gave.

    Raises `ContractError` under the name `named` (the table's, if none) that lists every difference: columns missing or
    unexpected, types, and per column the number of rows outside what is allowed, with an example. Rows are looked at
    only where names and types are right. `fetch` runs a query; without it, the data's own engine does.
    """
    declared, fetch = contract(table, tiers).of(data.columns), fetch or (lambda query: query.to_pyarrow())
    faults, summed = list(_shape(declared, data)), dict[str, Any]()
    if not faults:
        summed = fetch(statistics(declared, data)).to_pylist()[0]
        faults = list(_rows(declared, summed, _outside(declared, data, summed, fetch)))
    if faults:
        raise ContractError.broken(named or table, faults, way_out)
    return summed


def check_pandas(table: str, frame: pd.DataFrame, tiers: Tiers | None = None) -> pd.DataFrame:
    """`check` for a table held in memory; the index is not part of the table."""
    import ibis
    import pyarrow

    check(table, ibis.memtable(pyarrow.Table.from_pandas(frame, preserve_index=False)), tiers=tiers)
    return frame


def typed(table: str, frame: pd.DataFrame) -> pa.Table:
    """The columns of `frame` that the contract of `table` names, in its order and types; limits are not checked."""
    import ibis
    import pyarrow

    declared = contract(table).of(frame.columns)
    types = {name: field.kind.dtype for name, field in declared.fields.items()}
    return pyarrow.Table.from_pandas(frame, ibis.schema(types).to_pyarrow(), preserve_index=False)


def _shape(declared: Table, data: ir.Table) -> Iterator[str]:
    present = data.schema()
    for name, field in declared.fields.items():
        if name not in present:
            yield f"missing column '{name}'"
        elif present[name].copy(nullable=True) != field.kind.dtype:
            yield f"column '{name}' is {str(present[name]).removeprefix('!')}, expected {field.kind.dtype}"
    if declared.closed:
        yield from (f"unexpected column '{name}'" for name in present if name not in declared.fields)


def statistics(declared: Table, data: ir.Table) -> ir.Table:
    """One row: `rows`, and per column what its limits and a profile ask for.

    `count.<column>` (values), `min.` and `max.` of numbers and dates, `odd.` (rows) and `example.` of a value that is
    none of those declared; `keys` counts the different keys.
    """
    sums: dict[str, ir.Value] = {"rows": data.count()}
    if declared.key:
        sums["keys"] = data.select(*declared.key).distinct().count().as_scalar()
    for name, field in declared.fields.items():
        column = data[name]
        sums[f"count.{name}"] = column.count()
        if column.type().is_numeric() or column.type().is_date():
            sums |= {f"min.{name}": column.min(), f"max.{name}": column.max()}
        if field.values is not None:
            odd = column.notin(field.values)
            sums |= {f"odd.{name}": odd.ifelse(1, 0).sum(), f"example.{name}": odd.ifelse(column, None).min()}
    return data.aggregate(**sums)


def _outside(declared: Table, data: ir.Table, statistics: Statistics, fetch: Fetch) -> dict[str, int]:
    """Rows beyond a limit, by `low.<column>` and `high.<column>`: counted only where the smallest or largest is."""
    sums = {}
    for name, field in declared.fields.items():
        (low, high), least, most = field.bounds, statistics.get(f"min.{name}"), statistics.get(f"max.{name}")
        if low is not None and least is not None and least < low:
            sums[f"low.{name}"] = (data[name] < low).ifelse(1, 0).sum()
        if high is not None and most is not None and not most <= high:  # so written, NaN is beyond it
            sums[f"high.{name}"] = (data[name] > high).ifelse(1, 0).sum()
    return fetch(data.aggregate(**sums)).to_pylist()[0] if sums else {}


def _rows(declared: Table, statistics: Statistics, outside: Mapping[str, int]) -> Iterator[str]:
    rows = statistics["rows"]
    for name, field in declared.fields.items():
        (low, high), place = field.bounds, f"in column '{name}'"
        missing = rows - statistics[f"count.{name}"]
        if field.required:
            if missing:
                yield f"{missing} rows without a value {place}"
        elif missing > field.max_null * rows and (rows >= FEW or not field.max_null):
            yield f"{missing} rows without a value {place}, more than {field.max_null:.0%} of all"
        if count := outside.get(f"low.{name}"):
            yield f"{count} rows below {low:g} {place}, for example {statistics[f'min.{name}']!r}"
        if count := outside.get(f"high.{name}"):
            yield f"{count} rows above {high:g} {place}, for example {statistics[f'max.{name}']!r}"
        if count := statistics.get(f"odd.{name}"):
            words = f"not one of {', '.join(field.values or ())} {place}"
            yield f"{count} rows {words}, for example {statistics[f'example.{name}']!r}"
    if extra := rows - statistics.get("keys", rows):
        yield f"{extra} rows repeat another row's ({', '.join(declared.key)})"
