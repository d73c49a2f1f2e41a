"""What to do about each customer: an offer that pays, when, and the model's own reasons in words.

    scores + gold -> intervals -> offers within budget -> control share -> reasons -> recommendations, treatments

Who gets an offer follows from risk and the policy's assumptions; where the registered model of offers has a champion,
from the effects that it learned, for no more money.

Reasons cost about a hundred times more than scores, so they are computed from Medium tier up; below stands a stated
generic reason. Guardrails: no offer for a negative margin, none that is not expected to pay, reasons never empty.

`probability_low` and `probability_high` are Venn-Abers' two values (Vovk & Petej 2014): what isotonic calibration on
the holdout's customers, whom the model did not learn from, would state were this customer added as a stayer and as a
churner. The one that comes true is calibrated, on average over customers like those of the holdout; which it is, nobody
knows beforehand. They show how firmly the holdout supports a score. They are no confidence interval: neither the
customer's own probability nor the churn rate at the score need lie between. The model's own probability may lie outside
where its calibration curve differs from what the holdout shows.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spanishgas.config.policy import ACTIONS, Offers, load_policy
from spanishgas.config.tiers import read_tiers
from spanishgas.errors import TrackingError
from spanishgas.evaluation.budget import for_no_more
from spanishgas.evaluation.value import NO_OFFER, kept_values, lasting_margin, option_values
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import promotion, registry, runs
from spanishgas.lifecycle.records import OFFERS
from spanishgas.lifecycle.stage import Work, through
from spanishgas.lifecycle.version import TrainingTable, Version
from spanishgas.scoring.campaign import CURVE, EFFECT, page
from spanishgas.scoring.design import assign, stratum
from spanishgas.scoring.payload import ID
from spanishgas.scoring.reasons import GENERIC, reasons
from spanishgas.scoring.score import MARGIN
from spanishgas.stages import Stage, unkeyed
from spanishgas.training.hazard import EARLY
from spanishgas.training.model import PROBABILITY, TIER, ChurnModel

Array = NDArray[np.float64]
OF_CONTRACT = ("segment", "months_to_renewal")
"""What an energy contract says of a customer; a table from elsewhere has neither, and its customers are due at once."""
EXACT = 20_000
"""Up to so many calibration customers scores are taken as they are; beyond, rounded to four digits to save time."""


@dataclass(frozen=True)
class RecommendInputs:
    """What recommendations depend on."""

    scores: Snapshot
    gold: Snapshot
    version: Version
    offers_version: Version | None
    """The champion of the model that knows what offers change; None where the risk rule decides."""
    training: TrainingTable
    risk_tiers: Mapping[str, float]
    """The lower edges by which the version told tiers apart."""
    offers: Offers
    words: Mapping[str, str]
    """Every feature as a retention agent reads it."""
    lake: Lake = unkeyed("where the recommendations go")


RECOMMEND = Stage[RecommendInputs]("recommend", (__name__,))


def recommend(*, lake: Lake) -> Snapshot:
    """Publish a recommendation per scored customer of the newest scores, and the treatment log beside it.

    Unchanged inputs leave both as they are. The run gets a one-page summary of the campaign, and the offers as data.
    """
    inputs = recommend_inputs(lake)
    return through(
        RECOMMEND,
        inputs,
        _recommend,
        title=f"recommend for {inputs.scores.manifest.rows:,} customers",
        recall=lambda key: _recalled(key, inputs),
    )


def recommend_inputs(lake: Lake) -> RecommendInputs:
    """The recommendations of the newest scores, by the version that made them and today's offers."""
    scores, tiers = lake.current("scores"), read_tiers()
    version = registry.resolve(str(scores.pandas(["model_version"]).iloc[0, 0])).checked()
    return RecommendInputs(
        scores=scores,
        gold=lake.by_digest(scores.manifest.built_from["gold_master"], "gold_master"),
        version=version,
        offers_version=promotion.scorable_offers(),
        training=version.training_table(lake),
        risk_tiers=version.record.policy.risk_tiers,
        offers=load_policy().offers,
        words={feature: tiers.words(feature) for feature in tiers.features()},
        lake=lake,
    )


def _recalled(key: str, inputs: RecommendInputs) -> Snapshot | None:
    as_of = inputs.scores.manifest.as_of
    log = inputs.lake.made("treatments", as_of, key)
    return inputs.lake.made("recommendations", as_of, key) if log else None


