"""Tier MP_RISK: volatility and trend over the window. Prices are the raw ones: an imputed price has no trend."""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from spanishgas.features.formulas import change, first_of, last_of
from spanishgas.features.registry import over_customer, over_months


@over_months
def active_months_count(months: ir.Table) -> ir.Value:
    """Months with at least one hour."""
    return months.count()


@over_months
def max_negative_margin(months: ir.Table) -> ir.Value:
    """A number of months, whatever the source's name says."""
    return (months.total_margin < 0).cast("int64").sum()


@over_months
def elec_price_trend_12m(months: ir.Table) -> ir.Value:
    """Relative change from the first to the last tier-1 price."""
    return _trend(months, months.raw_price_tier1_eur_kwh)


@over_months
def gas_price_trend_12m(months: ir.Table) -> ir.Value:
    """The same for gas, of customers who use it."""
    return ibis.ifelse(months.uses_gas.max() == 1, _trend(months, months.raw_gas_price_eur_m3), None)


@over_months
def province_elec_cost_trend(months: ir.Table) -> ir.Value:
    """Relative change from the first month's cost to the last; null where either is missing."""
    cost = months.elec_var_cost_eur_kwh
    return change(cost.max(where=months.position == 0), cost.max(where=months.recency == 0))


@over_months
def elec_price_vs_province_cost_spread(months: ir.Table) -> ir.Value:
    """Last tier-1 price above the province's mean cost, EUR/kWh."""
    return last_of(months.raw_price_tier1_eur_kwh, months.month) - months.elec_var_cost_eur_kwh.mean()


@over_customer
def is_price_increase(row: ir.Table, as_of: date) -> ir.Value:
    """The tier-1 price ended above where it began."""
    return row.elec_price_trend_12m > 0


@over_months
def rolling_margin_trend(months: ir.Table) -> ir.Value:
    """Mean margin of the last three months less that of the three before; null without six."""
    recent = months.total_margin.mean(where=months.recency < 3)
    before = months.total_margin.mean(where=months.recency.between(3, 5))
    return ibis.ifelse(months.count() >= 6, recent - before, None)


def _trend(months: ir.Table, price: ir.Column) -> ir.Value:
    trend = change(first_of(price, months.month), last_of(price, months.month))
    return ibis.ifelse(price.count() >= 2, trend, None)
