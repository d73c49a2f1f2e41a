"""From gold to a fitted model: matrix, folds, estimators, search, calibration, threshold."""
