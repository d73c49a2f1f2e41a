"""Tier 2A: what the customer last said, and when."""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from spanishgas.features.formulas import days_between, months_between
from spanishgas.features.registry import over_customer

CANCELLATION, COMPLAINT, PRICING = "Cancellation / Switch", "Complaint / Escalation", "Pricing Offers"


@over_customer
def has_interaction(row: ir.Table, as_of: date) -> ir.Value:
    """An interaction exists, with or without text."""
    return row.interaction_date.notnull()


@over_customer
def recent_complaint_flag(row: ir.Table, as_of: date) -> ir.Value:
    """Complains or wants to leave."""
    return row.is_cancellation_intent | row.is_complaint_intent


@over_customer
def intent_severity_score(row: ir.Table, as_of: date) -> ir.Value:
    """3 cancels, 2 complains, 1 asks for prices, else 0."""
    intent = row.customer_intent
    return ibis.cases((intent == CANCELLATION, 3), (intent == COMPLAINT, 2), (intent == PRICING, 1), else_=0)


@over_customer
def last_interaction_days_ago(row: ir.Table, as_of: date) -> ir.Value:
    """Days since the interaction; null without one."""
    return days_between(row.interaction_date, as_of)


@over_customer
def interaction_within_3m_of_renewal(row: ir.Table, as_of: date) -> ir.Value:
    """The contact came at most three months before the renewal."""
    return months_between(row.interaction_date, row.next_renewal_date).between(0, 3)


@over_customer
def is_interaction_within_30d_of_renewal(row: ir.Table, as_of: date) -> ir.Value:
    """The contact came at most 30 days before the renewal."""
    return months_between(row.interaction_date, row.next_renewal_date).between(0, 1)


@over_customer
def complaint_near_renewal(row: ir.Table, as_of: date) -> ir.Value:
    """The complaint came at most three months before the renewal."""
    return row.recent_complaint_flag & row.interaction_within_3m_of_renewal


@over_customer
def months_since_last_change(row: ir.Table, as_of: date) -> ir.Value:
    """Months since the product last changed; null where it never did."""
    return months_between(row.last_product_change_date, as_of)
