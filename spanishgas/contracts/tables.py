"""What each table guarantees, from the seven raw files (after typed parsing) on: tables.yaml declares it.

seven raw files -> bronze_customer, bronze_customer_month -> silver_* -> gold_master -> scores -> recommendations
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spanishgas.config.reading import packaged
from spanishgas.config.tiers import Entry, Tiers
from spanishgas.contracts.fields import Field, Kind, Table

_DECLARED = packaged(__file__)


def _table(
    columns: list[str], *, layer: str = "raw", but: dict[str, Any] | None = None, **more: Any
) -> Table:
    names, declared = [*columns, *more.get("optional", [])], _DECLARED["columns"]
    every = {name: _field(**declared[name] | (but or {}).get(name, {})) for name in names}
    beside = {name: every.pop(name) for name in more.pop("optional", [])}
    lists = {name: tuple(value) for name, value in more.items() if isinstance(value, list)}
    return Table(every, closed=layer != "raw", layer=layer, optional=beside, **more | lists)


def _field(kind: str, values: list[str] | None = None, **limits: Any) -> Field:
    return Field(Kind[kind.upper()], values=tuple(values) if values else None, **limits)


TABLES: Mapping[str, Table] = {name: _table(**table) for name, table in _DECLARED["tables"].items()}
RAW: Mapping[str, Table] = {name: table for name, table in TABLES.items() if table.layer == "raw"}
DERIVED: Mapping[str, Table] = {name: table for name, table in TABLES.items() if table.layer != "raw"}
"""In the order in which they are made; gold_master without its features, which `gold` adds."""
LAYERS: Mapping[str, str] = {name: table.layer for name, table in DERIVED.items()}
"""The folder of the lake that each table lies in."""

PRICES = tuple(RAW["price_history"].fields)[2:]
COSTS = tuple(RAW["costs_by_province_month"].fields)[2:]
LARGEST_READING: float = _DECLARED["columns"]["consumption_elec_kwh"]["high"]
"""One hour's value (kWh, m3) that is no reading any more."""
PERIODS = ("tier_1_peak", "tier_2_standard", "tier_3_offpeak")
CHANNELS: Mapping[str, str] = _DECLARED["channels"]
"""The source's sales channels and the names that gold gives them."""
SEGMENTS, SENTIMENTS, INTENTS = (
    tuple[str, ...](_DECLARED["columns"][name]["values"])
    for name in ("segment", "sentiment_label", "customer_intent")
)


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
