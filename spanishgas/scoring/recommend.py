"""What to do about each customer: an offer that pays, when, and the model's own reasons in words.

    scores + gold -> intervals -> offers within budget -> control share -> reasons -> recommendations, treatments

Reasons cost about a hundred times more than scores, so they are computed from Medium tier up; below stands a stated
generic reason. Guardrails: no offer for a negative margin, none that is not expected to pay, reasons never empty.

How sure the model is of a customer is told by Venn-Abers intervals of the probability of churn (Vovk & Petej 2014). The
holdout's customers calibrate: the model did not learn from them. One of the two ends is a calibrated probability,
whatever the model and the data, as long as customers to be scored are like those. The model's own probability may lie
outside where its calibration curve differs from what the holdout shows.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spanishgas.config.policy import Control, Holdout, Offers, load_policy
from spanishgas.contracts import check_pandas
from spanishgas.evaluation.value import NO_OFFER, option_values
from spanishgas.features import load_tiers
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.records import OFFERS
from spanishgas.lifecycle.stage import Work, through
from spanishgas.lifecycle.version import TrainingTable, Version
from spanishgas.scoring.campaign import page, within_budget
from spanishgas.scoring.payload import ID
from spanishgas.scoring.reasons import GENERIC, reasons
from spanishgas.scoring.score import LOSS, MARGIN
from spanishgas.stages import Stage, unkeyed
from spanishgas.training.model import PROBABILITY, TIER, ChurnModel
from spanishgas.training.sides import in_holdout

Array = NDArray[np.float64]
EXACT = 20_000
"""Up to so many calibration customers scores are taken as they are; beyond, rounded to four digits to save time."""


@dataclass(frozen=True)
class RecommendInputs:
    """What recommendations depend on."""

    scores: Snapshot
    gold: Snapshot
    version: Version
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
    scores, tiers = lake.current("scores"), load_tiers()
    version = registry.resolve(str(scores.pandas(["model_version"]).iloc[0, 0])).checked()
    return RecommendInputs(
        scores=scores,
        gold=lake.by_digest(scores.manifest.built_from["gold_master"], "gold_master"),
        version=version,
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
    customers = inputs.gold.pandas([ID, "segment", MARGIN, "months_to_renewal"])
    customers = customers.set_index(ID).loc[scored[ID]].reset_index()
    began = time.perf_counter()
    why = explained(inputs.version.model, inputs.gold, scored, inputs.risk_tiers, inputs.words)
    seconds = time.perf_counter() - began
    chosen = choose(scored, customers, inputs.offers, inputs.risk_tiers)
    frame = recommendations(chosen, Calibration.of(inputs.version.model, inputs.training), why)
    run.document(inputs.offers.model_dump(mode="json"), OFFERS)
    for table, rows in (("treatments", treatments(chosen)), ("recommendations", frame)):
        check_pandas(table, rows)
        published = run.publish(
            inputs.lake,
            table,
            as_of,
            lambda folder, rows=rows: rows.to_parquet(folder / "part-0.parquet", index=False),  # type: ignore[misc]
        )
    told = {"probability": scored[PROBABILITY], "margin": customers[MARGIN], "tier": scored[TIER]}
    run.text(page(pd.DataFrame(told).assign(action=frame["action"]), inputs.offers, as_of), "campaign.html")
    offered = frame[frame["action"] != NO_OFFER]
    run.log(
        metrics={
            "recommend.offers": float(len(offered)),
            "recommend.controls": float(chosen.control.sum()),
            "recommend.offer_budget_eur": float(offered["offer_budget"].sum()),
            "recommend.expected_margin_impact_eur": float(offered["expected_margin_impact"].sum()),
            "recommend.reasons_seconds": seconds,
        },
        tags={"recommendations": published.uri},
    )
    return published


@dataclass(frozen=True)
class ChosenOffers:
    """What was decided for each customer, in the order of the scores."""

    scored: pd.DataFrame
    customers: pd.DataFrame
    offers: Offers
    offer: NDArray[np.object_]
    """The offer that the budget allows and that pays, or no_offer."""
    impact: NDArray[np.float64]
    """Expected EUR of it."""
    control: NDArray[np.bool_]
    """Whether it is withheld to measure what offers do."""

    @property
    def cost(self) -> NDArray[np.float64]:
        """EUR of each customer's offer when it is taken."""
        costs = {name: offer.cost_eur for name, offer in self.offers.menu.items()}
        return np.array([costs.get(name, 0.0) for name in self.offer])


