"""Tier 1B: pairs of values as one string, so that a linear model sees them together."""

from __future__ import annotations

from spanishgas.features.formulas import cross
from spanishgas.features.registry import over_pairs

over_pairs(
    cross,
    {
        "intent_x_renewal_bucket": ("customer_intent", "renewal_bucket"),
        "intent_x_tenure_bucket": ("customer_intent", "tenure_bucket"),
        "intent_x_sentiment": ("customer_intent", "sentiment_label"),
        "sentiment_x_renewal_bucket": ("sentiment_label", "renewal_bucket"),
        "tenure_x_renewal_bucket": ("tenure_bucket", "renewal_bucket"),
        "sales_channel_x_renewal_bucket": ("sales_channel", "renewal_bucket"),
        "has_interaction_x_renewal_bucket": ("has_interaction", "renewal_bucket"),
        "competition_x_intent": ("is_high_competition_province", "customer_intent"),
    },
)
