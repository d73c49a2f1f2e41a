"""What the surroundings do to a verb, as troubles.yaml beside this says it: words, and how a failure is recognised."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

LONGEST = 300
"""Characters of a library's own words that are quoted."""


class FindingState(StrEnum):
    """How a thing stands."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True)
class DoctorFinding:
    """One thing that was looked at; `words` end with what to do where something is to be done."""

    state: FindingState
    words: str
    what: str = ""


ok, note, broken = (partial(DoctorFinding, state) for state in FindingState)


class Trouble(BaseModel):
    """One kind of failure; see the head of troubles.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    message: str
    cause: str
    way_out: str
    sign: str = ""
    codes: tuple[str, ...] = ()

    def words(self, **named: object) -> str:
        """The sentence and the way out, with the things named."""
        return f"{self.message}: {self.way_out}".format(**named)

    def of(self, fault: BaseException) -> str | None:
        """The words where `fault` is of this kind."""
        number, said = getattr(fault, "errno", None), str(fault)
        match = re.search(self.sign, said) if self.sign else None
        if match or (number and errno.errorcode.get(number) in self.codes):
            return self.words(said=quoted(fault), **(match.groupdict() if match else {}))
        return None


@cache
def troubles() -> dict[str, Trouble]:
    """All that are known, by name."""
    rows = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return {name: Trouble.model_validate(row) for name, row in rows.items()}


def words(trouble: str, /, **named: object) -> str:
    """The sentence of the trouble of this name, and the way out."""
    return troubles()[trouble].words(**named)


def recognised(fault: BaseException) -> str | None:
    """What is to be said of a failure, or of what it was raised from, if it is of a known kind."""
    told = (said for one in _chain(fault) for trouble in troubles().values() if (said := trouble.of(one)))
    return next(told, None)


def quoted(fault: BaseException) -> str:
    """What a library said, in one line of bounded length."""
    return " ".join(str(fault).split())[:LONGEST] or type(fault).__name__


def _chain(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__ or fault.__context__
