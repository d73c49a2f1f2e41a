"""The words contracts are written in: a table has fields and a key, a field has a kind and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt


class Kind(Enum):
    """What a column holds, and the type it has in every table (nulls are allowed unless a field says otherwise)."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    COUNT = "count"
    CODE = "code"
    DAY = "day"
    TIME = "time"
    MONTH = "month"
    YESNO = "yesno"
    LIST = "list"

    @property
    def dtype(self) -> dt.DataType:
        """The Ibis type of a column of this kind."""
        from ibis.expr import datatypes

        return datatypes.dtype(_DTYPES[self])

    @property
    def words(self) -> str:
        """How a message names a value of this kind."""
        return _WORDS[self]


_DTYPES: Mapping[Kind, str] = {
    Kind.TEXT: "string",
    Kind.NUMBER: "float64",
    Kind.FLAG: "int64",
    Kind.COUNT: "int64",
    Kind.CODE: "int64",
    Kind.DAY: "date",
    Kind.TIME: "timestamp",
    Kind.MONTH: "string",
    Kind.YESNO: "boolean",
    Kind.LIST: "array<string>",
}
_WORDS: Mapping[Kind, str] = {
    Kind.TEXT: "text",
    Kind.NUMBER: "a number",
    Kind.FLAG: "a flag (0 or 1)",
    Kind.COUNT: "a whole number",
    Kind.CODE: "a whole number",
    Kind.DAY: "a date (YYYY-MM-DD)",
    Kind.TIME: "a time (YYYY-MM-DD HH:MM)",
    Kind.MONTH: "a month (YYYY-MM)",
    Kind.YESNO: "true or false",
    Kind.LIST: "a list of texts",
}


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
