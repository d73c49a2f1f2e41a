"""Who got in touch, about what and in which mood: drawn given the outcome, as in the published data.

The source's texts were written in knowledge of the outcome (4 of 5,321 stayers sound negative, 1 of 1,099
churners positive). That is reproduced as published, and the exact posterior of churn given a contact follows
by Bayes' rule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanishgas.contracts.tables import INTENTS
from spanishgas.simulate.figures import figures
from spanishgas.simulate.population import Floats

SENTIMENTS = ("negative", "neutral", "positive")
NONE = -1
"""Code of a customer without contact."""

CONTACTS = figures("contacts")
_STAYERS = CONTACTS.everybody - CONTACTS.churners
TOPIC_SHARE: Floats = np.stack(
    [(contacts / contacts.sum()).ravel() for contacts in (_STAYERS, CONTACTS.churners)]
)
"""Share of each (intent, sentiment), row-major, among contacts of stayers and of churners; published counts.

A contact has one of the first seven intents.
"""


def draw_topics(
    g: np.random.Generator, churn: NDArray[np.bool_], dual: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Code of (intent, sentiment) for every customer, NONE without a contact."""
    outcome = churn.astype(int)
    contact = g.random(len(churn)) < CONTACTS.rate[outcome, dual.astype(int)]
    cumulative = np.cumsum(TOPIC_SHARE, axis=1)
    last = [np.flatnonzero(share)[-1] for share in TOPIC_SHARE]
    u = g.random(len(churn))
    code = np.minimum((u[:, None] >= cumulative[outcome]).sum(axis=1), np.array(last)[outcome])
    return np.where(contact, code, NONE)


def posterior(before: Floats, topic: NDArray[np.int64], dual: NDArray[np.bool_]) -> Floats:
    """Probability of churn given contract, market and contact, from the probability `before` the contact."""
    rate = CONTACTS.rate[:, dual.astype(int)]
    seen = topic != NONE
    likelihood = np.where(seen, rate * TOPIC_SHARE[:, np.maximum(topic, 0)], 1 - rate)
    joint = before * likelihood[1]
    out: Floats = joint / (joint + (1 - before) * likelihood[0])
    return out


def topic_name(code: int) -> tuple[str, str]:
    """Intent and sentiment of a code."""
    return INTENTS[code // len(SENTIMENTS)], SENTIMENTS[code % len(SENTIMENTS)]
