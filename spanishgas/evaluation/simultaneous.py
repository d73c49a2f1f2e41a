"""Two samples side by side: the interval of their difference, wide enough for many comparisons at once.

Both samples are finite, so both errors count. With `m` comparisons at 1 - (1 - 0.05)^(1/m) each (Sidak), all intervals
hold together with at least 95 % for figures that are independent or positively dependent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TypeVar

import numpy as np
from scipy.stats import norm

CONFIDENCE = 0.95
Test = TypeVar("Test")


@dataclass(frozen=True)
class Interval:
    """Bounds of the difference drawn - published."""

    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether no difference at all lies within."""
        return self.low <= 0 <= self.high


def critical(comparisons: int) -> float:
    """Standard errors to either side of each of `comparisons` intervals that are to hold together.

    >>> round(critical(1), 2), round(critical(40), 2)
    (1.96, 3.22)
    """
    return float(norm.isf((1 - CONFIDENCE ** (1 / comparisons)) / 2))


def wilson(k: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval of a share (Wilson 1927); exact ends at 0 and n."""
    middle, half = k + z * z / 2, z * sqrt(k * (n - k) / n + z * z / 4)
    low, high = (middle - half) / (n + z * z), (middle + half) / (n + z * z)
    return (0.0 if k == 0 else low), (1.0 if k == n else high)


def holm(raw: Mapping[Test, float]) -> dict[Test, float]:
    """P-values that may all be compared with one level, however many tests there were (Holm 1979)."""
    order = sorted(raw, key=lambda test: raw[test])
    steps = [min(1.0, raw[test] * (len(order) - rank)) for rank, test in enumerate(order)]
    adjusted = dict(zip(order, np.maximum.accumulate(steps).tolist(), strict=True)) if order else {}
    return {test: adjusted[test] for test in raw}


def shares(drawn: float, of: float, published: float, n: float, z: float) -> Interval:
    """Difference of two shares, drawn / of - published / n, by Newcombe's method 10 (1998) from Wilson's intervals."""
    p, q = drawn / of, published / n
    (p_low, p_high), (q_low, q_high) = wilson(drawn, of, z), wilson(published, n, z)
    low = p - q - sqrt((p - p_low) ** 2 + (q_high - q) ** 2)
    return Interval(low, p - q + sqrt((p_high - p) ** 2 + (q - q_low) ** 2))


def means(
    drawn: float, sd: float, of: float, published: float, published_sd: float, n: float, z: float
) -> Interval:
    """Difference of two means, each with its own deviation (Welch)."""
    half = z * sqrt(sd**2 / of + published_sd**2 / n)
    return Interval(drawn - published - half, drawn - published + half)