def _recommend(run: Work, inputs: RecommendInputs) -> Snapshot:
    scored, as_of = inputs.scores.pandas(), inputs.scores.manifest.as_of
    risky = at_risk(scored, inputs.risk_tiers)
    began = time.perf_counter()
    why = explained(inputs.version.model, inputs.gold, scored, risky, inputs.words)
    seconds = time.perf_counter() - began
    customers, version = with_gold(scored, inputs.gold), inputs.offers_version
    learned = learned_effects(version, customers, risky, inputs.gold) if version else None
    chosen = choose(customers, inputs.offers, risky, learned)
    made = recommendations(chosen, Calibration.of(inputs.version.model, inputs.training), why)
    run.document(inputs.offers.model_dump(mode="json"), OFFERS)
    run.publish_rows(inputs.lake, "treatments", as_of, chosen[chosen["arm"].notna()])
    published = run.publish_rows(inputs.lake, "recommendations", as_of, made)
    columns = {"risk_score": "probability", MARGIN: "margin", TIER: "tier"}
    lasting = lasting_margin(made, made[MARGIN].to_numpy(dtype="float64"), inputs.offers)
    run.text(
        page(
            made.assign(**{MARGIN: lasting}).rename(columns=columns),
            inputs.offers,
            as_of,
            version.metrics if version else None,
            _curve(version),
        ),
        "campaign.html",
    )
    run.log(
        metrics={
            "recommend.offers": float(made["arm"].eq("offer").sum()),
            "recommend.controls": float(made["arm"].eq("control").sum()),
            "recommend.offer_budget_eur": float(made["offer_budget"].sum()),
            "recommend.expected_margin_impact_eur": float(made["expected_margin_impact"].sum()),
            "recommend.reasons_seconds": seconds,
        },
        tags={"recommendations": published.uri},
    )
    return published


def _curve(version: Version | None) -> list[bytes]:
    """The picture of learned effects; none where the risk rule decides, or the picture is gone."""
    with suppress(TrackingError):
        return [runs.content(version.run_id or "", CURVE)] if version else []
    return []


def with_gold(scored: pd.DataFrame, gold: Snapshot) -> pd.DataFrame:
    """Scored customers beside what `choose` takes of gold."""
    there = [ID, MARGIN, *(c for c in OF_CONTRACT if c in gold.manifest.columns)]
    beside = gold.pandas(there).reindex(columns=[ID, MARGIN, *OF_CONTRACT])
    return scored.merge(beside, on=ID, validate="1:1")


@dataclass(frozen=True)
class LearnedEffects:
    """What each offer adds to a customer's probability to leave, by the version that decides."""

    effects: Mapping[str, Array]
    fifths: Mapping[str, pd.DataFrame]
    """What each offer avoids as predicted and as observed of held-out customers, by fifths of the prediction."""

    def columns(self, offer: NDArray[np.object_], kept: Array) -> dict[str, Array]:
        """The churn that the `offer` of each customer avoids, and its interval; NaN without one.

        The interval is that of the average effect among held-out customers of the nearest fifth, not of one customer.
        `better_left_alone` is 1 where each offer open to the customer, whose margin `kept` says, would make it leave.
        """
        told = np.full((3, len(offer)), np.nan)
        for name, effect in self.effects.items():
            rows, seen = offer == name, self.fifths[name]
            middle = seen["predicted"].to_numpy(dtype="float64")
            nearest = np.searchsorted((middle[1:] + middle[:-1]) / 2, -effect[rows])
            told[:, rows] = -effect[rows], *seen[["low", "high"]].to_numpy(dtype="float64")[nearest].T
        np.clip(told, -1, 1, out=told)
        best = kept.max(axis=0)
        return dict(zip(EFFECT, (*told, np.isfinite(best) & (best < 0)), strict=True))


def learned_effects(
    version: Version, customers: pd.DataFrame, risky: NDArray[np.bool_], gold: Snapshot
) -> LearnedEffects:
    """What offers change of the `risky` ones of `customers`, as `with_gold` has them; NaN of the others."""
    model, renamed = version.offer_model, {PROBABILITY: "risk_score", MARGIN: "margin"}
    rest = [f for f in model.features if f not in (*customers.columns, *renamed.values())]
    asked = customers[risky]
    rows = asked.merge(of_customers(gold, asked[ID], rest), on=ID, validate="1:1").rename(columns=renamed)
    effects = {str(name): np.full(len(customers), np.nan) for name in model.effects}
    for name, told in model.predict(rows).items():
        effects[str(name)][risky] = told
    return LearnedEffects(effects, {n: pd.DataFrame(f) for n, f in version.offer_record.fifths.items()})


