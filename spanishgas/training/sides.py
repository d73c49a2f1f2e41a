"""The two sides of a labelled table: who trains, and who is held out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.policy import Holdout
from spanishgas.errors import DataError
from spanishgas.training.draws import ENDS, hashed
from spanishgas.training.times import with_fair_labels

DAYS_OF_MONTH = 365.25 / 12
Groups = NDArray[np.intp] | None
"""The customer of each row, numbered from 0, where customers have several rows: no split parts them."""


class Forward(NamedTuple):
    """Which rows learn and which are validated where folds are forward in time; a day between them does neither."""

    learns: NDArray[np.bool_]
    """Whether the day of the row lies far enough before the newest one."""
    newest: NDArray[np.bool_]

    def of(self, rows: NDArray[np.intp]) -> Forward:
        """The same of these rows."""
        return Forward(self.learns[rows], self.newest[rows])

    def fewest(self, y: NDArray[np.int64]) -> int:
        """Rows of the rarer class on the newest day, or of those learned from where that is less."""
        return int(min(np.bincount(y[side], minlength=2).min() for side in self))


def in_holdout(ids: pd.Series, holdout: Holdout) -> NDArray[np.bool_]:
    """Whether each customer is held out: the first 64 bits of SHA-256(salt + id) below the share.

    Depends on the id alone, so no customer ever changes sides.
    """
    return np.array([bits < holdout.share * ENDS for bits in hashed(ids, holdout.salt)], dtype=bool)


def matures(as_of: date, months: int) -> date:
    """The day on which labels of so many months are complete."""
    end: date = (pd.Timestamp(as_of) + pd.DateOffset(months=months)).date()
    return end


class OfDays(NamedTuple):
    """What a fit knows of rows of several days; nothing where all are of one."""

    groups: Groups = None
    weights: NDArray[np.float64] | None = None
    forward: Forward | None = None


def of_days(rows: pd.DataFrame, half_life_months: float | None) -> OfDays:
    """The customer of each row of several days (`as_of`), what the row counts for by its age, and what it is in a fold.

    Where a day is marked in `learns`, folds are forward in time: such days are learned from, the newest is validated.
    """
    if "as_of" not in rows:
        return OfDays()
    days = pd.to_datetime(rows["as_of"])
    months = ((days.max() - days).dt.days / DAYS_OF_MONTH).to_numpy(dtype="float64")
    weights = None if half_life_months is None else np.exp2(-months / half_life_months)
    learns, newest = rows["learns"].to_numpy(dtype=bool), (days == days.max()).to_numpy()
    forward = Forward(learns, newest) if learns.any() else None
    return OfDays(pd.factorize(rows["customer_id"])[0].astype(np.intp), weights, forward)


def learned_in_folds(days: Sequence[date], judged: date) -> list[date]:
    """The training days that fold models learn from, to be scored on the newest one; none: folds are by customer.

    Folds rehearse the holdout: such a day lies as many whole months before the newest as that lies before `judged`.
    """
    newest = max(days)
    months = (judged.year - newest.year) * 12 + judged.month - newest.month
    months -= matures(newest, months) > judged
    return [day for day in days if day < newest and matures(day, months) <= newest]


def labelled(gold: pd.DataFrame) -> pd.DataFrame:
    """The rows of gold that can train; DataError without two classes to learn from."""
    gold = with_fair_labels(gold)
    rows = gold[gold["churn"].notna()].reset_index(drop=True)
    counts = rows["churn"].value_counts()
    if len(counts) < 2 or counts.min() < 10:
        raise DataError(
            f"gold has {len(rows)} labelled customers, churn counts {counts.to_dict()}: at least 10 churners and 10 "
            "stayers are needed. Run the ETL on a labelled extract (one with churn_label.csv)."
        )
    return rows
