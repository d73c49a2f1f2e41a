"""Hold a table against its contract, and say in words where it differs.

Names and types are read off the schema. All row rules of a table are counted in one query: a query per rule, as
pandera's Ibis backend runs them, takes half of the time of a small build.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spanishgas.config.tiers import Tiers, read_tiers
from spanishgas.contracts import tables
from spanishgas.contracts.fields import Field, Table
from spanishgas.errors import ContractError, UsageError

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pandas as pd

WAY_OUT = "Mend the data or the stage that made it; nothing was published."

FEW = 100
"""Fewer rows than this have no rate of nulls to speak of."""


def contract(table: str, tiers: Tiers | None = None) -> Table:
    """The contract of a table by its name; `UsageError` for a name the design does not know.

    Gold's follows from the data dictionary `tiers`, from tiers.yaml if none is passed.
    """
    if table == "gold_master":
        return tables.gold(tiers or read_tiers())
    known: Mapping[str, Table] = {**tables.RAW, **tables.DERIVED}
    if table not in known:
        raise UsageError.unknown("table", table, [*known, "gold_master"])
    return known[table]


def check(
    table: str,
    data: ir.Table,
    *,
    tiers: Tiers | None = None,
    named: str | None = None,
    way_out: str = WAY_OUT,
) -> ir.Table:
    """Return `data` if it keeps the contract of `table`.

    Raises `ContractError` under the name `named` (the table's, if none) that lists every difference: columns missing or
    unexpected, types, and per column the number of rows outside what is allowed, with an example. Rows are looked at
    only where names and types are right.
    """
    declared = contract(table, tiers)
    faults = list(_shape(declared, data)) or list(_rows(declared, data))
    if faults:
        raise ContractError.broken(named or table, faults, way_out)
    return data


def check_pandas(table: str, frame: pd.DataFrame, tiers: Tiers | None = None) -> pd.DataFrame:
    """`check` for a table held in memory; the index is not part of the table."""
    import ibis
    import pyarrow

    check(table, ibis.memtable(pyarrow.Table.from_pandas(frame, preserve_index=False)), tiers=tiers)
    return frame


@dataclass(frozen=True)
class _Rule:
    """Rows that break one limit of one column."""

    bad: ir.BooleanValue
    words: str
    example: ir.Scalar | None = None
    allowed: float = 0
    """Share of the rows that may be so."""


def _shape(declared: Table, data: ir.Table) -> Iterator[str]:
    present = data.schema()
    for name, field in declared.fields.items():
        if name not in present:
            yield f"missing column '{name}'"
        elif present[name].copy(nullable=True) != field.kind.dtype:
            yield f"column '{name}' is {str(present[name]).removeprefix('!')}, expected {field.kind.dtype}"
    if declared.closed:
        yield from (f"unexpected column '{name}'" for name in present if name not in declared.fields)


def _rows(declared: Table, data: ir.Table) -> Iterator[str]:
    rules = [rule for name, field in declared.fields.items() for rule in _rules(data[name], name, field)]
    sums = {f"n{i}": rule.bad.ifelse(1, 0).sum() for i, rule in enumerate(rules)}
    sums |= {f"e{i}": rule.example for i, rule in enumerate(rules) if rule.example is not None}
    found = data.aggregate(rows=data.count(), **sums).to_pyarrow().to_pylist()[0]
    for i, rule in enumerate(rules):
        count = found[f"n{i}"] or 0
        if count > rule.allowed * found["rows"] and (rule.allowed == 0 or found["rows"] >= FEW):
            example = f", for example {found[f'e{i}']!r}" if f"e{i}" in found else ""
            yield f"{count} rows {rule.words}{example}"
    if declared.key:
        distinct = int(data.select(*declared.key).distinct().count().to_pyarrow().as_py())
        if extra := found["rows"] - distinct:
            yield f"{extra} rows repeat another row's ({', '.join(declared.key)})"


def _rules(column: ir.Column, name: str, field: Field) -> Iterator[_Rule]:
    (low, high), place = field.bounds, f"in column '{name}'"
    if field.required:
        yield _Rule(column.isnull(), f"without a value {place}")
    elif field.max_null < 1:
        few = f"without a value {place}, more than {field.max_null:.0%} of all"
        yield _Rule(column.isnull(), few, allowed=field.max_null)
    if low is not None:
        yield _Rule(column < low, f"below {low:g} {place}", column.min())
    if high is not None:
        yield _Rule(column > high, f"above {high:g} {place}", column.max())
    if field.values is not None:
        odd = column.notin(field.values)
        yield _Rule(odd, f"not one of {', '.join(field.values)} {place}", odd.ifelse(column, None).min())
