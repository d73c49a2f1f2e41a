"""Tier 2B: the mood of the last contact; without one, no flag is set."""

from __future__ import annotations

from operator import and_

from spanishgas.features.registry import as_in_silver, flags, over_pairs

as_in_silver("sentiment_label")
flags({"is_negative_sentiment": ("sentiment_label", "negative")})
over_pairs(and_, {"complaint_x_negative_sentiment": ("recent_complaint_flag", "is_negative_sentiment")})
