"""What is tried and decided, read strictly from experiments/: E0.yaml ... E8.yaml, search.yaml and policy.yaml.

An unknown key, tier, feature or model is a `UsageError` that names the file, the key and what would be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spanishgas.errors import UsageError
from spanishgas.settings import settings

if TYPE_CHECKING:
    from spanishgas.features import Tiers

Value = str | int | float


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


class Strict(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Experiment(Strict):
    """One rung of the ladder: the tiers it uses and the question it answers."""

    id: str
    question: str
    tiers: list[str] = Field(min_length=1)
    without: list[str] = []
    below: str | None = None
    """The experiment that this one is held against; its best parameters are tried early."""

    def features(self, tiers: Tiers, *, linear: bool) -> list[str]:
        """The rung's features in the dictionary's order; crossed strings for linear models only."""
        names = [f for f in tiers.features(self.tiers) if linear or tiers.kind(f) != "cross"]
        return [f for f in names if f not in self.without]


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


class Holdout(Strict):
    """Which customers are set aside: a share of them, by a salted hash of the id."""

    share: float = Field(gt=0, lt=1)
    salt: str

    def __str__(self) -> str:
        """Short enough for a run's parameter; two that differ set other customers aside."""
        return f"{self.share:g} by {self.salt}"


class Retention(Strict):
    """What a contact is worth: assumptions, not measurements."""

    kept_customer_eur: float = Field(gt=0)
    """Margin that a customer brings who would have left and was kept."""
    contact_cost_eur: float = Field(ge=0)
    acceptance: float = Field(gt=0, le=1)
    """Share of contacted customers who take what is offered."""
    uplift: float = Field(gt=0, le=1)
    """By how much taking it lowers the probability of leaving."""


class ThresholdRule(StrEnum):
    """What the decision threshold is chosen for."""

    RECALL_FLOOR = "recall_floor"
    EXPECTED_VALUE = "expected_value"


class Threshold(Strict):
    """How the decision threshold is chosen, out of fold, on the calibrated scale."""

    rule: ThresholdRule = ThresholdRule.RECALL_FLOOR
    min_recall: float = Field(gt=0, le=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Of the lower bound of recall, which is what must reach the floor."""
    retention: Retention


class Margins(Strict):
    """By how much a version may lie behind the champion at the lower end of the paired 95 % interval."""

    average_precision_margin: float = Field(gt=0, le=1)
    value_margin: float = Field(gt=0, le=1)
    """As a share of what the champion's offers would have brought."""


class GateLimits(Strict):
    """What a version must reach on the holdout, and what its artefact may cost."""

    min_average_precision: float = Field(ge=0, le=1)
    max_calibration_error: float = Field(gt=0, le=1)
    min_value_eur: float
    max_worse_slices: int = Field(ge=0)
    max_megabytes: float = Field(gt=0)
    max_seconds_per_thousand: float = Field(gt=0)
    clean_work_tree: bool
    champion: Margins


class Promotion(Strict):
    """Who and what may move the champion."""

    automatic: bool = True
    """Whether main and retrain promote what passed its gate; else they leave a challenger."""
    approvers: list[str] = []
    """Users of whom one must approve a version first; nobody need where it is empty."""


class Remedy(StrEnum):
    """What follows where a new champion turns out worse than the one before."""

    PROPOSE = "propose"
    ROLLBACK = "rollback"


class Probation(Strict):
    """How long a new champion is held against the one before it, by the labels of newer cohorts."""

    cohorts: int = Field(3, ge=1)
    """Cohorts of labels after which it has passed; each gets its share of the chance of error."""
    days: int | None = Field(None, ge=1)
    """Between its training's as-of date and a cohort's, beyond which that cohort no longer counts."""
    action: Remedy = Remedy.PROPOSE
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """With which one that is as good as the one before stays, over all cohorts."""


class Offer(Strict):
    """A retention offer: paid when taken; `uplift` is by how much it lowers the probability of churn."""

    cost_eur: float = Field(ge=0)
    acceptance: float = Field(ge=0, le=1)
    uplift: float = Field(ge=0, le=1)


class Control(Strict):
    """Customers who get no offer though one was chosen for them, by a salted hash of the id: they measure uplift."""

    share: float = Field(ge=0, lt=1)
    salt: str


class Offers(Strict):
    """The menu of offers and the business case they are judged by."""

    horizon_months: int = Field(gt=0)
    max_share_of_margin: float = Field(gt=0, le=1)
    total_budget_eur: float | None = Field(None, ge=0)
    control: Control = Control(share=0.0, salt="")
    menu: dict[str, Offer]
    timing_days: dict[str, int]


class Windows(Strict):
    """How many of the last reports must have rung before anything is triggered."""

    k: int = Field(ge=1)
    of: int = Field(ge=1)

    @model_validator(mode="after")
    def _k_of_n(self) -> Self:
        if self.k > self.of:
            raise ValueError(f"k must be at most of, but got {self.k} of {self.of}")
        return self


class DriftLimits(Strict):
    """From when on a column counts as moved, and how often an alarm may ring for nothing."""

    false_alarm_rate: float = Field(gt=0, lt=1)
    """Share of the reports without drift that may ring, over all features together."""
    ordinary: Path | None = None
    """Folder of ordinary change learned on one's own tables; the shipped one is of the simulated utility."""
    windows: Windows = Windows(k=2, of=3)
    retrain: bool = True
    """Whether drift that is serious starts a retrain; else the command is named."""
    cooldown_days: int = Field(90, ge=0)
    """Between the as-of dates of two windows that a retrain is started for."""
    min_effect: float = Field(gt=0)
    """From which effect size on Evidently's report and the share of inputs that moved count a column."""


class Waiver(Strict):
    """A known finding that the policy tolerates, with its reason and date; shown in every verdict."""

    check: str
    reason: str
    date: date
    features: list[str] = []
    """Columns that the finding is about."""


class Policy(Strict):
    """Everything that is decided rather than learned."""

    holdout: Holdout
    folds: int = Field(ge=2)
    repeats: int = Field(2, ge=1)
    """How often a winner is refitted on `folds` fresh folds; only these are reported."""
    threshold: Threshold
    risk_tiers: dict[str, float]
    gate: GateLimits
    promotion: Promotion = Promotion()
    probation: Probation = Probation()
    offers: Offers
    drift: DriftLimits
    waivers: list[Waiver] = []

    @model_validator(mode="after")
    def _tiers_ascend_from_zero(self) -> Self:
        edges = list(self.risk_tiers.values())
        if not edges or edges[0] != 0 or edges != sorted(set(edges)) or edges[-1] >= 1:
            raise ValueError(f"risk_tiers must start at 0 and ascend below 1, but got {edges}")
        return self


M = TypeVar("M", bound=BaseModel)


def _read(path: Path, model: type[M]) -> M:
    from spanishgas.contracts.dictionary import UniqueKeys

    try:
        return model.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys))
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist: restore it from the project, or set SPANISHGAS_EXPERIMENTS"
        ) from None
    except yaml.YAMLError as fault:
        raise UsageError(f"{path} is not YAML: {fault}") from fault
    except ValidationError as fault:
        raise UsageError("\n".join([f"{path} is not valid:", *_faults(fault, model)])) from fault


