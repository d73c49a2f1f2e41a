"""The data-quality report and the quarantine: what was read, kept, collapsed, left out and repaired, by rule.

For each raw table, exactly: rows_in = kept + quarantined + collapsed. `quarantined` is the sum over its rules.
"""

from __future__ import annotations

import json

import ibis
import ibis.expr.types as ir
import pyarrow as pa

Report = dict[str, dict[str, int | float | str]]
ROW = "row_number"
"""Column of a raw table on its way to bronze: the row's place in what was read, to find its text again."""
_COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("source_table", "rule", "column", "customer_id", "row", "run_id")]
)


class Quality:
    """Counts per table and rule, and the rows in quarantine. A rule about one column is named `rule.column`."""

    def __init__(self) -> None:
        self.report: Report = {}
        self._texts: dict[str, pa.Table] = {}
        self._rows: list[dict[str, str | None]] = []

    def add(self, table: str, **counts: float | str) -> None:
        """Note counts (or ends of a range) under their names."""
        self.report.setdefault(table, {}).update({name: _plain(value) for name, value in counts.items()})

    def count(self, table: str, name: str) -> int:
        """A count noted before; 0 where there is none."""
        return int(self.report.get(table, {}).get(name, 0))

    def read(self, table: str, text: pa.Table) -> None:
        """Note the rows that a raw file has, as they were written; `ROW` counts them from 0."""
        self._texts[table] = text
        self.add(table, rows_in=text.num_rows)

    def measure(self, table: str, data: ir.Table, **sums: ir.Value) -> None:
        """Compute all `sums` (reductions over `data`) in one query and note them."""
        row = data.aggregate(**sums).to_pyarrow().to_pylist()[0]
        self.add(table, **{name: value or 0 for name, value in row.items()})

    def quarantine(self, table: str, rule: str, rows: ir.Table) -> None:
        """Set `rows` of a raw table apart under `rule`: with their texts, found by `ROW`."""
        places = rows.select(ROW).to_pyarrow().column(0)
        self.add_quarantined(table, rule, len(places), self._texts[table].take(places))

    def add_quarantined(self, table: str, rule: str, count: int, examples: pa.Table) -> None:
        """Set `count` rows of a raw table apart under `rule`; of them `examples` (columns as in the file) are shown."""
        self.add(table, **{f"quarantined.{rule}": count})
        name, _, column = rule.partition(".")
        for row in examples.to_pylist():
            self._rows.append(
                {
                    "source_table": table,
                    "rule": name,
                    "column": column or None,
                    "customer_id": row.get("customer_id"),
                    "row": json.dumps(row, ensure_ascii=False, default=str),
                }
            )

    def quarantined(self, run_id: str | None) -> pa.Table:
        """The rows in quarantine as the lake's table of that name, each with the id of the run that set it apart."""
        return pa.Table.from_pylist([row | {"run_id": run_id} for row in self._rows], _COLUMNS)

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


def _plain(value: object) -> int | float | str:
    if isinstance(value, str | float):
        return value
    number = float(str(value))
    return int(number) if number.is_integer() else number
