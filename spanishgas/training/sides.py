"""The two sides of a labelled table: who trains, and who is held out."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.policy import Holdout
from spanishgas.errors import DataError
from spanishgas.training.draws import ENDS, hashed
from spanishgas.training.times import with_fair_labels

if TYPE_CHECKING:
    from spanishgas.training.folds import Groups

DAYS_OF_MONTH = 365.25 / 12


def in_holdout(ids: pd.Series, holdout: Holdout) -> NDArray[np.bool_]:
    """Whether each customer is held out: the first 64 bits of SHA-256(salt + id) below the share.

    Depends on the id alone, so no customer ever changes sides.
    """
    return np.array([bits < holdout.share * ENDS for bits in hashed(ids, holdout.salt)], dtype=bool)


def matures(as_of: date, months: int) -> date:
    """The day on which labels of so many months are complete."""
    end: date = (pd.Timestamp(as_of) + pd.DateOffset(months=months)).date()
    return end


def aged(rows: pd.DataFrame, half_life_months: float | None) -> tuple[Groups, NDArray[np.float64] | None]:
    """The customer of each row of several days (`as_of`), and what the row counts for by its age."""
    days = pd.to_datetime(rows["as_of"])
    months = ((days.max() - days).dt.days / DAYS_OF_MONTH).to_numpy(dtype="float64")
    weights = None if half_life_months is None else np.exp2(-months / half_life_months)
    return pd.factorize(rows["customer_id"])[0].astype(np.intp), weights


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