def choose(
    customers: pd.DataFrame, offers: Offers, risky: NDArray[np.bool_], learned: LearnedEffects | None = None
) -> pd.DataFrame:
    """Scored customers, beside gold's segment, margin and months to renewal, with what is decided for each.

    - offer: what pays, to one of the `risky` ones, as far as the budget goes, or is tried out; else no_offer.
      With `learned` effects: what keeps most margin per EUR, for no more money than what pays by risk costs
    - offer_cost, expected_margin_impact: EUR of it, when it is taken and as expected
    - arm: `offer` where it is made, else `control`; None where nothing was left to chance
    - stratum, propensity (of what is done) and one per option; control_share is that of no offer
    - risk_score, timing_window; with `learned` effects the columns of EFFECT too
    """
    margin = lasting_margin(customers, customers[MARGIN].to_numpy(dtype="float64"), offers)
    values = option_values(customers[PROBABILITY].to_numpy(), margin, offers)
    due = customers[EARLY if EARLY in customers else "months_to_renewal"]
    values[1:, ~risky] = -np.inf
    costs = np.array([0.0, *(offer.cost_eur for offer in offers.menu.values())])
    worth, most = values, None
    if learned:
        kept = kept_values(learned.effects, margin, offers)
        _, values, most = for_no_more(kept, values, costs, offers.total_budget_eur)
        worth = values - np.array([[0.0], *([offer.expected_cost] for offer in offers.menu.values())])
    strata, names = stratum(customers, offers.strata), np.array([NO_OFFER, *offers.menu], dtype=object)
    drawn = assign(values, costs, customers, strata, offers, most)
    everyone, shares = np.arange(len(customers)), dict(zip(names, drawn.propensities, strict=True))
    arm = np.where(drawn.made > 0, "offer", "control")
    return customers.rename(
        columns={PROBABILITY: "risk_score"}
    ).assign(
        offer=names[drawn.intended],
        offer_cost=costs[drawn.intended],
        expected_margin_impact=worth[drawn.intended, everyone],
        arm=np.where(drawn.drawn, arm, None),  # type: ignore[call-overload]
        timing_window=timing(due.astype("float64"), offers),
        control_share=drawn.propensities[0],
        stratum=strata,
        propensity=drawn.propensities[drawn.made, everyone],
        **{f"propensity_{option}": shares.get(option, 0.0) for option in ACTIONS},
        **(learned.columns(names[drawn.intended], values[1:]) if learned else {}),
    )


def at_risk(scored: pd.DataFrame, risk_tiers: Mapping[str, float]) -> NDArray[np.bool_]:
    """Whether each customer is above the lowest risk tier."""
    above: NDArray[np.bool_] = scored[TIER].ne(next(iter(risk_tiers))).to_numpy()
    return above


def recommendations(chosen: pd.DataFrame, calibration: Calibration, why: list[list[str]]) -> pd.DataFrame:
    """A row per scored customer in the order of the scores; controls get no offer."""
    made = chosen["arm"].eq("offer")
    low, high = calibration.intervals(chosen["risk_score"])
    return chosen.assign(
        action=chosen["offer"].where(made, NO_OFFER),
        offer_budget=chosen["offer_cost"].where(made, 0.0),
        expected_margin_impact=chosen["expected_margin_impact"].where(made, 0.0),
        reason_codes=pd.Series(why, chosen.index, dtype=object),
        probability_low=low,
        probability_high=high,
    )


def timing(months_to_renewal: pd.Series, offers: Offers) -> list[str]:
    """When to contact: the first window whose upper edge in days the renewal falls under, else the last.

    An expired contract, or one whose renewal nobody knows, is due at once. So it is with the month in which such
    customers begin to leave, where the model says when.
    """
    days = (months_to_renewal * 30).fillna(0.0).to_numpy()
    names, edges = list(offers.timing_days), list(offers.timing_days.values())
    return [names[min(i, len(names) - 1)] for i in np.searchsorted(edges, days, side="left")]


def explained(
    model: ChurnModel, gold: Snapshot, scored: pd.DataFrame, rows: NDArray[np.bool_], words: Mapping[str, str]
) -> list[list[str]]:
    """Reasons above the lowest tier, in words; the stated generic one below. Inputs are read of the former alone."""
    told = reasons(model, of_customers(gold, scored.loc[rows, ID], model.features), words)
    why = [[GENERIC]] * len(scored)
    for position, one in zip(np.flatnonzero(rows), told, strict=True):
        why[position] = one
    return why


def of_customers(gold: Snapshot, ids: pd.Series, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of gold, beside the id, of the customers `ids` alone and in their order."""
    table = gold.dataset()
    asked = pc.field(ID).isin(pa.array(ids, table.schema.field(ID).type))
    rows: pd.DataFrame = table.to_table(columns=[ID, *columns], filter=asked).to_pandas()
    return rows.set_index(ID).loc[ids].reset_index()


@dataclass(frozen=True)
class Calibration:
    """Scores of customers whose label is known and that the model did not learn from."""

    scores: Array
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, model: ChurnModel, table: TrainingTable) -> Calibration:
        """The customers that were held out of the model's own training."""
        rows = table.held_out()
        labels = rows["churn"].to_numpy(dtype="int64")
        return cls(model.predict_proba(rows)[:, 1], labels)

    def intervals(self, probability: pd.Series) -> tuple[Array, Array]:
        """Lower and upper end per customer; 0 and 1 where nobody can calibrate."""
        from mapie.calibration import VennAbers

        if len(self.labels) == 0:
            return np.zeros(len(probability)), np.ones(len(probability))
        if len(probability) == 0:
            return np.empty(0), np.empty(0)
        fitted = VennAbers()
        with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
            # MAPIE divides by the width of empty steps, and leaves those steps out afterwards.
            warnings.simplefilter("ignore", RuntimeWarning)
            fitted.fit(_both(self.scores), self.labels, precision=None if len(self.labels) <= EXACT else 4)
            _, ends = fitted.predict_proba(_both(probability.to_numpy(dtype="float64")))
        return np.clip(ends.min(axis=1), 0, 1), np.clip(ends.max(axis=1), 0, 1)


def _both(probability: Array) -> Array:
    return np.column_stack([1 - probability, probability])
