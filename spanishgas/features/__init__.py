"""The 64 features of gold: a module per tier, a function per feature, a row per feature in experiments/tiers.yaml."""

from spanishgas.contracts.dictionary import Tiers

# Importing a tier registers its features.
from spanishgas.features import behaviour, compound, lifecycle, market, risk, sentiment, strings
from spanishgas.features.registry import add_features, load_tiers, month_features

__all__ = [
    "Tiers",
    "add_features",
    "behaviour",
    "compound",
    "lifecycle",
    "load_tiers",
    "market",
    "month_features",
    "risk",
    "sentiment",
    "strings",
]
