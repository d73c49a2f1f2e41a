"""Records of JSON: an array of them, or one a line."""

from __future__ import annotations

import json
from functools import partial
from typing import Any


def parsed(text: str) -> list[dict[str, Any]]:
    """The records of a file; `ValueError` for a text that holds none."""
    loads = partial(json.loads, parse_constant=_no_json)
    lines = [line for line in text.split("\n") if line.strip()]
    records: list[dict[str, Any]] = loads(text) if text.startswith("[") else [loads(line) for line in lines]
    if not all(isinstance(record, dict) for record in records):
        raise ValueError('expected a list of records, [{"...": ...}, ...], or a record a line')
    return records


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def plain_value(value: object) -> str | None:
    """A value of JSON as a CSV file would have it: an empty text is no value, and a number its digits."""
    if isinstance(value, (dict, list)):
        raise ValueError(f"expected plain values, but got {json.dumps(value)[:40]}")
    return None if value in (None, "") else value if isinstance(value, str) else json.dumps(value)
