"""Whether offers by learned effect would keep more than offers by risk, on customers that taught neither.

    campaigns + gold -> effect of each offer, on the training side -> worth of each option, on the held-out side
                     -> both rules at one budget -> paired interval -> verdict: one run, stage=uplift

At equal money the rule that keeps more margin is the better one, also where no offer works and any saving would pay.
What offers cost and how many months of margin a kept customer is worth are policy's assumptions; who stays because of
an offer is measured. A rule may choose only what the design might have offered the customer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from spanishgas.config.policy import ACTIONS, Holdout, Offers, load_policy
from spanishgas.config.tiers import read_tiers
from spanishgas.errors import DataError
from spanishgas.evaluation.charts import uplift_chart
from spanishgas.evaluation.effects import FLOOR, PROPENSITIES, chances, comparable, mean_interval
from spanishgas.evaluation.inference import Difference
from spanishgas.evaluation.uplift import auuc, calibration, option_scores, qini, uplift_curve
from spanishgas.evaluation.value import NO_OFFER, option_values, protected_margin
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle.stage import Work, recorded, through
from spanishgas.monitoring.campaigns import Logged, logged, pooled
from spanishgas.scoring.campaign import within_budget
from spanishgas.stages import Stage
from spanishgas.training.model import TIER
from spanishgas.training.sides import in_holdout
from spanishgas.training.uplift import UpliftModel, pseudo_outcomes

Array = NDArray[np.float64]
Choice = NDArray[np.intp]
DOCUMENT, RISK, LEARNED = "uplift.json", "risk rule", "learned effects"


@dataclass(frozen=True)
class UpliftInputs:
    """What the judgement of learned offers depends on."""

    campaigns: tuple[Logged, ...]
    features: tuple[str, ...]
    """Columns of gold that effects may depend on, beside risk score and margin; a campaign's gold may lack some."""
    offers: Offers
    lowest: str
    """The risk tier that the risk rule makes no offer to."""
    holdout: Holdout
    trials: int
    seed: int


UPLIFT = Stage[UpliftInputs]("uplift", (__name__,))


