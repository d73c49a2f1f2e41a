"""Who got in touch, about what and in which mood: drawn given the outcome, as in the published data.

The source's texts were written in knowledge of the outcome (4 of 5,321 stayers sound negative, 1 of 1,099
churners positive). That is reproduced as published, and the exact posterior of churn given a contact follows
by Bayes' rule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanishgas.contracts.tables import INTENTS
from spanishgas.simulate.population import Floats

SENTIMENTS = ("negative", "neutral", "positive")
NONE = -1
"""Code of a customer without contact."""

CONTACT_RATE = np.array([[4_370 / 14_788, 951 / 3_309], [911 / 1_709, 188 / 293]])
"""Share with a contact by outcome (stayer, churner) and fuel (single, dual)."""
_ALL = np.array(
    [[10, 18, 11], [544, 49, 2], [0, 35, 71], [113, 2_316, 2_707], [7, 136, 87], [1, 51, 44], [4, 135, 79]]
)
_CHURNERS = np.array([[10, 13, 0], [544, 38, 0], [0, 5, 0], [110, 310, 1], [7, 39, 0], [0, 10, 0], [4, 8, 0]])
TOPIC_SHARE: Floats = np.stack(
    [((_ALL - _CHURNERS) / (_ALL - _CHURNERS).sum()).ravel(), (_CHURNERS / _CHURNERS.sum()).ravel()]
)
"""Share of each (intent, sentiment), row-major, among contacts of stayers and of churners; published counts.

A contact has one of the first seven intents.
"""


def draw_topics(
    g: np.random.Generator, churn: NDArray[np.bool_], dual: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Code of (intent, sentiment) for every customer, NONE without a contact."""
    outcome = churn.astype(int)
    contact = g.random(len(churn)) < CONTACT_RATE[outcome, dual.astype(int)]
    cumulative = np.cumsum(TOPIC_SHARE, axis=1)
    last = [np.flatnonzero(share)[-1] for share in TOPIC_SHARE]
    u = g.random(len(churn))
    code = np.minimum((u[:, None] >= cumulative[outcome]).sum(axis=1), np.array(last)[outcome])
    return np.where(contact, code, NONE)


def posterior(before: Floats, topic: NDArray[np.int64], dual: NDArray[np.bool_]) -> Floats:
    """Probability of churn given contract, market and contact, from the probability `before` the contact."""
    rate = CONTACT_RATE[:, dual.astype(int)]
    seen = topic != NONE
    likelihood = np.where(seen, rate * TOPIC_SHARE[:, np.maximum(topic, 0)], 1 - rate)
    joint = before * likelihood[1]
    out: Floats = joint / (joint + (1 - before) * likelihood[0])
    return out


def topic_name(code: int) -> tuple[str, str]:
    """Intent and sentiment of a code."""
    return INTENTS[code // len(SENTIMENTS)], SENTIMENTS[code % len(SENTIMENTS)]
