"""The 64 features of gold: a function each in the module of its tier, or a line in plain.yaml.

Each has a row in experiments/tiers.yaml.
"""

from spanishgas.config.tiers import Tiers

# Importing a tier registers its features.
from spanishgas.features import behaviour, compound, lifecycle, market, risk  # noqa: F401
from spanishgas.features.registry import add_features, in_context, levels, load_tiers, month_features

__all__ = ["Tiers", "add_features", "in_context", "levels", "load_tiers", "month_features"]
