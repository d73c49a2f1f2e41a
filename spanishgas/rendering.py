"""What people read: tables as text, and text from outside, such as a category, an id or a reason, shown as it is.

Such a text is read neither as markup nor as a formula.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def filled(package: str, template: str, **values: object) -> str:
    """A template of a package with `values` in it; every text is escaped where it is HTML."""
    import jinja2

    loader, escaped = jinja2.PackageLoader(package), jinja2.select_autoescape(["html.jinja"])
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=escaped)
    return environment.get_template(template).render(**values)


def paragraphs(package: str, template: str, **values: object) -> list[str]:
    """The paragraphs of a filled template, each as one line."""
    return [
        line for text in filled(package, template, **values).split("\n\n") if (line := " ".join(text.split()))
    ]


def as_markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, numbers to four places; no text in it is markup."""
    cells = [[_cell(v) for v in row] for row in table.to_numpy(dtype=object).tolist()]
    rows = [[markdown(c) for c in table.columns], ["---"] * len(table.columns), *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else markdown(value)


FORMULA = r"^[\s\x00-\x1f]*[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
"""How a text begins that a spreadsheet would run (OWASP, CSV injection), also in full width."""
CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f]"
"""Characters that a workbook cannot hold."""
_MARKUP = re.compile(r"[\\`*\[\]<>|$~&]|:(?=\S)|(?<!\w)_|_(?!\w)|^[-+=#](?!\d)|(?<=\d)[.)](?=\s)")
"""What CommonMark, GitHub's tables or Streamlit read as markup; underscores within words and "a: b" are none."""


def markdown(text: object) -> str:
    """One line of Markdown that is read as `text`: without tags, links, emphasis, cells or blocks of its own."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return _MARKUP.sub(r"\\\g<0>", line)


def spreadsheet(table: pa.Table) -> pa.Table:
    """The same rows, with an apostrophe before texts that begin as a formula does, and no control characters."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for at, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            text = table.column(at)
            guarded = pc.if_else(
                pc.match_substring_regex(text, FORMULA),
                pc.binary_join_element_wise(pa.scalar("'", field.type), text, pa.scalar("", field.type)),
                text,
            )
            table = table.set_column(at, field, pc.replace_substring_regex(guarded, CONTROL, "\ufffd"))
    return table