def choose(
    scored: pd.DataFrame, customers: pd.DataFrame, offers: Offers, risk_tiers: Mapping[str, float]
) -> ChosenOffers:
    """An offer for each customer above the lowest tier that pays, as far as the budget goes, and the control share."""
    values = option_values(
        scored[PROBABILITY].to_numpy(), customers[MARGIN].to_numpy(dtype="float64"), offers
    )
    values[1:, ~at_risk(scored, risk_tiers)] = -np.inf
    costs = np.array([0.0, *(offer.cost_eur for offer in offers.menu.values())])
    option = within_budget(values, costs, offers.total_budget_eur)
    names = np.array([NO_OFFER, *offers.menu], dtype=object)[option]
    impact = values[option, np.arange(len(option))]
    drawn = in_control(scored, offers.control)
    return ChosenOffers(scored, customers, offers, names, impact, drawn & (names != NO_OFFER))


def at_risk(scored: pd.DataFrame, risk_tiers: Mapping[str, float]) -> NDArray[np.bool_]:
    """Whether each customer is above the lowest risk tier."""
    above: NDArray[np.bool_] = scored[TIER].ne(next(iter(risk_tiers))).to_numpy()
    return above


def in_control(scored: pd.DataFrame, control: Control) -> NDArray[np.bool_]:
    """Whether each customer's hash falls into the control share.

    It changes with the as-of date, so that nobody is left out of every campaign.
    """
    if control.share == 0 or scored.empty:
        return np.zeros(len(scored), dtype=bool)
    salt = f"{control.salt} {scored['as_of'].iloc[0]} "
    return in_holdout(scored["customer_id"], Holdout(share=control.share, salt=salt))


def recommendations(chosen: ChosenOffers, calibration: Calibration, why: list[list[str]]) -> pd.DataFrame:
    """The recommendations table, a row per scored customer in the order of the scores; controls get no offer."""
    made = (chosen.offer != NO_OFFER) & ~chosen.control
    scored, customers = chosen.scored, chosen.customers
    low, high = calibration.intervals(scored[PROBABILITY])
    return pd.DataFrame(
        {
            "customer_id": scored["customer_id"],
            "risk_score": scored[PROBABILITY],
            TIER: scored[TIER],
            "segment": customers["segment"],
            "action": np.where(made, chosen.offer, NO_OFFER),
            "timing_window": timing(customers["months_to_renewal"], chosen.offers),
            "offer_budget": np.where(made, chosen.cost, 0.0),
            "expected_margin_impact": np.where(made, chosen.impact, 0.0),
            "reason_codes": why,
            "model_version": scored["model_version"],
            "as_of": scored["as_of"],
            LOSS: scored[LOSS],
            "probability_low": low,
            "probability_high": high,
        }
    )


def treatments(chosen: ChosenOffers) -> pd.DataFrame:
    """The treatment log: a row per customer an offer was chosen for, and by chance of which arm."""
    rows = chosen.offer != NO_OFFER
    scored, customers = chosen.scored[rows], chosen.customers[rows]
    return pd.DataFrame(
        {
            "customer_id": scored["customer_id"],
            "arm": np.where(chosen.control[rows], "control", "offer").astype(object),
            "offer": chosen.offer[rows],
            "offer_cost": chosen.cost[rows],
            "timing_window": timing(customers["months_to_renewal"], chosen.offers),
            "risk_score": scored[PROBABILITY],
            "expected_margin_impact": chosen.impact[rows],
            "control_share": chosen.offers.control.share,
            "model_version": scored["model_version"],
            "as_of": scored["as_of"],
        }
    ).astype({"timing_window": "str", "arm": "str", "offer": "str"})


def timing(months_to_renewal: pd.Series, offers: Offers) -> list[str]:
    """When to contact: the first window whose upper edge in days the renewal falls under, else the last.

    An expired contract, or one whose renewal nobody knows, is due at once.
    """
    days = (months_to_renewal * 30).fillna(0.0).to_numpy()
    names, edges = list(offers.timing_days), list(offers.timing_days.values())
    return [names[min(i, len(names) - 1)] for i in np.searchsorted(edges, days, side="left")]


def explained(
    model: ChurnModel,
    gold: Snapshot,
    scored: pd.DataFrame,
    risk_tiers: Mapping[str, float],
    words: Mapping[str, str],
) -> list[list[str]]:
    """Reasons above the lowest tier, in words; the stated generic one below. Inputs are read of the former alone."""
    rows, table = at_risk(scored, risk_tiers), gold.dataset()
    ids = scored.loc[rows, ID]
    asked = pc.field(ID).isin(pa.array(ids, table.schema.field(ID).type))
    customers = table.to_table(columns=[ID, *model.features], filter=asked).to_pandas()
    told = reasons(model, customers.set_index(ID).loc[ids].reset_index(), words)
    why = [[GENERIC]] * len(scored)
    for position, one in zip(np.flatnonzero(rows), told, strict=True):
        why[position] = one
    return why


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
