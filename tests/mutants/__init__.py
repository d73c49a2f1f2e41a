"""Faults that somebody might make, as data, each with the tests that see it: `make mutants`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).parents[2]


class Fault(BaseModel):
    """One text of the package in place of another, and the tests that must fail for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    file: str
    """Within spanishgas/."""
    old: str
    """Stands in the file exactly once."""
    new: str
    tests: tuple[str, ...]
    """Ids within tests/."""
    wrong: str
    """What would go wrong, in a sentence."""

    def apply(self, source: str) -> str:
        """The file's text with the fault; ValueError where the fault does not apply exactly once."""
        if (count := source.count(self.old)) != 1 or self.old == self.new:
            raise ValueError(f"'{self.name}' applies {count} times to {self.file}, or changes nothing")
        return source.replace(self.old, self.new)


@cache
def faults() -> tuple[Fault, ...]:
    """All faults, area by area."""
    files = sorted(Path(__file__).parent.glob("*.yaml"))
    return tuple(Fault.model_validate(entry) for f in files for entry in yaml.safe_load(f.read_text("utf-8")))


def repeated(values: Iterable[object]) -> list[object]:
    """What stands there more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
