"""The decision threshold, chosen on out-of-fold probabilities of the calibrated scale: the one that it is applied to.

- recall_floor: the highest precision among the thresholds whose recall, by its lower confidence bound, meets the floor
- expected_value: contact where the expected value is not negative, p * acceptance * uplift * margin kept >= cost
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import precision_recall_curve

from spanishgas.config.policy import Retention, Threshold, ThresholdRule

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
FACTORS = (0.5, 1.0, 2.0)


def choose_threshold(probability: Array, y: Labels, policy: Threshold) -> float:
    """The threshold that the policy's rule asks for."""
    if policy.rule is ThresholdRule.EXPECTED_VALUE:
        return break_even(policy.retention)
    return recall_floor(probability, y, policy.min_recall, policy.confidence)


def recall_floor(probability: Array, y: Labels, min_recall: float, confidence: float) -> float:
    """The threshold of highest precision among those whose recall surely reaches `min_recall`; the higher on a tie.

    Surely: its lower bound after Clopper & Pearson (1934), one-sided. Where too few positives could ever show it, the
    lowest threshold, which flags them all.
    """
    precision, recall, thresholds = precision_recall_curve(y, probability)
    positives = int(y.sum())
    hits = np.rint(recall[:-1] * positives)
    fits = np.flatnonzero(recall_bound(hits, positives, confidence) >= min_recall)
    if len(fits) == 0:
        return float(thresholds[0])
    best = fits[np.flatnonzero(precision[fits] == precision[fits].max())[-1]]
    return float(thresholds[best])


def recall_bound(hits: Array, positives: int, confidence: float) -> Array:
    """One-sided lower bound of the recall behind `hits` of `positives`."""
    bound: Array = np.nan_to_num(stats.beta.ppf(1 - confidence, hits, positives - hits + 1))
    return bound


def break_even(retention: Retention) -> float:
    """The probability of churn from which a contact pays for itself; 1 where none does.

    On calibrated probabilities no other threshold has a greater expected value.
    """
    worth = retention.acceptance * retention.uplift * retention.kept_customer_eur
    return min(1.0, retention.contact_cost_eur / worth)


def sensitivity(probability: Array, y: Labels, retention: Retention) -> pd.DataFrame:
    """What the threshold of greatest value becomes as each assumption is halved and doubled, one at a time.

    A row per assumption and factor: value assumed, threshold, flagged, precision, recall, and EUR by the labels per
    1,000 customers. Shares stop at 1.
    """
    rows = []
    for name in Retention.model_fields:
        for factor in FACTORS:
            value = float(getattr(retention, name)) * factor
            if name in ("acceptance", "uplift"):
                value = min(1.0, value)
            rows.append(
                {"assumption": name, "value": value}
                | _outcome(probability, y, retention.model_copy(update={name: value}))
            )
    return pd.DataFrame(rows)


def _outcome(probability: Array, y: Labels, retention: Retention) -> dict[str, float]:
    threshold = break_even(retention)
    flag = probability >= threshold
    kept = y[flag].sum() * retention.acceptance * retention.uplift * retention.kept_customer_eur
    earned = kept - flag.sum() * retention.contact_cost_eur
    return {
        "threshold": threshold,
        "flagged": int(flag.sum()),
        "precision": float(y[flag].mean()) if flag.any() else 0.0,
        "recall": float(y[flag].sum() / y.sum()),
        "EUR per 1,000": float(1000 * earned / len(y)),
    }
