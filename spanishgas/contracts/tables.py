"""What each table guarantees, from the seven raw files (after typed parsing) on: tables.yaml declares it.

seven raw files -> bronze_customer, bronze_customer_month -> silver_* -> gold_master -> scores -> recommendations
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from spanishgas.config.reading import packaged
from spanishgas.config.tariff import tariff
from spanishgas.config.tiers import Entry, Tiers
from spanishgas.contracts.fields import Field, Kind, Table

_DECLARED = packaged(__file__)


def _table(
    periods: Mapping[str, str],
    columns: list[str],
    *,
    layer: str = "raw",
    but: dict[str, Any] | None = None,
    **more: Any,
) -> Table:
    fields = {
        name: _field(**_DECLARED["columns"][column] | (but or {}).get(column, {}) | means)
        for column in columns
        for name, means in _named(column, periods)
    }
    lists = {name: tuple(value) for name, value in more.items() if isinstance(value, list)}
    return Table(fields, closed=layer != "raw", layer=layer, **more | lists)


def _named(column: str, periods: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The column's name, or one for each tariff period with what it means, if it means something."""
    meaning = _DECLARED["columns"][column].get("meaning", "")
    if not _OF_PERIODS.search(column):
        yield column, {}
        return
    for number, (period, words) in enumerate(periods.items(), 1):
        told = {"meaning": meaning.replace("<meaning>", words)} if meaning else {}
        yield column.replace("<period>", period).replace("<number>", str(number)), told


def _field(kind: str, values: list[str] | None = None, **limits: Any) -> Field:
    return Field(Kind[kind.upper()], values=tuple(values) if values else None, **limits)


@cache
def _made(name: str, periods: tuple[tuple[str, str], ...]) -> Table:
    return _table(dict(periods), **_DECLARED["tables"][name])


class Declared(Mapping[str, Table]):
    """Tables by name, with columns for the tariff periods that are applied when one is looked up."""

    def __init__(self, *, raw: bool | None = None) -> None:
        self._names = [
            name for name, table in _DECLARED["tables"].items() if raw in (None, "layer" not in table)
        ]

    def __getitem__(self, name: str) -> Table:
        of_periods = _OF_PERIODS.search(str(_DECLARED["tables"][name]["columns"]))
        return _made(name, tuple(tariff().periods.items()) if of_periods else ())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


_OF_PERIODS = re.compile("<period>|<number>")
TABLES, RAW, DERIVED = Declared(), Declared(raw=True), Declared(raw=False)
"""DERIVED is in the order in which they are made; gold_master without its features, which `gold` adds."""
LAYERS: Mapping[str, str] = {name: _DECLARED["tables"][name]["layer"] for name in DERIVED}
"""The folder of the lake that each table lies in."""

COSTS = tuple(RAW["costs_by_province_month"].fields)[2:]
LARGEST_READING: float = _DECLARED["columns"]["consumption_elec_kwh"]["high"]
"""One hour's value (kWh, m3) that is no reading any more."""
CHANNELS: Mapping[str, str] = _DECLARED["channels"]
"""The source's sales channels and the names that gold gives them."""
SEGMENTS, SENTIMENTS, INTENTS = (
    tuple[str, ...](_DECLARED["columns"][name]["values"])
    for name in ("segment", "sentiment_label", "customer_intent")
)


def price_columns() -> list[str]:
    """Every price and fee of the price file."""
    return list(RAW["price_history"].fields)[2:]


def gold(tiers: Tiers) -> Table:
    """The contract of gold_master: six columns beside the features of the data dictionary, in its order."""
    beside = DERIVED["gold_master"]
    return replace(
        beside, fields={**beside.fields, **{name: _feature(tiers.entry(name)) for name in tiers.features()}}
    )


def _feature(entry: Entry) -> Field:
    if entry.kind == "flag":
        return Field(Kind.FLAG, required=True)
    if entry.kind == "numeric":
        kind = Kind.COUNT if entry.whole else Kind.NUMBER
        return Field(kind, required=entry.whole, low=entry.low, high=entry.high, max_null=entry.max_null)
    return Field(
        Kind.TEXT,
        required=entry.kind == "cross",
        values=tuple(entry.values) if entry.values else None,
        max_null=entry.max_null,
    )
