"""Tier MP_CORE: what the customer uses, pays and costs, over the window's months."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from spanishgas.features.registry import over_months

PRICE_STEP_EUR_KWH = 0.001
"""A smaller move of the tier-1 price is no price update."""


@over_months
def avg_monthly_elec_kwh(months: ir.Table) -> ir.Value:
    """Mean electricity of a month."""
    return months.monthly_elec_kwh.mean()


@over_months
def total_elec_kwh_2024(months: ir.Table) -> ir.Value:
    """Electricity of the window."""
    return months.monthly_elec_kwh.sum()


@over_months
def avg_monthly_gas_m3(months: ir.Table) -> ir.Value:
    """Mean gas of a month."""
    return months.monthly_gas_m3.mean()


@over_months
def total_gas_m3_2024(months: ir.Table) -> ir.Value:
    """Gas of the window."""
    return months.monthly_gas_m3.sum()


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


@over_months
def province_avg_elec_cost_2024(months: ir.Table) -> ir.Value:
    """Mean variable cost of electricity in the customer's province."""
    return months.elec_var_cost_eur_kwh.mean()


@over_months
def province_avg_gas_cost_2024(months: ir.Table) -> ir.Value:
    """Mean variable cost of gas in the customer's province."""
    return months.gas_var_cost_eur_m3.mean()
