"""Tier 2B: the mood of the last contact."""

from __future__ import annotations

from datetime import date

import ibis.expr.types as ir

from spanishgas.features.registry import over_customer


@over_customer
def sentiment_label(row: ir.Table, as_of: date) -> ir.Value:
    """As silver has it."""
    return row.sentiment_label


@over_customer
def is_negative_sentiment(row: ir.Table, as_of: date) -> ir.Value:
    """0 without an interaction."""
    return row.sentiment_label == "negative"


@over_customer
def complaint_x_negative_sentiment(row: ir.Table, as_of: date) -> ir.Value:
    """A complaint or wish to leave, in a negative tone."""
    return row.recent_complaint_flag & row.is_negative_sentiment
