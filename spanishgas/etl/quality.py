"""The data-quality report and the quarantine: what was read, kept, collapsed, left out and repaired, by rule.

For each raw table, exactly: rows_in = kept + quarantined + collapsed + replaced by corrections. `quarantined` is the
sum over its rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from spanishgas import contracts, rendering
from spanishgas.config.reading import packaged
from spanishgas.contracts import contract
from spanishgas.contracts.checking import FEW, Statistics
from spanishgas.contracts.fields import Kind
from spanishgas.errors import ContractError
from spanishgas.etl.engines import Engine
from spanishgas.raw_files import RAW_FILES
from spanishgas.settings import settings

Report = dict[str, dict[str, int | float | str]]
ROW = "row_number"
"""Column of a raw table on its way to bronze: the row's place in what was read, to find its text again."""
FAULT = "fault"
"""Beside it, the first rule that the row breaks."""
_WORDS = packaged(__file__)
_WAY_OUT = (
    "Mend the file in the raw folder; or, if so many rows may be left out, set SPANISHGAS_MAX_QUARANTINED higher. "
    "Nothing was published."
)
_REPAIRED = (
    "So many are not dirt: give one reading per full hour, one row per fact, and numbers of the unit named."
)
_COLUMNS = pa.schema([(name, pa.string()) for name in contract("quarantine").fields])


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

    def text(self, table: str, column: str, place: int) -> str | None:
        """A value of a raw file as it was written."""
        value: str | None = self._texts[table][column][place].as_py()
        return value

    def take(self, table: str, rule: str, places: pa.ChunkedArray) -> None:
        """Set the rows at these places of a raw file apart under `rule`."""
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
        ordered = sorted(self._rows, key=lambda row: [str(row.get(name)) for name in _COLUMNS.names])
        return pa.Table.from_pylist([row | {"run_id": run_id} for row in ordered], _COLUMNS)

    def judge(self, table: str, *faults: str) -> None:
        """Sum what a raw table has in quarantine; `ContractError` with every rule if it is more than settings allow.

        So it is where a repair affects too many rows, and with `faults` that were seen elsewhere.
        """
        rules = {
            name.removeprefix("quarantined."): count
            for name, count in self.report[table].items()
            if name.startswith("quarantined.") and count
        }
        total, rows_in = sum(int(count) for count in rules.values()), self.count(table, "rows_in")
        self.add(table, quarantined=total)
        limit = settings().max_quarantined
        if total > limit * rows_in:
            share = f"{total} of {rows_in} rows ({total / rows_in:.1%}) cannot be used: more than {limit:.1%}"
            lines = [share, *(f"{count} rows {self.words(table, rule)}" for rule, count in rules.items())]
            raise ContractError.broken(RAW_FILES[table], lines, _WAY_OUT)
        repairs = [
            f"{count} of {rows_in} rows ({int(count) / rows_in:.1%}) fall under '{rule}': more than {share:.0%}"
            for rule, count in self.report[table].items()
            for start, share in _WORDS["repairs"].items()
            if rule.startswith(start) and rows_in >= FEW and int(count) > share * rows_in
        ]
        if repairs or faults:
            raise ContractError.broken(RAW_FILES[table], [*repairs, *faults], _REPAIRED)

    def words(self, table: str, rule: str) -> str:
        """What is wrong with the rows of a rule, with the first of their values in sort order."""
        name, _, column = rule.partition(".")
        if not column:
            return str(_WORDS["rules"][name])
        field = contract(table).every[column]
        values = [
            json.loads(row["row"] or "{}").get(column)
            for row in self._rows
            if (row["source_table"], row["rule"], row["column"]) == (table, name, column)
        ]
        shown = f", for example '{min(map(str, values))}'" if values and name != "missing" else ""
        kind = _WORDS["ids"] if field.kind is Kind.TEXT else field.kind.words
        words = _WORDS["rules"][name].format(column=column, kind=kind, limits=field.limits)
        return f"{words}{shown}"

    def told(self, rule: str, seen: Mapping[str, Any]) -> str:
        """What the rule says about what was `seen` in the hours of some customers."""
        return str(_WORDS["told"][rule].format(**seen))

    def profile(self, table: str, statistics: Statistics) -> None:
        """Note per column the share of nulls, and the smallest and largest number or date."""
        rows = statistics["rows"]
        names = [n.removeprefix("count.") for n in statistics if n.startswith("count.")]
        values = {f"null_rate.{n}": (rows - statistics[f"count.{n}"]) / rows for n in names if rows}
        values |= {f"{end}.{n}": statistics.get(f"{end}.{n}") for n in names for end in ("min", "max")}
        present = {name: value for name, value in values.items() if value is not None}
        self.add(table, **{n: v.isoformat() if isinstance(v, date) else v for n, v in present.items()})

    def settle(self, table: str) -> None:
        """Note what a raw table kept, when all that is not usable was set apart and copies were collapsed."""
        names = ("quarantined", "collapsed", "replaced.by_corrections")
        gone = sum(self.count(table, name) for name in names)
        self.add(table, kept=self.count(table, "rows_in") - gone)


@dataclass(frozen=True)
class Audit:
    """An engine, and the quality report that is told what becomes of the rows of its tables."""

    engine: Engine
    quality: Quality

    def sums(self, data: ir.Table, **sums: ir.Value) -> dict[str, Any]:
        """All `sums` (reductions over `data`) by one query; 0 for a sum of nothing."""
        row = self.engine.fetch(data.aggregate(**sums)).to_pylist()[0]
        return {name: value or 0 for name, value in row.items()}

    def measure(self, table: str, data: ir.Table, **sums: ir.Value) -> None:
        """Compute all `sums` in one query and note them."""
        self.quality.add(table, **self.sums(data, **sums))

    def quarantine(self, table: str, rule: str, rows: ir.Table) -> None:
        """Set `rows` of a raw table apart under `rule`: with their texts, found by `ROW`."""
        self.quality.take(table, rule, self.engine.fetch(rows.select(ROW))[ROW])

    def use(self, table: str, rule: str, data: ir.Table, condition: ir.BooleanValue) -> ir.Table:
        """The rows that meet `condition`; the others (null counts as not met) go to quarantine under `rule`."""
        met = condition.fill_null(False)
        self.quarantine(table, rule, data.filter(~met))
        return data.filter(met)

    def check(self, table: str, data: ir.Table, **how: Any) -> Statistics:
        """`contracts.check` on the engine."""
        return contracts.check(table, data, fetch=self.engine.fetch, **how)


def flagged(condition: ir.BooleanValue) -> ir.Value:
    """Number of rows that meet a condition, as a reduction."""
    return ibis.ifelse(condition, 1, 0).sum()


def _plain(value: object) -> int | float | str:
    if isinstance(value, str | float):
        return value
    number = float(str(value))
    return int(number) if number.is_integer() else number


def metrics(report: Report) -> dict[str, float]:
    """Every count and share of nulls as `quality.<table>.<name>`; ranges and texts stay in the artefacts."""
    return {
        f"quality.{table}.{name}": float(value)
        for table, values in report.items()
        for name, value in values.items()
        if not isinstance(value, str) and not name.startswith(("min.", "max."))
    }


def markdown(report: Report) -> str:
    """One page: the accounts of the raw tables, what each rule found, and the columns of every table."""
    import jinja2

    loader = jinja2.PackageLoader("spanishgas.etl")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"shown": _shown, "text": rendering.markdown}
    return environment.get_template("quality.md.jinja").render(report=report)


def _shown(value: float | str | None) -> str:
    if isinstance(value, str):
        return rendering.markdown(value)
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
