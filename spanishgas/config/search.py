"""What the search may try for each model: experiments/search.yaml."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, RootModel, TypeAdapter, ValidationError, model_validator

from spanishgas.config.reading import Names, Strict, Value, fault, member, read, unique
from spanishgas.errors import UsageError
from spanishgas.settings import settings

XGBOOST, FOREST, LOGISTIC = "xgboost", "forest", "logistic"
PLACES = [str(Path(__file__).parents[1] / "training" / "families")]
"""Folders with a module per model family, which is named after it."""
KINDS: Mapping[str, Any] = {
    "count": Annotated[int, Field(ge=1, le=10**6)],
    "pair": Annotated[int, Field(ge=2, le=10**6)],
    "share": Annotated[float, Field(gt=0, le=1)],
    "fraction": Annotated[float, Field(ge=0, le=1)],
    "amount": Annotated[float, Field(ge=0, le=1e6)],
    "positive": Annotated[float, Field(gt=0, le=1e6)],
}
"""The values that a parameter of each kind may have."""


class ModelFamily(Strict):
    """What a family's module says of it in the literal `FAMILY`, which is read without running the module."""

    parameters: dict[str, Names] = {}
    """What a search may name, by kind; whatever else an estimator has, the project sets itself."""
    choices: dict[str, Names] = {}
    """Texts that a parameter may be, beside the values of its kind if it has one."""
    only_with: dict[str, dict[str, Value]] = {}
    """Parameters that run only where others have these values."""
    linear: bool = False
    """Whether it takes the linear feature set (with crossed strings), standardised."""
    early_stopping: bool = False
    """Whether its estimator has `fit_stopping`."""
    blends: bool = False
    """Whether `tune` may blend it with other kinds of trees."""
    packages: list[str] = []
    """Packages, as they are imported, that its fitted model needs beside scikit-learn."""
    trusted: list[str] = []
    """Types beyond skops's own list and the artefact's that its fitted model is made of."""

    @property
    def types(self) -> dict[str, Any]:
        """The type of each parameter."""
        texts = {name: Literal[tuple(words)] for name, words in self.choices.items()}
        ranges = {name: KINDS[kind] for kind, names in self.parameters.items() for name in names}
        return {**ranges, **{name: text | ranges.get(name, text) for name, text in texts.items()}}


def families() -> list[str]:
    """The names of the model families, in alphabetical order."""
    return sorted(module.name for module in iter_modules(PLACES))


def family(name: str) -> ModelFamily:
    """The family called `name`, or a UsageError that lists them; nothing of it is imported."""
    for file in (Path(place) / f"{name}.py" for place in PLACES):
        if file.exists() and name in families():
            return _declared(file)
    raise UsageError.unknown("model", name, families())


@cache
def _declared(file: Path) -> ModelFamily:
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FAMILY":
            return ModelFamily.model_validate(ast.literal_eval(node.value))
    raise UsageError(f"{file} declares no FAMILY: it is no module of a model family")


