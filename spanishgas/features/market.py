"""Tier MP_CORE: what the customer uses, pays and costs, over the window's months."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from spanishgas.features.registry import over_months

PRICE_STEP_EUR_KWH = 0.001
"""A smaller move of the tier-1 price is no price update."""


@over_months
def gas_share_of_revenue(months: ir.Table) -> ir.Value:
    """Share of the window's sums; the fixed part is monthly already. 0 without revenue."""
    gas, total = (months.gas_revenue_variable + months.gas_revenue_fixed).sum(), months.total_revenue.sum()
    return ibis.ifelse(total > 0, gas / total.nullif(0), 0.0)


@over_months
def price_update_count(months: ir.Table) -> ir.Value:
    """Moves between neighbouring rows; a pair with a missing price does not count."""
    moved = (months.raw_price_tier1_eur_kwh - months.previous_price).abs() > PRICE_STEP_EUR_KWH
    return moved.fill_null(False).cast("int64").sum()
