"""The data-quality report: what was read, kept, collapsed, left out and repaired, per table and rule."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

Report = dict[str, dict[str, int | float]]


class Quality:
    """Counts per table. For a raw table rows_in = kept + what the other row rules counted."""

    def __init__(self) -> None:
        self.report: Report = {}

    def add(self, table: str, **counts: int | float) -> None:
        """Note counts under their rules' names."""
        self.report.setdefault(table, {}).update({name: _plain(value) for name, value in counts.items()})

    def measure(self, table: str, data: ir.Table, **sums: ir.Value) -> None:
        """Compute all `sums` (reductions over `data`) in one query and note them."""
        row = data.aggregate(**sums).to_pyarrow().to_pylist()[0]
        self.add(table, **{name: value or 0 for name, value in row.items()})

    def keep(self, table: str, rule: str, data: ir.Table, condition: ir.BooleanValue) -> ir.Table:
        """The rows that meet `condition`; the others (null counts as not met) are counted under `rule`."""
        met = condition.fill_null(False)
        self.measure(table, data, **{rule: (~met).sum()})
        return data.filter(met)


def rows(data: ir.Table) -> int:
    """Number of rows."""
    return int(data.count().execute())


def null_rates(data: ir.Table) -> dict[str, ir.Value]:
    """Share of nulls of every column, as reductions."""
    return {f"null_rate.{name}": data[name].isnull().cast("float64").mean() for name in data.columns}


def flagged(condition: ir.BooleanValue) -> ir.Value:
    """Number of rows that meet a condition, as a reduction."""
    return ibis.ifelse(condition, 1, 0).sum()


def _plain(value: object) -> int | float:
    number = float(str(value))
    return int(number) if number.is_integer() and not isinstance(value, float) else number
