"""What to do about each customer: an offer that pays, when, and the model's own reasons in words.

Reasons cost about a hundred times more than scores, so they are computed from Medium tier up; below stands a stated
generic reason. Guardrails: no offer for a negative margin, none that is not expected to pay, reasons never empty.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from spanishgas import code
from spanishgas.contracts import check_pandas
from spanishgas.evaluation.explanations import contributions
from spanishgas.evaluation.value import NO_OFFER, best_offer
from spanishgas.features import load_tiers
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.registry import Loaded
from spanishgas.training.experiment import Offers, Policy, as_data, load_policy
from spanishgas.training.model import PROBABILITY, TIER

REASONS = 3
GENERIC = "risk below the Medium tier: not explained in detail"
NOTHING_RAISES = "no single fact raises the risk: the combination does"
_PARTS = ("scoring", "training", "evaluation")


def recommend(*, lake: Lake) -> Snapshot:
    """Publish a recommendation per scored customer of the newest scores; unchanged inputs leave them as they are."""
    scores = lake.current("scores")
    as_of, policy = scores.manifest.as_of, load_policy()
    fingerprint = code.fingerprint("recommend", scores.manifest.digest, as_data(policy), code.digest(*_PARTS))
    found = lake.find("recommendations", as_of)
    if found and found.manifest.fingerprint == fingerprint:
        return found
    with runs.stage("recommend", f"recommend for {scores.manifest.rows:,} customers") as run:
        run.read(scores, "recommending")
        scored = scores.pandas()
        version = str(scored["model_version"].iloc[0])
        gold = lake.at(scores.manifest.built_from["gold_master"], "gold_master")
        frame = recommendations(registry.load(version), gold.pandas(), scored, policy)
        check_pandas("recommendations", frame)
        published = lake.publish(
            "recommendations",
            as_of,
            lambda folder: frame.to_parquet(folder / "part-0.parquet", index=False),
            built_from={"scores": scores.manifest.digest, "gold_master": gold.manifest.digest},
            fingerprint=fingerprint,
            code=code.identity(*_PARTS),
            run_id=run.run_id,
        )
        offered = frame[frame["action"] != NO_OFFER]
        run.log(
            metrics={
                "recommend.offers": float(len(offered)),
                "recommend.offer_budget_eur": float(offered["offer_budget"].sum()),
                "recommend.expected_margin_impact_eur": float(offered["expected_margin_impact"].sum()),
            },
            tags={"recommendations": published.uri},
        )
    return published


def recommendations(
    champion: Loaded, gold: pd.DataFrame, scored: pd.DataFrame, policy: Policy
) -> pd.DataFrame:
    """The recommendations table, a row per scored customer in the order of `scored`."""
    gold = gold.set_index("customer_id").loc[scored["customer_id"]].reset_index()
    scored = scored.reset_index(drop=True)
    explained = scored[TIER].ne(next(iter(policy.risk_tiers)))
    action, impact = best_offer(
        scored[PROBABILITY].to_numpy(), gold["avg_monthly_margin"].to_numpy(dtype="float64"), policy.offers
    )
    action = np.where(explained, action, NO_OFFER)
    costs = {name: offer.cost_eur for name, offer in policy.offers.menu.items()}
    return pd.DataFrame(
        {
            "customer_id": scored["customer_id"],
            "risk_score": scored[PROBABILITY],
            TIER: scored[TIER],
            "segment": gold["segment"],
            "action": action,
            "timing_window": timing(gold["months_to_renewal"], policy.offers),
            "offer_budget": [costs.get(name, 0.0) for name in action],
            "expected_margin_impact": np.where(action == NO_OFFER, 0.0, impact),
            "reason_codes": _reasons(champion, gold, explained),
            "model_version": scored["model_version"],
            "as_of": scored["as_of"],
        }
    )


def timing(months_to_renewal: pd.Series, offers: Offers) -> list[str]:
    """When to contact: the first window whose upper edge in days the renewal falls under, else the last.

    An expired contract, or one whose renewal nobody knows, is due at once.
    """
    days = (months_to_renewal * 30).fillna(0.0).to_numpy()
    names, edges = list(offers.timing_days), list(offers.timing_days.values())
    return [names[min(i, len(names) - 1)] for i in np.searchsorted(edges, days, side="left")]


def _reasons(champion: Loaded, gold: pd.DataFrame, explained: pd.Series) -> list[list[str]]:
    reasons = [[GENERIC]] * len(gold)
    rows = gold[explained.to_numpy()]
    if rows.empty:
        return reasons
    words = {f: load_tiers().words(f) for f in champion.model.features}
    added = contributions(champion.model, rows)
    for nth, position in enumerate(np.flatnonzero(explained)):
        reasons[position] = reason_codes(added.iloc[nth], rows.iloc[nth], words)
    return reasons


def reason_codes(added: pd.Series, customer: pd.Series, words: Mapping[str, str]) -> list[str]:
    """The facts that raise this customer's risk most, as "words: value"; never empty."""
    raising = added[added > 0].nlargest(REASONS).index
    return [f"{words[f]}: {_shown(customer[f])}" for f in raising] or [NOTHING_RAISES]


def _shown(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
