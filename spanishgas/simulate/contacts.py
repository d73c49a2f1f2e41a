"""Who got in touch, about what, in which mood, and what an agent wrote down about it.

Topic and mood are drawn given the outcome, as in the published data: the source's texts were written in knowledge of it
(4 of 5,321 stayers sound negative, 1 of 1,099 churners positive), and the exact posterior of churn given a contact
follows by Bayes' rule. The words are terse notes and short narratives in English. They depend on topic and mood and on
facts of the record (days to renewal, tenure, price, competition, way of contact), not on the outcome beyond those: the
text says no more about churn than its intent and sentiment do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanishgas.config.reading import packaged
from spanishgas.contracts.tables import INTENTS
from spanishgas.simulate.figures import figures
from spanishgas.simulate.population import Floats

SENTIMENTS = ("negative", "neutral", "positive")
COMPLAINT = "Complaint / Escalation"
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


@cache
def phrases() -> dict[str, Any]:
    """The phrase book."""
    book: dict[str, Any] = packaged(__file__, "texts.yaml")
    return book


@dataclass(frozen=True)
class ContactText:
    """What the agent sees on the screen."""

    days_to_renewal: int
    tenure_months: float
    price_rose: bool
    high_competition: bool
    contact: str


def write_text(g: np.random.Generator, intent: str, sentiment: str, record: ContactText) -> str:
    """One text; takes the same number of draws from `g` whatever the record says."""
    style, opening, closing, fact, vague = g.random(5)
    if style < phrases()["terse"]["share"][sentiment]:
        openings, closings = parts("terse", intent, sentiment)
        return f"{_pick(openings, opening, 2)}; {_pick(closings, closing, 2)}."
    openings, closings = parts("narrative", intent, sentiment)
    return narrative(
        _pick(openings, opening),
        _pick(facts(intent, record), fact),
        _pick(closings, closing),
        record,
        vague < 0.3,
    )


def parts(style: str, intent: str, sentiment: str) -> tuple[list[str], list[str]]:
    """Openings and closings of a style for an intent and a sentiment."""
    book = phrases()[style]
    if intent == COMPLAINT:
        return book["complaints"]["openings"], book["complaints"][sentiment]
    return book["openings"][intent], book["closings"][sentiment]


def facts(intent: str, record: ContactText) -> list[str]:
    """Sentences about the record that may stand with the intent."""
    book = phrases()["narrative"]
    out = list(book["facts"]["tenure"])
    if record.high_competition:
        out += book["facts"]["competition"]
    if intent in book["prices_with"]:
        out += book["facts"]["price_up" if record.price_rose else "price_flat"]
    return out


def narrative(opening: str, fact: str, closing: str, record: ContactText, vague: bool) -> str:
    """Three sentences with the record's figures in them."""
    due = (
        "in several months" if vague and record.days_to_renewal > 60 else f"in {record.days_to_renewal} days"
    )
    text = f"{opening} {fact} {closing}"
    return text.format(
        contact=phrases()["contacts"][record.contact], due=due, tenure=_tenure(record.tenure_months)
    )


def _pick(choices: list[str], u: float, habit: int = 1) -> str:
    """One of `choices`; a `habit` of 2 prefers the first ones, as agents do: three of fifty published notes are one."""
    return choices[int(u**habit * len(choices))]


def _tenure(months: float) -> str:
    if months < 6:
        return "a brief time"
    if months < 12:
        return "some months"
    halves = round(months / 6) / 2
    if halves == 1:
        return "one year"
    return f"{halves:g} years" if halves < 6 else "many years"
