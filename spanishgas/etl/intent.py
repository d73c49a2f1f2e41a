"""What a contact was about: keyword rules in a fixed order, the first that matches wins.

The keyword families are the source system's (source-profile.md section 4.4), with the words it misses. A keyword
matches as whole words in any case. A negator up to three words before it in the same clause cancels it, unless the
keyword holds a negator itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from spanishgas.config.reading import packaged
from spanishgas.contracts.tables import INTENTS

NEGATORS = frozenset({"no", "not", "never", "without"})
REACH = 3
"""Words before a keyword in which a negator counts."""
KEYWORDS: Mapping[str, list[str]] = packaged(__file__)

_CLAUSE = re.compile(r"[.,;:!?()\n]|\s[-\u2013\u2014]\s|\bbut\b", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")


_RULES = {
    intent: [re.compile(rf"\b(?:{word})\b".replace("_", r"\s+"), re.IGNORECASE) for word in KEYWORDS[intent]]
    for intent in INTENTS[:-1]
}


def intent(text: str) -> str:
    """The intent of a text.

    >>> intent("Cust inq re: renewal options; unhappy")
    'Complaint / Escalation'
    >>> intent("No significant price increases, not unhappy")
    'Other / Unclassified'
    >>> intent("Not satisfied"), intent("no issues found")
    ('Complaint / Escalation', 'Account / Service Inquiry')
    """
    for name, keywords in _RULES.items():
        if any(_stands(match, text) for keyword in keywords for match in keyword.finditer(text)):
            return name
    return INTENTS[-1]


def _stands(match: re.Match[str], text: str) -> bool:
    """Whether no negator cancels the keyword."""
    if NEGATORS & set(_words(match.group())):
        return True
    clause = _CLAUSE.split(text[: match.start()])[-1]
    return not NEGATORS & set(_words(clause)[-REACH:])


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
