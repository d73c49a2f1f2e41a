"""The 64 features of gold: a module per tier, and a row per feature in experiments/tiers.yaml."""

from spanishgas.config.tiers import Tiers

# Importing a tier registers its features.
from spanishgas.features import behaviour, compound, lifecycle, market, risk, sentiment, strings  # noqa: F401
from spanishgas.features.registry import add_features, in_context, levels, load_tiers, month_features

__all__ = ["Tiers", "add_features", "in_context", "levels", "load_tiers", "month_features"]
