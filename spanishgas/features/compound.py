"""Tier 3: flags that hold together what the lower tiers say apart."""

from __future__ import annotations

from datetime import date

import ibis.expr.types as ir

from spanishgas.features.behaviour import PRICING
from spanishgas.features.registry import over_customer


@over_customer
def is_price_sensitive(row: ir.Table, as_of: date) -> ir.Value:
    """Asked about prices."""
    return row.customer_intent == PRICING


@over_customer
def is_high_risk_lifecycle(row: ir.Table, as_of: date) -> ir.Value:
    """At most a year a customer, and at most three months to the renewal or past it."""
    return row.renewal_bucket.isin(("expired", "0-3m")) & row.tenure_bucket.isin(("0-6m", "6-12m"))


@over_customer
def is_competition_x_renewal(row: ir.Table, as_of: date) -> ir.Value:
    """Strong competition, close to the renewal."""
    return row.is_high_competition_province & row.is_within_3m_of_renewal


@over_customer
def dual_fuel_x_renewal(row: ir.Table, as_of: date) -> ir.Value:
    """Both fuels, close to the renewal."""
    return row.is_dual_fuel & row.is_within_3m_of_renewal


@over_customer
def dual_fuel_x_competition(row: ir.Table, as_of: date) -> ir.Value:
    """Both fuels, strong competition."""
    return row.is_dual_fuel & row.is_high_competition_province


@over_customer
def dual_fuel_x_intent(row: ir.Table, as_of: date) -> ir.Value:
    """Both fuels, and a complaint or wish to leave."""
    return row.is_dual_fuel & row.recent_complaint_flag
