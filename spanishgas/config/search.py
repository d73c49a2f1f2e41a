"""What the search may try for each model: experiments/search.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from spanishgas.config.reading import Strict, Value, read
from spanishgas.errors import UsageError
from spanishgas.settings import settings


class ModelKind(StrEnum):
    """The estimators that every experiment can run with."""

    XGBOOST = "xgboost"
    FOREST = "forest"
    LOGISTIC = "logistic"

    @property
    def linear(self) -> bool:
        """Whether the model takes the linear feature set (with crossed strings)."""
        return self is ModelKind.LOGISTIC

    @classmethod
    def of(cls, name: str) -> ModelKind:
        """The model called `name`, or a UsageError that lists them."""
        try:
            return cls(name)
        except ValueError:
            raise UsageError.unknown("model", name, list(cls)) from None


class Dimension(Strict):
    """One dimension of a search space: a range (`low`, `high`, `step`, `log`) or `choices`."""

    low: float | None = None
    high: float | None = None
    step: int | None = None
    log: bool = False
    choices: list[Value] | None = None
    when: dict[str, Value] = {}
    """Values of earlier dimensions that this one hangs on; it is not drawn otherwise."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("needs either choices or both low and high")
        if self.low is not None and self.high is not None:
            if self.low > self.high or (self.log and self.low <= 0):
                raise ValueError(f"needs low <= high, and low above 0 on a log scale, but got {self.low}")
        elif self.log or self.step is not None or self.low is not None or self.high is not None:
            raise ValueError("takes low, high, step and log only without choices")
        return self

    def applies(self, drawn: Mapping[str, Value]) -> bool:
        """Whether this dimension is part of a trial that has drawn `drawn` so far."""
        return all(drawn.get(name) == value for name, value in self.when.items())

    def admits(self, value: Value) -> bool:
        """Whether the search could draw `value`."""
        if self.choices is not None:
            return value in self.choices
        if isinstance(value, str) or self.low is None or self.high is None:
            return False
        return self.low <= value <= self.high and (self.step is None or (value - self.low) % self.step == 0)


class EarlyStopping(Strict):
    """How many trees: as many as still raise average precision on an inner part of each fold's training side."""

    most_trees: int = Field(ge=1)
    rounds: int = Field(ge=1)
    share: float = Field(gt=0, lt=1)
    fewest: int = Field(ge=1)
    """Rows of the rarer class that must be set aside; with fewer the measure is noise, and `unmeasured` are grown."""
    unmeasured: int = Field(ge=1)


class Space(Strict):
    """What the search may try for one model."""

    fixed: dict[str, Value] = {}
    early_stopping: EarlyStopping | None = None
    start: dict[str, Value]
    also: list[dict[str, Value]] = []
    """Tried after `start` and what the neighbouring experiment chose."""
    space: dict[str, Dimension]

    @model_validator(mode="after")
    def _conditions_name_earlier_choices(self) -> Self:
        earlier: dict[str, Dimension] = {}
        for name, dimension in self.space.items():
            for other, value in dimension.when.items():
                if other not in earlier or value not in (earlier[other].choices or []):
                    raise ValueError(f"{name} hangs on {other} = {value!r}, which is no earlier choice")
            earlier[name] = dimension
        return self

    @model_validator(mode="after")
    def _starts_are_complete(self) -> Self:
        for where, start in [("start", self.start), *((f"also.{i}", s) for i, s in enumerate(self.also))]:
            odd = start.keys() ^ set(self.names(start))
            if odd:
                raise ValueError(f"{where} and space name different parameters: {sorted(odd)}")
            for name, value in start.items():
                if not self.space[name].admits(value):
                    raise ValueError(f"{where}.{name} is {value!r}, which the space cannot draw")
        return self

    def names(self, drawn: Mapping[str, Value]) -> list[str]:
        """The parameters that a trial with the values `drawn` has."""
        return [name for name, dimension in self.space.items() if dimension.applies(drawn)]

    def admitted(self, params: Mapping[str, Value]) -> dict[str, Value] | None:
        """What of `params` the search draws, if it could draw it whole; None if not."""
        names = self.names(params)
        if all(name in params and self.space[name].admits(params[name]) for name in names):
            return {name: params[name] for name in names}
        return None


class Search(Strict):
    """Search spaces by model."""

    xgboost: Space
    forest: Space
    logistic: Space

    def of(self, model: ModelKind) -> Space:
        """The space of `model`."""
        space: Space = getattr(self, model.value)
        return space


def load_search() -> Search:
    """The search spaces of search.yaml."""
    return read(settings().experiments / "search.yaml", Search)
