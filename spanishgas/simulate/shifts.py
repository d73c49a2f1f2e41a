"""Changes of a later extract on top of ageing, each with a strength: `prices`, `prices:0.5`, `prices+concept:2`.

prices    prices of the last three months rise by 15 % x strength
channels  40 % x strength of the sales force's customers come through a comparison site instead
province  10 % x strength of the customers live in a province that no earlier extract had
concept   other reasons to churn: competition bites (1 + strength) times, loyalty fades to nothing, the price
          trend turns round from strength 0.5 on
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.errors import UsageError
from spanishgas.simulate.churn import PUBLISHED, Coefficients
from spanishgas.simulate.population import CHANNELS, NEW_PROVINCE

NAMES = ("none", "prices", "channels", "province", "concept")
STRONGEST = 2.0


@dataclass(frozen=True)
class Shift:
    """Named changes, each with its strength; none changes nothing."""

    strengths: Mapping[str, float]

    @classmethod
    def of(cls, words: str) -> Shift:
        """`name` or `name:strength`, several joined by `+`; UsageError for another name, or a strength outside 0 to 2.

        >>> Shift.of("prices"), Shift.of("prices+concept:0.5")
        (Shift(strengths={'prices': 1.0}), Shift(strengths={'prices': 1.0, 'concept': 0.5}))
        """
        return cls(dict(_part(part) for part in words.split("+")))

    def scale(self, name: str) -> float:
        """The strength of the change `name`, 0 without it."""
        return self.strengths.get(name, 0.0)

    def raised(self) -> float:
        """Factor of the prices of the last three months."""
        return 1 + 0.15 * self.scale("prices")

    def moved(self, people: pd.DataFrame, luck: NDArray[np.float64]) -> pd.DataFrame:
        """`people` with the channels and provinces of those whose `luck` (uniform draws) is low changed."""
        sold = people["channel"] == CHANNELS.index("presencial_comercial")
        channel = people["channel"].mask(
            sold & (luck < 0.4 * self.scale("channels")), CHANNELS.index("comparador")
        )
        province = people["province"].mask(luck < 0.1 * self.scale("province"), NEW_PROVINCE)
        return people.assign(channel=channel, province=province)

    def coefficients(self, base: Coefficients = PUBLISHED) -> Coefficients:
        """The reasons to churn."""
        strength, tenure = self.scale("concept"), base["tenure"]
        return {
            **base,
            "competition": (1 + strength) * base["competition"],
            "tenure": np.where(tenure < -5, tenure, max(1 - strength, 0.0) * tenure),
            "trend": (1 - 2 * strength) * base["trend"],
        }


def _part(words: str) -> tuple[str, float]:
    name, colon, number = words.partition(":")
    if name not in NAMES:
        raise UsageError.unknown("shift", name, NAMES)
    try:
        strength = float(number) if colon else 1.0
    except ValueError:
        strength = np.nan
    if not 0 <= strength <= STRONGEST:
        raise UsageError(
            f"the strength of shift '{words}' must be a number from 0 to {STRONGEST:g}, but got '{number}': "
            f"give {name}:0.5 for half of it"
        )
    return name, strength
