"""When customers left, as gold has it where labels have dates, and for how long the others were observed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.training.draws import uniform

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """A customer each."""

    month: NDArray[np.int64]
    """Month in which the customer left, or the last whole month that it was observed for; at most the horizon."""
    left: NDArray[np.bool_]
    """Whether it left in that month."""
    horizon: int

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Times:
        """The times of rows of gold that `timed` gives."""
        horizon = int(rows["horizon_months"].max())
        month = rows["churn_month"].astype("float64").fillna(np.inf).to_numpy()
        left = month <= horizon
        month = np.where(left, month, np.minimum(rows["observed_months"].to_numpy(dtype="float64"), horizon))
        return cls(month.astype("int64"), left, horizon)

    @cached_property
    def observed(self) -> Array:
        """Probability of being observed through each month, shape (horizon + 1,), by Kaplan & Meier (1958).

        Who leaves in a month leaves before anybody is lost after it.
        """
        out = np.ones(self.horizon + 1)
        for month in range(self.horizon):
            lost = ~self.left & (self.month == month)
            out[month + 1] = out[month] * (1 - lost.sum() / max(1, (lost | (self.month > month)).sum()))
        return out


def timed(gold: pd.DataFrame) -> pd.DataFrame:
    """The rows of gold that say when a customer left or until when it had not, labelled or not; none without dates."""
    rows = gold[gold["observed_months"].notna()] if "observed_months" in gold else gold.iloc[:0]
    return rows.reset_index(drop=True)


def with_fair_labels(gold: pd.DataFrame) -> pd.DataFrame:
    """Gold without a share of its churners, as stayers who were lost have no label: so rates stay right.

    A stayer has a label only if it was observed to the horizon, a churner also if it would have been lost later. So of
    the churners of a month as many are kept, by a hash of the id, as were observed from there to the horizon.
    """
    seen = timed(gold)
    if seen.empty:
        return gold
    times = Times.of(seen)
    month = gold["churn_month"].astype("float64").fillna(times.horizon).clip(upper=times.horizon)
    share = times.observed[-1] / np.maximum(times.observed[month.astype("int64")], 1e-12)
    luck = uniform(gold["customer_id"], "observed ")
    kept: pd.DataFrame = gold[(gold["churn"].astype("float64") != 1).to_numpy() | (luck < share)]
    return kept
