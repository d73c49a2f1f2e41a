"""What the search may try for each model: experiments/search.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from spanishgas.config.reading import Strict, Value, fault, member, read, unique
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


_Count, _Pair = Annotated[int, Field(ge=1, le=10**6)], Annotated[int, Field(ge=2, le=10**6)]
_Share, _Amount = Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(ge=0, le=1e6)]
PARAMETERS: Mapping[ModelKind, Mapping[str, Any]] = {
    ModelKind.XGBOOST: {
        **dict.fromkeys(("n_estimators", "max_depth", "max_cat_to_onehot", "max_cat_threshold"), _Count),
        **dict.fromkeys(("max_leaves", "max_bin"), _Pair),
        **dict.fromkeys(("learning_rate", "subsample"), _Share),
        **dict.fromkeys(("colsample_bytree", "colsample_bylevel", "colsample_bynode"), _Share),
        **dict.fromkeys(("gamma", "reg_alpha", "reg_lambda", "min_child_weight", "max_delta_step"), _Amount),
        "tree_method": Literal["hist", "approx"],
        "grow_policy": Literal["depthwise", "lossguide"],
        "class_weight": Literal["none", "balanced"],
        "categories": Literal["one_hot", "native"],
    },
    ModelKind.FOREST: {
        **dict.fromkeys(("n_estimators", "max_depth", "min_samples_leaf"), _Count),
        **dict.fromkeys(("max_leaf_nodes", "min_samples_split"), _Pair),
        **dict.fromkeys(("min_impurity_decrease", "ccp_alpha"), _Amount),
        "max_features": Literal["sqrt", "log2"] | _Share,
        "criterion": Literal["gini", "entropy", "log_loss"],
        "class_weight": Literal["none", "balanced", "balanced_subsample"],
        "limit": Literal["depth", "leaves"],
        "splits": Literal["best", "random"],
    },
    ModelKind.LOGISTIC: {
        "C": Annotated[float, Field(gt=0, le=1e6)],
        "l1_ratio": Annotated[float, Field(ge=0, le=1)],
        "max_iter": _Count,
        "penalty": Literal["l2", "elasticnet"],
        "class_weight": Literal["none", "balanced"],
    },
}
"""What a search may name, and the values that run; whatever else an estimator has, the project sets itself."""


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


class Search(Strict):
    """Search spaces by model."""

    xgboost: Space
    forest: Space
    logistic: Space

    @model_validator(mode="after")
    def _each_model_can_run(self) -> Self:
        for model in ModelKind:
            _can_run(model, self.of(model))
        return self

    def of(self, model: ModelKind) -> Space:
        """The space of `model`."""
        space: Space = getattr(self, model.value)
        return space


def _can_run(model: ModelKind, space: Space) -> None:
    """Hold every value of a space against what the model takes."""
    if space.early_stopping and model is not ModelKind.XGBOOST:
        raise fault(f"{model}.early_stopping", "is for xgboost alone: leave it out", space.early_stopping)
    also = {f"also.{number}": start for number, start in enumerate(space.also)}
    groups = {"fixed": space.fixed, "start": space.start, **also}
    values = [
        (f"{where}.{name}", name, value) for where, group in groups.items() for name, value in group.items()
    ]
    values += [(f"space.{name}", name, end) for name, drawn in space.space.items() for end in drawn.ends]
    for where, name, value in values:
        member(f"{model}.{where}", f"parameter of {model}", name, PARAMETERS[model])
        try:
            TypeAdapter(PARAMETERS[model][name]).validate_python(value, strict=True)
        except ValidationError as wrong:
            words = " or ".join(error["msg"] for error in wrong.errors())
            raise fault(f"{model}.{where}", words, value) from wrong
    mixed = {**space.fixed, **(space.space["l1_ratio"].when if "l1_ratio" in space.space else {})}
    if "l1_ratio" in {**space.fixed, **space.space} and mixed.get("penalty") != "elasticnet":
        raise fault(f"{model}.space.l1_ratio", "needs when: {penalty: elasticnet}", mixed)


def load_search() -> Search:
    """The search spaces of search.yaml."""
    return read(settings().experiments / "search.yaml", Search)
