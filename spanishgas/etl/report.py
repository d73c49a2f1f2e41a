"""The data-quality report as a page to read, and as metrics to watch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from spanishgas import escaping
from spanishgas.etl.quality import Report

_NEVER_METRICS = ("min.", "max.")
_KINDS: Mapping[str, str] = {
    "quarantined.": "in quarantine",
    "unused.": "kept, of no use as of this date",
    "repaired.": "repaired",
    "missing_as_0.": "missing, counted as 0",
    "odd.": "odd, kept",
    "imputed.": "prices filled in",
}
"""Names of counts by how they begin, and what a reader is told."""


def metrics(report: Report) -> dict[str, float]:
    """Every count and share of nulls as `quality.<table>.<name>`; ranges and texts stay in the artefacts."""
    return {
        f"quality.{table}.{name}": float(value)
        for table, values in report.items()
        for name, value in values.items()
        if not isinstance(value, str) and not name.startswith(_NEVER_METRICS)
    }


def markdown(report: Report) -> str:
    """One page: the accounts of the raw tables, what each rule found, and the columns of every table."""
    return "\n".join([*_accounts(report), *_rules(report), *_columns(report), ""])


def _accounts(report: Report) -> Iterator[str]:
    yield "# Data quality\n\nrows in = kept + quarantined + collapsed copies\n"
    yield "| raw table | rows in | kept | quarantined | collapsed |\n|---|---|---|---|---|"
    for table, values in report.items():
        if "rows_in" in values:
            cells = (_shown(values.get(n)) for n in ("rows_in", "kept", "quarantined", "collapsed"))
            yield f"| {table} | {' | '.join(cells)} |"


def _rules(report: Report) -> Iterator[str]:
    yield "\n| table | what | rule | found |\n|---|---|---|---|"
    for table, values in report.items():
        for name, value in values.items():
            kind = next((begin for begin in _KINDS if name.startswith(begin)), None)
            if kind and value:
                yield f"| {table} | {_KINDS[kind]} | {escaping.markdown(name.removeprefix(kind))} | {_shown(value)} |"


def _columns(report: Report) -> Iterator[str]:
    yield "\n| table | column | without value | smallest | largest |\n|---|---|---|---|---|"
    for table, values in report.items():
        for name, value in values.items():
            if name.startswith("null_rate."):
                column = name.removeprefix("null_rate.")
                ends = (_shown(values.get(f"{end}.{column}")) for end in ("min", "max"))
                yield f"| {table} | {column} | {value:.1%} | {' | '.join(ends)} |"


def _shown(value: float | str | None) -> str:
    if isinstance(value, str):
        return escaping.markdown(value)
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
