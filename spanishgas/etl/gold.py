"""Gold: one row per customer with the label, 64 features, and the margins that are never features."""

from __future__ import annotations

from datetime import date

import ibis.expr.types as ir

from spanishgas import contracts
from spanishgas.etl.engine import Engine
from spanishgas.features import Tiers, add_features, month_features


def master(customers: ir.Table, months: ir.Table, tiers: Tiers, as_of: date, engine: Engine) -> ir.Table:
    """gold_master from the silver tables, its columns in the contract's order."""
    margins = months.group_by("customer_id").agg(
        avg_monthly_margin=months.total_margin.mean(), total_margin_2024=months.total_margin.sum()
    )
    row = customers.left_join(engine.hold("margins", margins), "customer_id").drop("customer_id_right")
    row = row.left_join(engine.hold("month_features", month_features(months)), "customer_id").drop(
        "customer_id_right"
    )
    row = row.mutate(is_urban=row.is_urban.fill_null(0))
    row = add_features(engine.hold("gold_row", row), tiers, as_of)
    row = row.select(*contracts.contract("gold_master").fields)
    return engine.hold("gold_master", row, by=["customer_id"])
