"""The data-quality report as a page to read, and as metrics to watch."""

from __future__ import annotations

import jinja2

from spanishgas import rendering
from spanishgas.etl.quality import Report

_NEVER_METRICS = ("min.", "max.")


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
