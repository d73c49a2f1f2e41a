"""What an agent writes down about a contact: terse notes and short narratives in English.

The words depend on topic and mood and on facts of the record (days to renewal, tenure, price, competition,
way of contact), not on the outcome beyond those: the text says no more about churn than its intent and
sentiment do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

COMPLAINT = "Complaint / Escalation"


@cache
def phrases() -> dict[str, Any]:
    """The phrase book."""
    book: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("texts.yaml").read_text(encoding="utf-8"))
    return book


@dataclass(frozen=True)
class ContactText:
    """What the agent sees on the screen."""

    days_to_renewal: int
    tenure_months: float
    price_rose: bool
    high_competition: bool
    contact: str


def write(g: np.random.Generator, intent: str, sentiment: str, record: ContactText) -> str:
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