class OfferVerdict(BaseModel):
    """Whether learned effects may decide who gets which offer, and what that rests on."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    passed: bool
    gain: tuple[float, float, float]
    """Margin per customer, EUR, that learned effects keep more than the risk rule at one budget, with its interval."""
    findings: list[str]


def uplift(lake: Lake, trials: int = 25, seed: int = 7) -> OfferVerdict:
    """Learn effects from every campaign of the lake with labels, and judge them; the same inputs give the run there is.

    DataError where no campaign left anything to chance, an arm has too few customers, or gold is gone.
    """
    policy = load_policy()
    inputs = UpliftInputs(
        tuple(logged(lake)),
        tuple(read_tiers().features()),
        policy.offers,
        next(iter(policy.risk_tiers)),
        policy.holdout,
        trials,
        seed,
    )
    return through(
        UPLIFT,
        inputs,
        _uplift,
        title=f"uplift from {len(inputs.campaigns)} campaigns",
        recall=lambda key: recorded(UPLIFT, key, OfferVerdict, DOCUMENT),
        params={"trials": trials, "seed": seed},
    )


def _uplift(run: Work, inputs: UpliftInputs) -> OfferVerdict:
    rows, refused = customers(inputs.campaigns, inputs.features)
    shown = judge(rows, inputs)
    words = [*refused, shown.sentence]
    verdict = OfferVerdict(run_id=run.run_id, passed=shown.passed, gain=shown.gain, findings=words)
    figures = {"uplift.gain_eur": Difference(*shown.gain)}
    figures |= {f"uplift.value_eur.{name.replace(' ', '_')}": one for name, one in shown.values.items()}
    for name, of in shown.rankings.items():
        figures |= {f"uplift.qini.{name}": of.qini, f"uplift.auuc.{name}": of.auuc}
    run.log(
        metrics={f"{n}{end}": getattr(d, key) for n, d in figures.items() for end, key in ENDS.items()},
        tags={"gate": "passed" if shown.passed else "refused", "basis": LEARNED if shown.passed else RISK},
    )
    run.tables({f"calibration_{name}.json": of.calibration for name, of in shown.rankings.items()})
    run.figure(
        uplift_chart({name: of.curve for name, of in shown.rankings.items()}, shown.values), "uplift.png"
    )
    run.document(verdict.model_dump(mode="json"), DOCUMENT)
    run.describe("\n".join(f"- {line}" for line in verdict.findings))
    return verdict


@dataclass(frozen=True)
class OfferRanking:
    """How well the effects of one offer are told on customers who taught none of them, in churn avoided."""

    qini: Difference
    auuc: Difference
    calibration: pd.DataFrame
    curve: Array


@dataclass(frozen=True)
class OfferJudgement:
    """What the held-out customers show."""

    values: Mapping[str, Difference]
    """EUR per customer that each rule brings beside nobody getting an offer."""
    gain: tuple[float, float, float]
    """As `OfferVerdict` has it."""
    rankings: Mapping[str, OfferRanking]
    customers: int
    campaigns: int

    @property
    def passed(self) -> bool:
        """Whether learned effects surely keep more margin, and bring no less after what offers cost."""
        return self.gain[1] > 0 and self.values[LEARNED].value >= self.values[RISK].value

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        value, low, high = self.gain
        return (
            f"On {self.customers:,} held-out rows of {self.campaigns} campaigns, offers by learned effects keep "
            f"{value:+.2f} EUR of margin per customer ({low:+.2f} to {high:+.2f}) beside the risk rule at the same "
            "budget: "
            + ("they may decide." if self.passed else "that is not surely more, so the risk rule stays.")
        )


def judge(rows: pd.DataFrame, inputs: UpliftInputs) -> OfferJudgement:
    """Learn from the customers on the training side, judge on the others; `rows` are those of `customers`."""
    aside = in_holdout(rows["customer_id"], inputs.holdout)
    columns = ["risk_score", "margin", *(f for f in inputs.features if f in rows)]
    models = learn(rows[~aside], columns, inputs)
    judged = rows[aside].reset_index(drop=True)
    effects = {name: model.predict(judged[columns]) for name, model in models.items()}
    options, ids = choices(judged, effects, inputs), judged["customer_id"]
    net = brought(judged, options, effects, inputs)
    kept = brought(judged, options, effects, inputs, free=True)
    return OfferJudgement(
        values={name: Difference(*mean_interval(value, ids)) for name, value in net.items()},
        gain=mean_interval(kept[LEARNED] - kept[RISK], ids),
        rankings={name: ranking(judged, name, effect) for name, effect in effects.items()},
        customers=len(judged),
        campaigns=rows["as_of"].nunique(),
    )


ENDS = {"": "value", ".low": "low", ".high": "high"}


def customers(logs: tuple[Logged, ...], features: tuple[str, ...]) -> tuple[pd.DataFrame, list[str]]:
    """The pooled campaigns with gold's features as of each, and why campaigns are left out; DataError if all are."""
    pool = pooled(one.rows() for one in logs)
    refused = list(pool.refused.values())
    if pool.rows.empty:
        raise DataError(
            " ".join(refused) or "no campaign has labels yet: run `spanishgas outcomes` on them first"
        )
    days = set(pool.rows["as_of"])
    golds = {one.treatments.manifest.as_of: one.gold for one in logs if one.treatments.manifest.as_of in days}
    beside = [_features(gold, features).assign(as_of=day) for day, gold in golds.items() if gold is not None]
    if len(beside) < len(days):
        raise DataError(
            f"gold of {len(days) - len(beside)} campaigns is gone: build it again with `spanishgas etl`"
        )
    return pool.rows.merge(pd.concat(beside), on=["customer_id", "as_of"], how="left"), refused


def _features(gold: Snapshot, features: tuple[str, ...]) -> pd.DataFrame:
    own = {"customer_id", "segment"}  # the campaigns have the segment
    return gold.pandas(["customer_id", *(f for f in features if f in gold.manifest.columns and f not in own)])


def learn(rows: pd.DataFrame, columns: list[str], inputs: UpliftInputs) -> Mapping[str, UpliftModel]:
    """The effect of each offer on churn, from customers who might have met either it or none."""
    models = dict[str, UpliftModel]()
    for name in inputs.offers.menu:
        of = rows[rows["treatment"].isin([name, NO_OFFER]).to_numpy() & comparable(rows, name)]
        if of["treatment"].nunique() < 2:
            continue
        none, offered = chances(of, name)
        model = UpliftModel(trials=inputs.trials, seed=inputs.seed)
        treated = of["treatment"].eq(name).to_numpy()
        models[name] = model.fit(of[columns], treated, of["churn"].to_numpy(), offered / (none + offered))
    if not models:
        raise DataError(
            "no offer was made beside controls: set offers.control.share or offers.explore in policy.yaml"
        )
    return models


