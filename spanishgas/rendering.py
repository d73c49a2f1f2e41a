"""Tables as text that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanishgas import escaping

if TYPE_CHECKING:
    import pandas as pd


def as_markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, numbers to four places; no text in it is markup."""
    cells = [[_cell(v) for v in row] for row in table.to_numpy(dtype=object).tolist()]
    rows = [[escaping.markdown(c) for c in table.columns], ["---"] * len(table.columns), *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else escaping.markdown(value)
