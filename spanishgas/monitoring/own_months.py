"""What a utility's own months say of its baseline variation: how far each part's share moves between them.

Dividing the customers of one history at random shows how chance among customers moves a share, which shrinks with
their number. It cannot show what befalls all of them alike, such as a cold month or a rise of all prices, which does
not shrink. That is seen between a utility's own months, and nowhere else. Per part:

    trend      mean change a month beyond what the record expects, taken no further than the months reach
    variance   of a change over `lag` months: the mean squared change beyond the trend and chance among customers, times
               lag / distance, between neighbouring months or months half the history apart, whichever is larger. A
               random walk grows by that factor, what returns to its level more slowly; a season is widest at half a
               year

A trend of few months is itself uncertain, by what befalls all and by chance, which grows with the lag. Before the first
months the bound of the record stands in, `Baseline.common`: what shocks common to all customers do. It fades until the
`MONTHS` are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.lake import Lake, Snapshot
from spanishgas.monitoring.baseline import Baseline, month_of, months_between
from spanishgas.monitoring.parts import shares

Floats = NDArray[np.float64]
MONTHS = 12
"""Own months from which the false-alarm rate is promised."""


def monthly(lake: Lake, before: date) -> tuple[Snapshot, ...]:
    """Gold of the as-of dates before that one, oldest first; of dates within a month the first."""
    taken: list[Snapshot] = []
    for day in lake.dates("gold_master"):
        if day < before and (not taken or months_between(taken[-1].manifest.as_of, day)):
            taken.append(lake.current("gold_master", day))
    return tuple(taken)


@dataclass(frozen=True)
class OwnMonths:
    """Shares of the utility's customers in the parts of one reference: a row per as-of date, oldest first."""

    shares: pd.DataFrame

    @classmethod
    def of(
        cls,
        months: Sequence[Snapshot],
        reference: pd.DataFrame,
        kinds: Mapping[str, str],
        prepared: Callable[[pd.DataFrame], pd.DataFrame],
    ) -> OwnMonths:
        """The months whose tables have every input of `kinds`, made ready as the `reference` was."""
        rows = {}
        for month in months:
            if set(kinds) <= set(month.dataset().schema.names):
                table = prepared(month.pandas(["customer_id", *kinds]).set_index("customer_id"))
                rows[month.manifest.as_of] = shares(reference, table, kinds)["after"]
        return cls(pd.DataFrame(rows).T.fillna(0.0) if rows else pd.DataFrame())

    @property
    def seen(self) -> int:
        """Months on record."""
        return len(self.shares)

    @property
    def calibrated(self) -> bool:
        """Whether they suffice for the false-alarm rate to be promised."""
        return self.seen >= MONTHS

    @property
    def freedom(self) -> int:
        """Changes between neighbouring months, less the one that the trend takes."""
        return max(self.seen - 2, 0)

    @property
    def ignorance(self) -> float:
        """The weight of what is assumed before own months have shown it, from 1 down to 0."""
        return max(0.0, 1 - self.freedom / (MONTHS - 2))

    def variation(self, baseline: Baseline, parts: pd.Index[Any], customers: float, lag: int) -> pd.DataFrame:
        """Trend over `lag` months, variance of what befalls all, and what of it is measured (`own`), by part."""
        bound = baseline.bound(parts)
        if not self.freedom:
            return pd.DataFrame({"trend": 0.0, "variance": bound**2, "own": 0.0}, index=parts)
        weight, months = 1 - self.ignorance, self._distance(0, self.seen - 1)
        rows = self.shares.reindex(columns=parts, fill_value=0.0)
        change, spread = self._change(0, self.seen - 1, baseline, rows)
        trend, of_chance = change / months, baseline.customers / customers
        widest = np.zeros(len(parts))
        for distance, changes in self._by_distance(baseline, rows, months):
            beyond = np.mean([(change - distance * trend) ** 2 for change, _ in changes], axis=0)
            chance = of_chance * np.mean([spread**2 for _, spread in changes], axis=0)
            widest = np.maximum(widest, np.maximum(beyond - chance, 0.0) * max(lag, 1) / distance)
        own = weight * widest * (self.freedom + 1) / self.freedom * (1 + lag / months)
        astray = of_chance * (weight * min(lag / months, 1) * spread) ** 2
        variance = own + astray + self.ignorance * bound**2
        reached = weight * min(lag, months) * trend
        return pd.DataFrame({"trend": reached, "variance": variance, "own": own}, index=parts)

    def _by_distance(
        self, baseline: Baseline, rows: pd.DataFrame, months: int
    ) -> Iterator[tuple[int, list[tuple[Floats, Floats]]]]:
        """Changes between neighbouring tables, and between those half of all months apart, by their distance."""
        by_distance: dict[int, list[tuple[Floats, Floats]]] = {}
        for i, j in combinations(range(self.seen), 2):
            if j == i + 1 or self._distance(i, j) == months // 2:
                by_distance.setdefault(self._distance(i, j), []).append(self._change(i, j, baseline, rows))
        yield from by_distance.items()

    def _distance(self, i: int, j: int) -> int:
        return max(months_between(self.date(i), self.date(j)), 1)

    def date(self, at: int) -> date:
        """As-of date of the month at that place."""
        day: date = self.shares.index[at]
        return day

    def _change(self, i: int, j: int, baseline: Baseline, rows: pd.DataFrame) -> tuple[Floats, Floats]:
        """Change of each part's share beyond what the record expects, and its spread by chance among customers."""
        moments = baseline.moments_of(month_of(self.date(i)), self._distance(i, j)).reindex(rows.columns)
        change = rows.iloc[j].to_numpy() - rows.iloc[i].to_numpy()
        return change - moments["expected"].fillna(0.0).to_numpy(), moments["spread"].fillna(0.0).to_numpy()


def described(own: OwnMonths, baseline: Baseline, customers: int) -> pd.DataFrame:
    """How far a month moves each input, in per cent of the customers: its widest part, the widest input first.

    Columns: input, all alike (one standard deviation), of it measured, and chance among so many customers.
    """
    parts = own.shares.columns if own.seen else baseline.common.index
    variation = own.variation(baseline, parts, customers, 1)
    moments = baseline.moments_of(month_of(own.date(-1)) if own.seen else 12, 1).reindex(parts)
    chance = moments["spread"].fillna(0.0) * (baseline.customers / customers) ** 0.5
    spreads = {
        "all alike": variation["variance"] ** 0.5,
        "measured": variation["own"] ** 0.5,
        "by chance": chance,
    }
    widest = (100 * pd.DataFrame(spreads)).groupby(level=0).max().sort_values("all alike", ascending=False)
    return widest.round(2).rename_axis("input").reset_index()
