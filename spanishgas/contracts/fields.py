"""The words contracts are written in: a table has fields and a key, a field has a kind and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt


class Kind(Enum):
    """What a column holds: name, Ibis type in every table (nulls are allowed unless a field says otherwise), words."""

    TEXT = "text", "string", "text"
    NUMBER = "number", "float64", "a number"
    FLAG = "flag", "int64", "a flag (0 or 1)"
    COUNT = "count", "int64", "a whole number"
    CODE = "code", "int64", "a whole number"
    DAY = "day", "date", "a date (YYYY-MM-DD)"
    TIME = "time", "timestamp", "a time (YYYY-MM-DD HH:MM)"
    MONTH = "month", "string", "a month (YYYY-MM)"
    YESNO = "yesno", "boolean", "true or false"
    LIST = "list", "array<string>", "a list of texts"

    @property
    def dtype(self) -> dt.DataType:
        """The Ibis type of a column of this kind."""
        from ibis.expr import datatypes

        return datatypes.dtype(self.value[1])

    @property
    def words(self) -> str:
        """How a message names a value of this kind."""
        return self.value[2]


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
    lenient: bool = False
    """Whether a value that cannot be read is null and counted, and its row kept."""
    meaning: str = ""

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
    layer: str = "raw"
    """Folder of the lake that holds it."""
    meaning: str = ""
    sources: tuple[str, ...] = ()
    """What the ETL builds it from."""
    optional: Mapping[str, Field] = field(default_factory=dict)
    """Columns that it may have beside them."""

    @property
    def every(self) -> Mapping[str, Field]:
        """All columns that it may have."""
        return {**self.fields, **self.optional}

    def of(self, columns: Iterable[str]) -> Table:
        """The contract of a table that has these columns: with the optional ones among them."""
        present = {name: self.optional[name] for name in columns if name in self.optional}
        return replace(self, fields={**self.fields, **present})