class Dimension(Strict):
    """One dimension of a search space: a range (`low`, `high`, `step`, `log`) or `choices`."""

    low: float | None = None
    high: float | None = None
    step: int | None = Field(None, ge=1)
    log: bool = False
    choices: list[Value] | None = Field(None, min_length=1)
    when: dict[str, Value] = {}
    """Values of earlier dimensions on which this one depends; otherwise it is not drawn."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("needs either choices or both low and high")
        if self.low is not None and self.high is not None:
            if self.low > self.high or (self.log and self.low <= 0):
                raise ValueError(f"needs low <= high, and low above 0 on a log scale, but got {self.low}")
            if self.step and (
                (self.log and self.step > 1) or self.low % 1 or (self.high - self.low) % self.step
            ):
                raise fault("step", "must lead from a whole low to high, and be 1 on a log scale", self.step)
        elif self.log or self.step is not None or self.low is not None or self.high is not None:
            raise ValueError("takes low, high, step and log only without choices")
        unique([value if isinstance(value, str) else f"{value:g}" for value in self.choices or []])
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
        on_grid = self.step is None or (isinstance(value, int) and (value - self.low) % self.step == 0)
        return self.low <= value <= self.high and on_grid

    @property
    def ends(self) -> list[Value]:
        """The choices, or the ends of the range as the search draws them."""
        ends = [end for end in (self.low, self.high) if end is not None]
        return self.choices or [int(end) if self.step else end for end in ends]


class EarlyStopping(Strict):
    """How many trees: as many as still raise average precision on an inner part of each fold's training side."""

    most_trees: int = Field(ge=1, le=100_000)
    rounds: int = Field(ge=1)
    share: float = Field(gt=0, le=0.5)
    fewest: int = Field(ge=1)
    """Rows of the rarer class that must be set aside; with fewer the measure is noise, and `unmeasured` are grown."""
    unmeasured: int = Field(ge=1)

    @model_validator(mode="after")
    def _within_most_trees(self) -> Self:
        if max(self.rounds, self.unmeasured) > self.most_trees:
            raise ValueError(f"rounds and unmeasured must be at most most_trees, {self.most_trees}")
        return self


class Space(Strict):
    """What the search may try for one model."""

    fixed: dict[str, Value] = {}
    early_stopping: EarlyStopping | None = None
    start: dict[str, Value]
    also: list[dict[str, Value]] = []
    """Sets tried after `start` and after the best parameters of the experiment below."""
    space: dict[str, Dimension]

    @model_validator(mode="after")
    def _each_parameter_once(self) -> Self:
        for name in self.fixed.keys() & self.space.keys():
            raise fault(f"fixed.{name}", "stands in space too: leave one out", self.fixed[name])
        if self.early_stopping and "n_estimators" in {**self.fixed, **self.space}:
            raise fault("n_estimators", "is what early_stopping finds: leave one out", self.early_stopping)
        return self

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


class Search(RootModel[dict[str, Space]]):
    """Search spaces by model family."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _a_space_for_each(cls, content: dict[str, object]) -> dict[str, object]:
        for name in content:
            member(name, "key", name, families())
        for name in set(families()) - content.keys():
            raise fault(name, "has no search space: give it a block of its own", "nothing")
        return content

    @model_validator(mode="after")
    def _each_model_can_run(self) -> Self:
        for name, space in self.root.items():
            _can_run(name, family(name), space)
        return self

    def of(self, model: str) -> Space:
        """The space of `model`."""
        return self.root[model]


def _can_run(model: str, about: ModelFamily, space: Space) -> None:
    """Hold every value of a space against what the family takes."""
    if space.early_stopping and not about.early_stopping:
        able = [name for name in families() if family(name).early_stopping]
        raise fault(
            f"{model}.early_stopping", f"is for {', '.join(able)} alone: leave it out", space.early_stopping
        )
    also = {f"also.{number}": start for number, start in enumerate(space.also)}
    groups = {"fixed": space.fixed, "start": space.start, **also}
    values = [
        (f"{where}.{name}", name, value) for where, group in groups.items() for name, value in group.items()
    ]
    values += [(f"space.{name}", name, end) for name, drawn in space.space.items() for end in drawn.ends]
    types = about.types
    for where, name, value in values:
        member(f"{model}.{where}", f"parameter of {model}", name, types)
        try:
            TypeAdapter(types[name]).validate_python(value, strict=True)
        except ValidationError as wrong:
            words = " or ".join(error["msg"] for error in wrong.errors())
            raise fault(f"{model}.{where}", words, value) from wrong
    for name, needed in about.only_with.items():
        under = {**space.fixed, **(space.space[name].when if name in space.space else {})}
        if name in {**space.fixed, **space.space} and not needed.items() <= under.items():
            words = ", ".join(f"{other}: {value}" for other, value in needed.items())
            raise fault(f"{model}.space.{name}", f"needs when: {{{words}}}", under)


def load_search() -> Search:
    """The search spaces of search.yaml."""
    return read(settings().experiments / "search.yaml", Search)
