"""Offers by learned effect beside offers by risk, at one budget, on customers whose propensities are logged.

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

from spanishgas.config.policy import ACTIONS, OfferTerms
from spanishgas.evaluation.budget import for_no_more, within_budget
from spanishgas.evaluation.effects import FLOOR, PROPENSITIES, chances, comparable, mean_interval
from spanishgas.evaluation.inference import Difference
from spanishgas.evaluation.uplift import auuc, calibration, qini, uplift_curve
from spanishgas.evaluation.value import NO_OFFER, kept_values, option_values, protected_margin
from spanishgas.training.doubly_robust import option_scores, pseudo_outcomes
from spanishgas.training.model import TIER

Array = NDArray[np.float64]
Choice = NDArray[np.intp]
RISK, LEARNED = "risk rule", "learned effects"
ENDS = {"": "value", ".low": "low", ".high": "high"}


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
    """Margin per customer, EUR, that learned effects keep more than the risk rule at one budget, with its interval."""
    rankings: Mapping[str, OfferRanking]
    customers: int
    campaigns: int

    @property
    def metrics(self) -> dict[str, float]:
        """Flat, under `uplift.`, with `.low` and `.high`."""
        figures = {"gain_eur": Difference(*self.gain)}
        figures |= {f"value_eur.{name.replace(' ', '_')}": one for name, one in self.values.items()}
        for name, of in self.rankings.items():
            figures |= {f"qini.{name}": of.qini, f"auuc.{name}": of.auuc}
        return {f"uplift.{n}{end}": getattr(d, key) for n, d in figures.items() for end, key in ENDS.items()}

    @property
    def passed(self) -> bool:
        """Whether learned effects surely keep more margin, and bring no less after what offers cost."""
        return self.keep_more and self.more >= 0

    @property
    def keep_more(self) -> bool:
        """Whether they surely keep more margin."""
        return self.gain[1] > 0

    @property
    def more(self) -> float:
        """EUR per customer that learned effects bring more than the risk rule, after what offers cost."""
        return self.values[LEARNED].value - self.values[RISK].value

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


def judged(rows: pd.DataFrame, told: pd.DataFrame, terms: OfferTerms) -> OfferJudgement:
    """What customers who taught nothing show of the effects that were `told` of them, a column per offer."""
    effects = {str(name): of.to_numpy(dtype="float64") for name, of in told.items()}
    options, ids = choices(rows, effects, terms), rows["customer_id"]
    net = brought(rows, options, effects, terms)
    kept = brought(rows, options, effects, terms, free=True)
    return OfferJudgement(
        values={name: Difference(*mean_interval(value, ids)) for name, value in net.items()},
        gain=mean_interval(kept[LEARNED] - kept[RISK], ids),
        rankings={name: ranking(rows, name, effect) for name, effect in effects.items()},
        customers=len(rows),
        campaigns=rows["as_of"].nunique(),
    )


def choices(rows: pd.DataFrame, effects: Mapping[str, Array], terms: OfferTerms) -> dict[str, Choice]:
    """Which option each rule chooses for each customer, numbered as ACTIONS.

    The risk rule is that of `recommend`; learned effects spend no more than it does, on what keeps most margin per EUR.
    """
    offers, places = terms.offers, [0, *map(ACTIONS.index, terms.offers.menu)]
    risk, margin = (rows[name].to_numpy(dtype="float64") for name in ("risk_score", "margin"))
    assumed, kept = (np.full((len(ACTIONS), len(rows)), -np.inf) for _ in range(2))
    assumed[places], kept[places] = option_values(risk, margin, offers), kept_values(effects, margin, offers)
    closed = rows[PROPENSITIES].to_numpy(dtype="float64").T < FLOOR
    closed[0] = False
    assumed[closed] = -np.inf
    cost = np.array([offers.menu[a].cost_eur if a in offers.menu else 0.0 for a in ACTIONS])
    every = np.where(np.isfinite(assumed[1:]).any(axis=0), 1 + assumed[1:].argmax(axis=0), 0)
    assumed[1:, rows[TIER].eq(terms.lowest).to_numpy()] = -np.inf
    share = terms.holdout.share * rows["as_of"].nunique()
    limit = None if offers.total_budget_eur is None else offers.total_budget_eur * share
    by_risk, kept, spent = for_no_more(kept, assumed, cost, limit)
    learned = within_budget(kept, cost, spent)
    return {"nobody": np.zeros_like(by_risk), "everyone": every, RISK: by_risk, LEARNED: learned}


def brought(
    rows: pd.DataFrame,
    options: Mapping[str, Choice],
    effects: Mapping[str, Array],
    terms: OfferTerms,
    free: bool = False,
) -> dict[str, Array]:
    """Doubly robust EUR that each rule brings of each customer beside no offer; `free` leaves out what offers cost.

    A customer who leaves takes along the margin over policy's horizon; an offer's cost is paid when it is taken.
    """
    offers = terms.offers
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