def _faults(fault: ValidationError, model: type[BaseModel]) -> list[str]:
    lines = []
    for error in fault.errors():
        where = ".".join(str(part) for part in error["loc"]) or "(file)"
        if error["type"] == "extra_forbidden":
            lines.append(f"  - unknown key '{where}'; known at the top: {', '.join(model.model_fields)}")
        else:
            lines.append(f"  - {where}: {error['msg']} (got {error['input']!r})")
    return lines


def experiment_ids() -> list[str]:
    """Ids of the experiments at hand, in order."""
    return sorted(p.stem for p in settings().experiments.glob("E*.yaml"))


def load_experiment(name: str) -> Experiment:
    """The experiment called `name`; UsageError for an unknown id, key, tier or feature."""
    from spanishgas.features import (
        load_tiers,
    )  # brings Ibis along, which a model that only scores does without

    if name not in experiment_ids():
        raise UsageError.unknown("experiment", name, experiment_ids())
    path = settings().experiments / f"{name}.yaml"
    found = _read(path, Experiment)
    tiers = load_tiers()
    if found.id != name:
        raise UsageError(f"{path}: id is '{found.id}', but the file's name says '{name}'")
    known = tiers.features(found.tiers)
    if found.below is not None and found.below not in experiment_ids():
        raise UsageError.unknown(f"experiment in 'below' of {path.name}", found.below, experiment_ids())
    for feature in found.without:
        if feature not in known:
            raise UsageError.unknown(f"feature in 'without' of {path.name}", feature, known)
    return found


def below(name: str) -> list[str]:
    """The experiments that `name` stands on, nearest first; UsageError where they go round in a circle."""
    found: list[str] = []
    while (lower := load_experiment(found[-1] if found else name).below) is not None:
        if lower in (name, *found):
            raise UsageError(f"'below' goes round in a circle from {name}: {', '.join([*found, lower])}")
        found.append(lower)
    return found


@cache
def load_search() -> Search:
    """The search spaces of search.yaml."""
    return _read(settings().experiments / "search.yaml", Search)


@cache
def load_policy() -> Policy:
    """The decisions of policy.yaml."""
    return _read(settings().experiments / "policy.yaml", Policy)


def as_data(model: BaseModel) -> Mapping[str, Any]:
    """A model as plain data, for fingerprints and artefacts."""
    return model.model_dump(mode="json")
