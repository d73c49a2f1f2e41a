"""Which Arrow type may hold which values: each is read right by Arrow, DuckDB and Spark, or refused by name.

The table for people is in docs/own-data.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from spanishgas.contracts.fields import Field, Kind

DIGITS = 38
"""Digits of the widest decimal that both engines hold; DuckDB multiplies wider ones by powers of 256 without a word."""


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain)
    )


def fits(kind: pa.DataType, field: Field, by_day: bool = False, zoned: bool = False) -> bool:
    """Whether every reader reads values of this type right as those of `field`.

    A time may be a date where readings are told by day; where it must be `zoned`, a timestamp needs a time zone.
    """
    whole = pa.types.is_integer(kind)
    number = whole or pa.types.is_floating(kind) or (pa.types.is_decimal(kind) and kind.precision <= DIGITS)
    naive = pa.types.is_timestamp(kind) and (kind.tz is not None) == (zoned and field.kind is Kind.TIME)
    day = naive or pa.types.is_date(kind)
    others = {
        Kind.TEXT: whole if field.required else number,
        Kind.TIME: naive or (by_day and pa.types.is_date(kind)),
        Kind.DAY: day,
        Kind.MONTH: day,
        Kind.FLAG: number or pa.types.is_boolean(kind),
    }
    return is_text(kind) or bool(others.get(field.kind, number))


def misfits(
    schema: pa.Schema, columns: Mapping[str, Field], by_day: bool = False, zoned: bool = False
) -> list[str]:
    """A fault for each of `columns` whose type in the file does not fit."""
    naive = "a timestamp without time zone, or 'clock: offset' in mapping.yaml"
    words = {
        Kind.TIME: "a timestamp with time zone (clock: offset)" if zoned else naive,
        Kind.NUMBER: f"a number (decimals: of up to {DIGITS} digits)",
    }
    return [
        f"column '{name}' is {kind}, expected {words.get(field.kind, field.kind.words)}"
        for name, field in columns.items()
        if not fits(kind := schema.field(name).type, field, by_day, zoned)
    ]
