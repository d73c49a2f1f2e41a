"""What runs keep as JSON of how something was made and judged: read back as models, never as today's configuration."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from spanishgas.config.policy import Holdout, Judgement, OfferTerms, Waiver
from spanishgas.config.reading import Value
from spanishgas.lifecycle.seal import SealManifest
from spanishgas.rendering import markdown

CHOSEN, OFFERS = "chosen.json", "offers.json"


class ExperimentRecord(BaseModel):
    """What a finished experiment run chose, on which data and by which protocol."""

    model_config = ConfigDict(frozen=True)

    experiment: str
    model: str
    params: dict[str, Value]
    trial: int
    kinds: dict[str, str]
    """Its features in order, with their kinds."""
    fold_scores: list[float]
    repeats: int
    seed: int
    gold: str
    """Digest of its training table, or of the later one that it is judged on."""
    holdout: Holdout
    as_of: date
    earlier: list[str] = []
    """Where the holdout is by time: digests of the tables that it was trained on, oldest first."""
    recalibrated: str | None = None
    """Digest of the later table whose labels curve and threshold were fitted to, and that a recalibrated version was
    judged on."""

    @property
    def tables(self) -> list[str]:
        """Digests of all gold that it depends on."""
        return [self.gold, *self.earlier, *([self.recalibrated] if self.recalibrated else [])]


class Bound(StrEnum):
    """On which side of the limit the value must lie."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


class Check(BaseModel):
    """One check: its value, its limit and whether it passed."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float | None
    limit: float
    interval: tuple[float, float] | None
    passed: bool
    way_out: str
    bound: Bound = Bound.AT_LEAST
    note: str = ""

    @property
    def words(self) -> str:
        """Value and limit in a few words, with as many digits as it takes to see on which side the value lies."""
        digits = 3 if self.value is None else _telling(self.value, self.limit)
        value = "missing" if self.value is None else f"{self.value:.{digits}f}"
        between = f" ({self.interval[0]:.3f} to {self.interval[1]:.3f})" if self.interval else ""
        return f"{self.name} is {value}{between}, the limit is {self.bound} {self.limit:.{digits - 1}f}"


def _telling(value: float, limit: float) -> int:
    """Digits of the value, the limit standing with one less, from 3 on: enough to leave it on its side of the limit."""
    for digits in range(3, 9):
        shown, edge = round(value, digits), round(limit, digits - 1)
        if value == limit or ((shown < edge) == (value < limit) and shown != edge):
            return digits
    return 9


class Verdict(BaseModel):
    """All checks of one version; `passed` only if there are checks and each passed."""

    model_config = ConfigDict(frozen=True)

    checks: list[Check]
    waivers: list[Waiver]

    @property
    def passed(self) -> bool:
        """Whether the version may become champion."""
        return bool(self.checks) and all(c.passed for c in self.checks)

    @property
    def words(self) -> str:
        """The verdict in a line: the first check where all passed, or each refusal with value, limit and way out."""
        if self.passed:
            return f"passed: {self.checks[0].words}; {len(self.checks)} checks in all"
        return "refused: " + "; ".join(f"{c.words}: {c.way_out}" for c in self.checks if not c.passed)

    def rows(self) -> list[dict[str, str]]:
        """A row per check, each value as people read it."""
        rows = []
        for c in self.checks:
            digits = 0 if "_eur" in c.name else 4
            value = "missing" if c.value is None else f"{c.value:,.{digits}f}"
            interval = f"{c.interval[0]:,.{digits}f} to {c.interval[1]:,.{digits}f}" if c.interval else ""
            outcome = ("passed" if c.passed else "refused") + (f", {c.note}" if c.note else "")
            limit = f"{c.bound} {c.limit:.4g}"
            told = {"check": c.name, "value": value, "95 % interval": interval, "limit": limit, "": outcome}
            rows.append(told)
        return rows

    @property
    def waived(self) -> list[str]:
        """The waivers with their reasons, as Markdown."""
        return [f"Waived ({w.date}): {w.check}. {markdown(w.reason)}" for w in self.waivers]

    def table(self) -> str:
        """The verdict as a Markdown table, for the version's description and the terminal."""
        lines = ["| check | value | 95 % interval | limit | |", "|---|---|---|---|---|"]
        for row in self.rows():
            *told, outcome = row.values()
            refused = outcome.startswith("refused")
            words = f"**refused**{markdown(outcome[7:])}" if refused else markdown(outcome)
            lines.append(f"| {' | '.join(told)} | {words} |")
        return "\n".join([*lines, *(f"\n{line}" for line in self.waived)])


class VersionRecord(BaseModel):
    """How a registered version was made and by what it was judged."""

    model_config = ConfigDict(frozen=True)
    SAYS: ClassVar = "who leaves"

    of_run: str
    """The experiment run that chose it."""
    chosen: ExperimentRecord
    policy: Judgement
    opening: int
    """Number of the opening of the holdout that it was judged by."""
    manifest: SealManifest

    @property
    def subject(self) -> str:
        """What it is, in a few words."""
        return f"{self.chosen.experiment} {self.chosen.model}"

    @property
    def sources(self) -> list[tuple[str, str]]:
        """The tables that it depends on, each with its digest."""
        return [("gold_master", digest) for digest in self.chosen.tables]


class OfferRecord(BaseModel):
    """How a version of the model that knows what offers change was made and by what it was judged."""

    model_config = ConfigDict(frozen=True)
    SAYS: ClassVar = "what offers change"

    campaigns: list[dict[str, str]]
    """Digests of each campaign's treatments, outcomes and gold_master, by table; oldest first."""
    features: list[str]
    terms: OfferTerms
    trials: int
    seed: int
    fifths: dict[str, list[dict[str, float]]]
    """Churn that each offer avoids as predicted and as observed of held-out customers, by fifths of the prediction."""
    manifest: SealManifest

    @property
    def subject(self) -> str:
        """What it is, in a few words."""
        return f"offers of {len(self.campaigns)} campaigns"

    @property
    def sources(self) -> list[tuple[str, str]]:
        """The tables that it depends on, each with its digest."""
        return [pair for campaign in self.campaigns for pair in campaign.items()]


class JudgedVersion(BaseModel):
    """What a version's run keeps of it: verdict.json."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    metrics: dict[str, float]
    record: VersionRecord | OfferRecord
