"""From gold to a fitted model: matrix, folds, estimators, search, calibration, threshold; and `tune` for any table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spanishgas.training.tuning import TunedClassifier, tune

__all__ = ["TunedClassifier", "tune"]


def __getattr__(name: str) -> Any:
    """`tune` and its class, imported when asked for: they bring the estimators along."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from spanishgas.training import tuning

    return getattr(tuning, name)
