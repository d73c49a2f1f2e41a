"""Tier 1A: where the customer stands in the life of the contract, and how he came."""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from spanishgas.features.formulas import bucket, months_between
from spanishgas.features.registry import over_customer


@over_customer
def months_to_renewal(row: ir.Table, as_of: date) -> ir.Value:
    """Months from as_of to the next renewal, negative once it has passed."""
    return months_between(as_of, row.next_renewal_date)


@over_customer
def renewal_bucket(row: ir.Table, as_of: date) -> ir.Value:
    """A contract that renews on as_of counts as expired."""
    return bucket(row.months_to_renewal, (0, 3, 6, 12), ("expired", "0-3m", "3-6m", "6-12m", "12m+"))


@over_customer
def is_within_3m_of_renewal(row: ir.Table, as_of: date) -> ir.Value:
    """A contract past its renewal is not close to it."""
    return row.months_to_renewal.between(0, 3)


@over_customer
def tenure_months(row: ir.Table, as_of: date) -> ir.Value:
    """Months since the first activation."""
    return months_between(row.customer_first_activation_date, as_of)


@over_customer
def tenure_bucket(row: ir.Table, as_of: date) -> ir.Value:
    """The first bucket includes tenure 0."""
    return bucket(row.tenure_months, (6, 12, 24, 60), ("0-6m", "6-12m", "1-2y", "2-5y", "5y+"))


@over_customer
def is_dual_fuel(row: ir.Table, as_of: date) -> ir.Value:
    """The only definition of dual fuel: some of both in the window."""
    return (row.total_elec_kwh_2024 > 0) & (row.total_gas_m3_2024 > 0)


@over_customer
def portfolio_type(row: ir.Table, as_of: date) -> ir.Value:
    """Segment and number of fuels."""
    return row.segment + ibis.ifelse(row.is_dual_fuel == 1, "_DualFuel", "_SingleFuel")


@over_customer
def is_digital_channel(row: ir.Table, as_of: date) -> ir.Value:
    """Came through either website."""
    return row.is_comparison_channel | row.is_own_website_channel
