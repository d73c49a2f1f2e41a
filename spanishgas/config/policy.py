"""What is decided rather than learned: experiments/policy.yaml."""

from __future__ import annotations

from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from spanishgas.config.reading import Names, Strict, Text, fault, member, read, unique
from spanishgas.config.tiers import read_tiers
from spanishgas.errors import UsageError
from spanishgas.settings import settings

RISK_TIERS = ("Low", "Medium", "High", "Critical")
ACTIONS = ("no_offer", "offer_small", "offer_medium", "offer_large")
TIMINGS = ("immediate", "30_60_days", "60_90_days")
SIGNATURE, TOO_GOOD = "signature", "too_good"
ABOUT_FEATURES = ("outcome_conditioned_text", "single_feature")
"""Findings that a waiver declares for the features it names; beside them and the two above, none is ever waived."""


class HoldoutBy(StrEnum):
    """When the customers who are set aside are judged."""

    CUSTOMER = "customer"
    TIME = "time"


class Holdout(Strict):
    """Which customers are set aside: a share of them, by a salted hash of the id; and on which day they are judged."""

    share: float = Field(gt=0, lt=1)
    salt: Text
    by: HoldoutBy = Field(HoldoutBy.CUSTOMER, strict=False)
    """customer: on the day that the others train on; time: on the newest labelled day, the others on days before it."""
    embargo_months: int = Field(12, ge=0)
    """Months between the end of a training day's labels and the judged day, by time; features look back on twelve."""
    half_life_months: float | None = Field(None, gt=0)
    """Months that a day lies before the newest training day to count half, by time; null: all count alike."""

    def __str__(self) -> str:
        """Short enough for a run's parameter; two that differ set other customers aside, or judge them otherwise."""
        apart = f", by time, {self.embargo_months} months apart, half-life {self.half_life_months}"
        return f"{self.share:g} by {self.salt}" + apart * (self.by is HoldoutBy.TIME)

    @model_serializer(mode="wrap")
    def _without_defaults(self, told: SerializerFunctionWrapHandler) -> dict[str, object]:
        """A holdout by customer is written as before there was another."""
        default = {name: field.default for name, field in type(self).model_fields.items()}
        return {name: value for name, value in told(self).items() if value != default[name]}


class Protocol(Strict):
    """How experiments are searched and scored: who is held out, and on how many folds."""

    holdout: Holdout
    folds: int = Field(ge=2, le=50)
    repeats: int = Field(2, ge=1, le=50)
    """How often a winner is refitted on `folds` fresh folds; only these are reported."""


class Retention(Strict):
    """What a contact is worth: assumptions, not measurements."""

    kept_customer_eur: float = Field(gt=0)
    """Margin that a customer brings who would have left and was kept."""
    contact_cost_eur: float = Field(ge=0)
    acceptance: float = Field(gt=0, le=1)
    """Share of contacted customers who take what is offered."""
    uplift: float = Field(gt=0, le=1)
    """Reduction of the probability of leaving where the offer is taken."""


class ThresholdRule(StrEnum):
    """What the decision threshold is chosen for."""

    RECALL_FLOOR = "recall_floor"
    EXPECTED_VALUE = "expected_value"


