"""One check's result, and the rows on both sides of a holdout that the checks read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from pydantic import BaseModel, ConfigDict

ALPHA, FOLDS = 1e-4, 3
"""Probability of a finding in a clean table, over all columns and values that one check looks at (Bonferroni)."""


class LeakageFinding(BaseModel):
    """One check's result. It is found where `value` exceeds `limit` or is no number, and refuses if not declared."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    limit: float
    words: str
    """What the figure means."""
    way_out: str
    features: tuple[str, ...] = ()
    declared: bool = False
    """Whether a waiver of the policy names it."""

    @property
    def found(self) -> bool:
        """Whether the check found something."""
        return not self.value <= self.limit

    @property
    def refuses(self) -> bool:
        """Whether it found something that nobody declared."""
        return self.found and not self.declared


@dataclass(frozen=True)
class Sides:
    """Labelled rows of gold on both sides of a holdout, and the inputs of the model that learned from the one."""

    trained: pd.DataFrame
    held_out: pd.DataFrame
    features: Sequence[str]
    kinds: Mapping[str, str]
    seed: int

    @property
    def both(self) -> pd.DataFrame:
        """Training rows first."""
        return pd.concat([self.trained, self.held_out], ignore_index=True)


def table(findings: Sequence[LeakageFinding]) -> pd.DataFrame:
    """The findings as a table for people: check, value, limit, verdict, meaning."""
    verdict = {(True, True): "declared", (True, False): "FOUND"}
    return pd.DataFrame(
        [
            {
                "check": f.name,
                "value": f.value,
                "limit": f.limit,
                "verdict": verdict.get((f.found, f.declared), "nothing found"),
                "what it says": f.words + (f" ({', '.join(f.features)})" if f.found and f.features else ""),
            }
            for f in findings
        ]
    )
