"""Where earlier versions of the project had the estimators: their artefacts name them by this module."""

from spanishgas.training.families.forest import Forest
from spanishgas.training.families.logistic import Linear
from spanishgas.training.families.xgboost import BoostedTrees

__all__ = ["BoostedTrees", "Forest", "Linear"]
