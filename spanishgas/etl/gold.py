"""Gold: one row per customer with the label, 64 features, and the margins that are never features."""

from __future__ import annotations

from datetime import date

import ibis.expr.types as ir

from spanishgas import contracts
from spanishgas.etl.engine import Engine
from spanishgas.features import Tiers, add_features, in_context, month_features


def master(customers: ir.Table, months: ir.Table, tiers: Tiers, as_of: date, engine: Engine) -> ir.Table:
    """gold_master from the silver tables, its columns in the contract's order."""
    months = engine.hold("months_in_context", in_context(months), by=["customer_id", "month"])
    margins = months.group_by("customer_id").agg(
        avg_monthly_margin=months.total_margin.mean(), total_margin_2024=months.total_margin.sum()
    )
    row = customers
    for name, part in {"margins": margins, "month_features": month_features(months)}.items():
        row = row.left_join(engine.hold(name, part), "customer_id").drop("customer_id_right")
    row = row.mutate(is_urban=row.is_urban.fill_null(0))
    for tier in tiers.tiers:  # a feature may stand on any before it: held by tier, no query nests 64 deep
        row = engine.hold(f"row_{tier}", add_features(row, tiers, tier, as_of))
    row = row.select(*contracts.contract("gold_master", tiers).fields)
    return engine.hold("gold_master", row, by=["customer_id"])
