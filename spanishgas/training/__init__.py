"""From gold to a fitted model: matrix, folds, estimators, search, calibration, threshold; `tune`, `tune_uplift`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spanishgas.training.tuning import TunedClassifier, tune
    from spanishgas.training.uplift import UpliftModel, tune_uplift

__all__ = ["TunedClassifier", "UpliftModel", "tune", "tune_uplift"]


def __getattr__(name: str) -> Any:
    """`tune`, `tune_uplift` and their classes, imported when asked for: they bring the estimators along."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spanishgas.training import tuning, uplift

    return getattr(uplift if "plift" in name else tuning, name)
