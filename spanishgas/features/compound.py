"""Tier 3: flags that hold together what the lower tiers say apart."""

from __future__ import annotations

from datetime import date

import ibis.expr.types as ir

from spanishgas.features.registry import over_customer


@over_customer
def is_high_risk_lifecycle(row: ir.Table, as_of: date) -> ir.Value:
    """At most a year a customer, and at most three months to the renewal or past it."""
    return row.renewal_bucket.isin(("expired", "0-3m")) & row.tenure_bucket.isin(("0-6m", "6-12m"))
