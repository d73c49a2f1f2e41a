"""The map of an adopted table: which of its columns become which features, read strictly from table.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from spanishgas.config.reading import Names, Strict, Text, read
from spanishgas.settings import settings

FILE = "table.yaml"


def of_adopted() -> bool:
    """Whether the experiments that verbs read are of an adopted table."""
    return (settings().experiments / FILE).exists()


def bring_labels() -> str:
    """What brings newer labels, for messages."""
    if of_adopted():
        return "bring a later table with its target (spanishgas adopt)"
    return "bring a later extract with churn_label.csv (spanishgas etl)"


class Target(Strict):
    """The column that says who left, and its two labels as text."""

    column: Text
    churns: str
    stays: str


class TableColumn(Strict):
    """One column of the table that is a feature."""

    column: Text
    read: Literal["number", "text", "days"]
    """As numbers, as text, or as dates, of which the days before as-of count."""
    keep: list[str] | None = None
    """The values of a text that are told apart; all others are one value, (rare). All are, if None."""


class TableMap(Strict):
    """What each column of an adopted table is."""

    id: Text
    target: Target
    value: Text | None = None
    """The column with the margin that a customer brings a month, in EUR."""
    columns: dict[Text, TableColumn] = Field(min_length=1)
    """Columns by the name of their feature in tiers.yaml."""
    left_out: dict[str, str] = {}
    """Columns that are no features, with the reason; `without` are those that were named to be left out."""
    without: Names = []


def read_map(folder: Path) -> TableMap:
    """The map in an adopted table's experiments folder; UsageError where there is none."""
    return read(folder / FILE, TableMap, "name the folder that spanishgas adopt wrote, with --out")