def choices(rows: pd.DataFrame, effects: Mapping[str, Array], inputs: UpliftInputs) -> dict[str, Choice]:
    """Which option each rule chooses for each customer, numbered as ACTIONS.

    The risk rule is that of `recommend`; learned effects spend no more than it does, on what keeps most margin per EUR.
    """
    offers = inputs.offers
    risk, margin = (rows[name].to_numpy(dtype="float64") for name in ("risk_score", "margin"))
    assumed, expected = (np.full((len(ACTIONS), len(rows)), -np.inf) for _ in range(2))
    assumed[[0, *map(ACTIONS.index, offers.menu)]] = option_values(risk, margin, offers)
    assumed[1:][rows[PROPENSITIES[1:]].to_numpy(dtype="float64").T < FLOOR] = -np.inf
    open_to = np.isfinite(assumed)
    expected[0] = 0.0
    for name, effect in effects.items():
        kept = -effect * protected_margin(margin, offers.horizon_months)
        expected[ACTIONS.index(name)] = np.where(open_to[ACTIONS.index(name)], kept, -np.inf)
    cost = np.array([offers.menu[a].cost_eur if a in offers.menu else 0.0 for a in ACTIONS])
    every = np.where(open_to[1:].any(axis=0), 1 + assumed[1:].argmax(axis=0), 0)
    assumed[1:, rows[TIER].eq(inputs.lowest).to_numpy()] = -np.inf
    share = inputs.holdout.share * rows["as_of"].nunique()
    limit = None if offers.total_budget_eur is None else offers.total_budget_eur * share
    by_risk = within_budget(assumed, cost, limit)
    learned = within_budget(expected, cost, float(cost[by_risk].sum()))
    return {"nobody": np.zeros_like(by_risk), "everyone": every, RISK: by_risk, LEARNED: learned}


def brought(
    rows: pd.DataFrame,
    options: Mapping[str, Choice],
    effects: Mapping[str, Array],
    inputs: UpliftInputs,
    free: bool = False,
) -> dict[str, Array]:
    """Doubly robust EUR that each rule brings of each customer beside no offer; `free` leaves out what offers cost.

    A customer who leaves takes along the margin over policy's horizon; an offer's cost is paid when it is taken.
    """
    offers = inputs.offers
    lost = protected_margin(rows["margin"].to_numpy(dtype="float64"), offers.horizon_months)
    cost = np.array([offers.menu[a].expected_cost if a in offers.menu and not free else 0.0 for a in ACTIONS])
    risk = rows["risk_score"].to_numpy(dtype="float64")
    churn = [np.clip(risk + effects.get(option, 0.0), 0, 1) for option in ACTIONS]
    made = np.array([ACTIONS.index(name) for name in rows["treatment"]])
    value = -rows["churn"].to_numpy(dtype="float64") * lost - cost[made]
    expected = np.column_stack([-c * lost - cost[i] for i, c in enumerate(churn)])
    scores = option_scores(value, made, rows[PROPENSITIES].to_numpy(dtype="float64"), expected)
    return {name: scores[np.arange(len(rows)), option] - scores[:, 0] for name, option in options.items()}


def ranking(rows: pd.DataFrame, name: str, effect: Array) -> OfferRanking:
    """How well `effect`, on churn, ranks and sizes what the offer does to customers who might have met it or none."""
    of = rows["treatment"].isin([name, NO_OFFER]).to_numpy() & comparable(rows, name)
    part, avoided = rows[of], -effect[of]
    none, offered = chances(part, name)
    before = part["risk_score"].to_numpy(dtype="float64")
    arms = np.column_stack([before, np.clip(before - avoided, 0, 1)])
    treated = part["treatment"].eq(name).to_numpy().astype("float64")
    scores = -pseudo_outcomes(
        part["churn"].to_numpy(dtype="int64"), treated, offered / (none + offered), arms
    )
    told = qini(avoided, scores), auuc(avoided, scores)
    return OfferRanking(*told, calibration(avoided, scores), uplift_curve(avoided, scores))
