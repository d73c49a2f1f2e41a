"""The figures that the utility is drawn from, by what they are about: figures.yaml, which names the source of each."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from spanishgas.config.reading import packaged


@cache
def figures(about: str) -> SimpleNamespace:
    """The figures under a heading of figures.yaml: numbers, and lists of them as arrays."""
    numbers = {name: _number(value) for name, value in _every()[about].items()}
    return SimpleNamespace(**{name: np.array(n) if isinstance(n, list) else n for name, n in numbers.items()})


@cache
def _every() -> dict[str, Any]:
    return dict(packaged(__file__))


def _number(value: Any) -> Any:
    """A number; of a fraction the nearest double."""
    if isinstance(value, list):
        return [_number(one) for one in value]
    return float(Fraction(value)) if isinstance(value, str) else value
