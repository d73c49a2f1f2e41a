"""The words contracts are written in: a table has fields and a key, a field has a kind and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import ibis.expr.datatypes as dt


class Kind(Enum):
    """What a column holds: a name, how a message names a value, and the Ibis type (nullable unless a field forbids)."""

    TEXT = ("text", "text", dt.string)
    NUMBER = ("number", "a number", dt.float64)
    FLAG = ("flag", "a flag (0 or 1)", dt.int64)
    COUNT = ("count", "a whole number", dt.int64)
    CODE = ("code", "a whole number", dt.int64)
    DAY = ("day", "a date (YYYY-MM-DD)", dt.date)
    TIME = ("time", "a time (YYYY-MM-DD HH:MM)", dt.timestamp)
    MONTH = ("month", "a month (YYYY-MM)", dt.string)
    YESNO = ("yesno", "true or false", dt.boolean)
    LIST = ("list", "a list of texts", dt.Array(dt.string))

    def __init__(self, label: str, words: str, dtype: dt.DataType) -> None:
        self.words, self.dtype = words, dtype


@dataclass(frozen=True)
class Field:
    """One column: its kind, its limits, and whether a row may lack it."""

    kind: Kind
    required: bool = False
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] | None = None
    max_null: float = 1.0
    """Largest share of rows without a value: far above any sound extract, below what a broken join leaves."""

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Smallest and largest value allowed; flags lie in 0..1, counts at 0 or above."""
        if self.kind is Kind.FLAG:
            return 0, 1
        return (0 if self.kind is Kind.COUNT and self.low is None else self.low), self.high

    @property
    def limits(self) -> str:
        """The bounds in words, such as `between 0 and 1`."""
        low, high = ("any number" if end is None else f"{end:g}" for end in self.bounds)
        return f"between {low} and {high}"


@dataclass(frozen=True)
class Table:
    """The columns of a table, and those that name a row uniquely (none: rows may repeat)."""

    fields: Mapping[str, Field]
    key: tuple[str, ...] = ()
    closed: bool = True
    """Whether a column that is not declared breaks the contract."""


ID = Field(Kind.TEXT, required=True)
TEXT = Field(Kind.TEXT)
NUMBER = Field(Kind.NUMBER)
AMOUNT = Field(Kind.NUMBER, low=0)
"""A number that cannot be negative."""
FLAG = Field(Kind.FLAG)
DAY = Field(Kind.DAY)
MONTH = Field(Kind.MONTH, required=True)