class Threshold(Strict):
    """How the decision threshold is chosen, out of fold, on the calibrated scale."""

    rule: ThresholdRule = Field(ThresholdRule.RECALL_FLOOR, strict=False)
    min_recall: float = Field(gt=0, le=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Confidence of the lower bound of recall, which is what must reach the floor."""
    retention: Retention


class Margins(Strict):
    """How far a version may lie behind the champion at the lower end of the paired 95 % interval."""

    average_precision_margin: float = Field(gt=0, le=1)
    value_margin: float = Field(gt=0, le=1)
    """As a share of what the champion's offers would have brought."""


class GateLimits(Strict):
    """What a version must reach on the holdout, and what its artefact may cost."""

    min_average_precision: float = Field(ge=0, le=1)
    min_skill: float | None = Field(None, ge=0, lt=1)
    """Share of the way from the churn rate to 1 that the lower end of a first champion's average precision must have
    gone; null: that end must exceed twice the churn rate."""
    beside_baseline: bool = False
    """Whether a version is refused that is surely worse than a logistic regression on the same features."""
    max_average_precision: float = Field(1.0, ge=0, le=1)
    """Above it, by the lower end of its interval, a model is too good to be true. Earlier records set no limit."""
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
    """Whether main and retrain promote a version that passed its gate; otherwise they leave a challenger."""
    approvers: Names = []
    """Users, one of whom must approve a version first; if empty, no approval is needed."""


class Remedy(StrEnum):
    """What follows where a new champion turns out worse than the one before."""

    PROPOSE = "propose"
    ROLLBACK = "rollback"


class ProbationRules(Strict):
    """How long a new champion is compared with the one before it, on the labels of newer cohorts."""

    cohorts: int = Field(3, ge=1)
    """Number of labelled cohorts after which it has passed; each gets an equal share of the error probability."""
    days: int | None = Field(None, ge=1)
    """Largest distance of a cohort's as-of date from its training's; a later cohort no longer counts."""
    action: Remedy = Field(Remedy.PROPOSE, strict=False)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Confidence that one as good as the one before keeps its place, over all cohorts."""


class Offer(Strict):
    """A retention offer: paid when taken; `uplift` is by how much it lowers the probability of churn."""

    cost_eur: float = Field(ge=0)
    acceptance: float = Field(ge=0, le=1)
    uplift: float = Field(ge=0, le=1)

    @property
    def expected_cost(self) -> float:
        """EUR that making the offer costs on average."""
        return self.acceptance * self.cost_eur


class Control(Strict):
    """Customers who get no offer though one was chosen for them, by a salted hash of the id: they measure uplift."""

    share: float = Field(ge=0, lt=1)
    minimum: int = Field(0, ge=0)
    """Least number of controls in each stratum, though never more than half of it."""
    salt: str

    @model_validator(mode="after")
    def _drawn_by_a_salt(self) -> Self:
        if (self.share or self.minimum) and not self.salt.strip():
            raise fault("salt", "must be text where the share or the minimum is above 0", self.salt)
        return self


class Offers(Strict):
    """The menu of offers and the business case they are judged by."""

    horizon_months: int = Field(gt=0)
    max_share_of_margin: float = Field(gt=0, le=1)
    total_budget_eur: float | None = Field(None, ge=0)
    control: Control = Control(share=0.0, salt="")
    strata: Annotated[list[Literal["risk_tier", "segment"]], AfterValidator(unique)] = []
    """What customers are told apart by where controls are counted."""
    explore: float = Field(0.0, ge=0, lt=1)
    """Share of the customers above the lowest tier who get one of the offers open to them by chance, whether it is
    expected to pay or not: the effects of offers that the values would not choose are then measured as well."""
    menu: dict[str, Offer] = Field(min_length=1)
    timing_days: dict[str, Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Upper edges of the windows of days to renewal, ascending."""

    @model_validator(mode="after")
    def _names_are_those_of_the_tables(self) -> Self:
        if self.explore and not self.control.salt.strip():
            raise fault("control.salt", "must be text where explore is above 0", self.control.salt)
        for key, names in (("menu", ACTIONS[1:]), ("timing_days", TIMINGS)):
            for name in getattr(self, key):
                member(f"{key}.{name}", "name", name, names)
        windows, edges = list(self.timing_days), list(self.timing_days.values())
        if edges != sorted(set(edges)) or windows != [name for name in TIMINGS if name in windows]:
            raise fault("timing_days", f"must ascend, in the order {', '.join(TIMINGS)}", self.timing_days)
        return self

    def named(self, name: str) -> Offer:
        """The offer of a treatment log; UsageError where the menu no longer has it."""
        if name not in self.menu:
            raise UsageError.unknown("offer in the treatment log, by policy.yaml", name, self.menu)
        return self.menu[name]


class Windows(Strict):
    """How many of the last windows must have raised an alarm before anything is triggered."""

    k: int = Field(ge=1)
    of: int = Field(ge=1)

    @model_validator(mode="after")
    def _k_of_n(self) -> Self:
        if self.k > self.of:
            raise ValueError(f"k must be at most of, but got {self.k} of {self.of}")
        return self


class AlarmLimits(Strict):
    """From when on a column counts as moved, and how often an alarm may ring for nothing."""

    false_alarm_rate: float = Field(gt=0, lt=1)
    """Share of reports without drift that may raise an alarm, over all features together."""
    min_effect: float = Field(gt=0)
    """Effect size from which Evidently's report and the share of inputs that moved count a column."""


class DriftLimits(AlarmLimits):
    """Limits by which drift is judged, and what follows from alarms."""

    baseline: Path | None = Field(None, strict=False)
    """Folder of baseline variation learned on your own tables; the shipped one is of the simulated utility.

    A relative one lies beside policy.yaml."""
    windows: Windows = Windows(k=2, of=3)
    retrain: bool = True
    """Whether serious drift starts a retrain; if not, the command is named."""
    cooldown_days: int = Field(90, ge=0)
    """Least number of days between the as-of dates of two windows that start a retrain."""

    @field_validator("baseline")
    @classmethod
    def _is_a_folder(cls, baseline: Path | None, info: ValidationInfo) -> Path | None:
        if baseline is not None:
            baseline = (info.context or Path()) / baseline
            if not baseline.is_dir():
                raise fault("", "must be a folder, named from the one of policy.yaml", str(baseline))
        return baseline


class Waiver(Strict):
    """A known finding that the policy tolerates, with its reason and date; shown in every verdict."""

    check: Text
    reason: str
    date: Annotated[date, BeforeValidator(lambda d: date.fromisoformat(d) if isinstance(d, str) else d)]
    features: Names = []
    """Columns that the finding is about."""


Dimension = Literal["segment", "channel", "competition", "tenure", "renewal", "fuel", "province"]
"""What customers can be divided by in an evaluation."""


class Judgement(Protocol):
    """How a version is fitted and judged."""

    threshold: Threshold
    risk_tiers: dict[str, float]
    gate: GateLimits
    offers: Offers
    protected: Annotated[list[Dimension], AfterValidator(unique)] = []
    """Dimensions by which the model card compares rates between customers: attributes of people, or proxies."""
    waivers: list[Waiver] = []

    @model_validator(mode="after")
    def _waivers_have_an_effect(self, info: ValidationInfo) -> Self:
        """A file's waivers name known features and past dates; recorded ones are not held against the present."""
        if info.context is None:
            return self
        checks, features = (SIGNATURE, TOO_GOOD, *ABOUT_FEATURES), read_tiers().features()
        unique([waiver.check for waiver in self.waivers])
        for number, waiver in enumerate(self.waivers):
            where = f"waivers.{number}"
            member(f"{where}.check", "check that can be waived", waiver.check, checks)
            for feature in waiver.features:
                member(f"{where}.features", "feature", feature, features)
            if (waiver.check in ABOUT_FEATURES) != bool(waiver.features):
                raise fault(f"{where}.features", f"are for {' and '.join(ABOUT_FEATURES)}", waiver.features)
            if not waiver.reason.strip():
                raise fault(f"{where}.reason", "must say why", waiver.reason)
            if waiver.date > date.today() + timedelta(days=1):
                raise fault(f"{where}.date", "lies in the future", waiver.date)
        return self

    @model_validator(mode="after")
    def _tiers_ascend_from_zero(self) -> Self:
        names, edges = tuple(self.risk_tiers), list(self.risk_tiers.values())
        if names != RISK_TIERS or edges[0] != 0 or edges != sorted(set(edges)) or edges[-1] >= 1:
            raise ValueError(
                f"risk_tiers must start at 0 and ascend below 1: {RISK_TIERS}, but got {self.risk_tiers}"
            )
        return self


class OfferTerms(Strict):
    """What rules of who gets an offer are judged by."""

    offers: Offers
    lowest: str
    """The risk tier that no offer is made to."""
    holdout: Holdout


class Policy(Judgement):
    """Everything that is decided rather than learned."""

    promotion: Promotion = Promotion()
    max_age_days: int | None = Field(None, ge=1)
    """Days from a champion's training table to the newest data after which it is called too old; null: it never is."""
    probation: ProbationRules = ProbationRules()
    label_horizon_months: int = Field(12, ge=1)
    """Months after the as-of date within which a customer who left counts as churned, where labels have dates."""
    drift: DriftLimits


def load_policy() -> Policy:
    """The decisions of policy.yaml."""
    return read(settings().experiments / "policy.yaml", Policy)
