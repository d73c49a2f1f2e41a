"""Tier 1B: pairs of values as one string, so that a linear model sees them together."""

from __future__ import annotations

from datetime import date

import ibis.expr.types as ir

from spanishgas.features.formulas import cross
from spanishgas.features.registry import over_customer


@over_customer
def intent_x_renewal_bucket(row: ir.Table, as_of: date) -> ir.Value:
    """Subject of contact, time to renewal."""
    return cross(row.customer_intent, row.renewal_bucket)


@over_customer
def intent_x_tenure_bucket(row: ir.Table, as_of: date) -> ir.Value:
    """Subject of contact, time as a customer."""
    return cross(row.customer_intent, row.tenure_bucket)


@over_customer
def intent_x_sentiment(row: ir.Table, as_of: date) -> ir.Value:
    """Subject and mood of contact."""
    return cross(row.customer_intent, row.sentiment_label)


@over_customer
def sentiment_x_renewal_bucket(row: ir.Table, as_of: date) -> ir.Value:
    """Mood of contact, time to renewal."""
    return cross(row.sentiment_label, row.renewal_bucket)


@over_customer
def tenure_x_renewal_bucket(row: ir.Table, as_of: date) -> ir.Value:
    """Time as a customer, time to renewal."""
    return cross(row.tenure_bucket, row.renewal_bucket)


@over_customer
def sales_channel_x_renewal_bucket(row: ir.Table, as_of: date) -> ir.Value:
    """Sales channel, time to renewal."""
    return cross(row.sales_channel, row.renewal_bucket)


@over_customer
def has_interaction_x_renewal_bucket(row: ir.Table, as_of: date) -> ir.Value:
    """Contact or none, time to renewal."""
    return cross(row.has_interaction, row.renewal_bucket)


@over_customer
def competition_x_intent(row: ir.Table, as_of: date) -> ir.Value:
    """Competition, subject of contact."""
    return cross(row.is_high_competition_province, row.customer_intent)
