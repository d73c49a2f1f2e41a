"""When churners leave: a month and a day, drawn from hazards that the truth keeps.

Who leaves within twelve months is drawn before (churn.py), so labels with dates say of those months what labels without
say. The month follows from what the extract shows: most leave about their renewal, those whose price rose or who called
to complain leave early. Stayers may leave in the second year, as likely as in the first, about the next renewal.

    P(leaves in month m) = P(leaves in its year) * weight(m) / sum of the year's weights
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd

from spanishgas.simulate.contacts import COMPLAINT, NONE, SENTIMENTS, topic_name
from spanishgas.simulate.figures import figures
from spanishgas.simulate.files import Block
from spanishgas.simulate.population import Floats
from spanishgas.simulate.streams import WINDOW, Stream

DATES = figures("dates")
YEARS = 2
GONE = 1e-12
"""Probability of not having left below which nobody is left."""


def hazards(block: Block) -> Floats:
    """Probability of leaving in each month of two years of who has not left before, shape (customers, 24)."""
    share, p = _shares(block), block.after[:, None]
    chance = np.hstack([p * share[:, 0], (1 - p) * p * share[:, 1]])
    left = 1 - chance.cumsum(axis=1) + chance
    out: Floats = np.where(left > GONE, np.minimum(chance / np.maximum(left, GONE), 1.0), 0.0)
    return out


def dated_rows(block: Block, as_of: date) -> pd.DataFrame:
    """The block's labels as they are known at the end of the observation: churn, churn_date and observed_until."""
    g = block.draws.rng(Stream.DATES, as_of.toordinal())
    month_luck, year_luck, day_luck = g.random((3, len(block.churn)))
    year = np.where(block.churn, 0, np.where(year_luck < block.after, 1, YEARS))
    share = _shares(block)[np.arange(len(year)), np.minimum(year, YEARS - 1)].cumsum(axis=1)
    month = np.minimum((month_luck[:, None] >= share).sum(axis=1), WINDOW - 1) + WINDOW * year
    ends = np.array([_end(as_of, m) for m in range((YEARS + 1) * WINDOW + 1)], dtype="datetime64[D]")
    length = (ends[month + 1] - ends[month]).astype(int)
    day = ends[month] + 1 + np.floor(day_luck * length).astype(int)
    until = np.datetime64(_end(as_of, int(DATES.observed_months)))
    day = np.where((year < YEARS) & (day <= until), day, np.datetime64("NaT"))
    rows = {
        "customer_id": block.people["customer_id"].to_numpy(),
        "churn": (~np.isnat(day)).astype(int),
        "churn_date": day.astype("datetime64[s]"),
        "observed_until": until.astype("datetime64[s]"),
    }
    return pd.DataFrame(rows)[block.keep]


def hazard_rows(block: Block) -> pd.DataFrame:
    """The truth behind the dates: a column per month, hazard_01 to hazard_24."""
    columns = {f"hazard_{m + 1:02d}": column for m, column in enumerate(hazards(block).T)}
    return pd.DataFrame({"customer_id": block.people["customer_id"].to_numpy(), **columns})[block.keep]


def _shares(block: Block) -> Floats:
    """Share of a year's leavers who leave in each of its months, shape (customers, years, months)."""
    month, d = np.arange(1, YEARS * WINDOW + 1), DATES
    renewal = np.maximum(block.seen["renewal_days"].to_numpy() / 30, 0.0) + 0.5
    near = sum(
        np.exp(-0.5 * ((month - renewal[:, None] - WINDOW * year) / d.renewal_width) ** 2)
        for year in range(YEARS)
    )
    rose = np.nan_to_num(block.seen["trend"].to_numpy()) >= d.price_rose
    weight = 1 + d.renewal * near
    weight = weight + np.outer(d.price * rose + d.contact * _angry(block), np.exp((1 - month) / d.fades))
    by_year = weight.reshape(len(weight), YEARS, WINDOW)
    share: Floats = by_year / by_year.sum(axis=2, keepdims=True)
    return share


def _angry(block: Block) -> Floats:
    names = [("", "") if code == NONE else topic_name(int(code)) for code in block.topic]
    return np.array([mood == SENTIMENTS[0] or intent == COMPLAINT for intent, mood in names], dtype=float)


def _end(as_of: date, months: int) -> date:
    return (pd.Timestamp(as_of) + pd.DateOffset(months=months)).date()
