"""Gold: one row per customer with the label, 64 features, and the margins that are never features."""

from __future__ import annotations

from datetime import date

import ibis.expr.types as ir

from spanishgas import contracts
from spanishgas.etl.engines import Engine
from spanishgas.features import Tiers, add_features, in_context, levels, month_features


def master(customers: ir.Table, months: ir.Table, tiers: Tiers, as_of: date, engine: Engine) -> ir.Table:
    """gold_master from the silver tables, its columns in the contract's order."""
    months = engine.materialize("months_in_context", in_context(months), by=["customer_id", "month"])
    margins = {
        "avg_monthly_margin": months.total_margin.mean(),
        "total_margin_2024": months.total_margin.sum(),
    }
    row = customers.left_join(month_features(months, **margins), "customer_id").drop("customer_id_right")
    row = engine.materialize("row", row.mutate(is_urban=row.is_urban.fill_null(0)))
    for number, names in enumerate(levels(row, tiers, as_of)):
        row = engine.materialize(f"row_{number}", add_features(row, tiers, names, as_of))
    row = row.select(*contracts.contract("gold_master", tiers).fields)
    return engine.materialize("gold_master", row, by=["customer_id"])
