"""Tier 3: flags that hold together what the lower tiers say apart."""

from __future__ import annotations

from datetime import date
from operator import and_

import ibis.expr.types as ir

from spanishgas.features.behaviour import PRICING
from spanishgas.features.registry import flags, over_customer, over_pairs

flags({"is_price_sensitive": ("customer_intent", PRICING)})


@over_customer
def is_high_risk_lifecycle(row: ir.Table, as_of: date) -> ir.Value:
    """At most a year a customer, and at most three months to the renewal or past it."""
    return row.renewal_bucket.isin(("expired", "0-3m")) & row.tenure_bucket.isin(("0-6m", "6-12m"))


over_pairs(
    and_,
    {
        "is_competition_x_renewal": ("is_high_competition_province", "is_within_3m_of_renewal"),
        "dual_fuel_x_renewal": ("is_dual_fuel", "is_within_3m_of_renewal"),
        "dual_fuel_x_competition": ("is_dual_fuel", "is_high_competition_province"),
        "dual_fuel_x_intent": ("is_dual_fuel", "recent_complaint_flag"),
    },
)
