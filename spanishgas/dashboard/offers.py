"""Questions about the recommendations of one date, and what another budget would choose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spanishgas.config.policy import ACTIONS, RISK_TIERS, Offers, Policy
from spanishgas.dashboard.tables import Scored, ask
from spanishgas.evaluation.value import NO_OFFER, option_values
from spanishgas.scoring.budget import within_budget


def actions(found: Scored) -> pd.DataFrame:
    """A row per tier, segment and action: customers, offer_budget, expected_margin_impact (EUR); lowest first."""
    sums = ask(
        {"recommendations": found.recommendations},
        """
        SELECT risk_tier, coalesce(segment, 'unknown') AS segment, action, count(*) AS customers,
            sum(offer_budget) AS offer_budget, sum(expected_margin_impact) AS expected_margin_impact
        FROM recommendations GROUP BY ALL
        """,
    )
    ranks = {"risk_tier": list(RISK_TIERS), "action": list(ACTIONS)}
    return sums.sort_values(
        ["risk_tier", "segment", "action"], key=lambda c: c.map(ranks[c.name].index) if c.name in ranks else c
    ).reset_index(drop=True)


@dataclass(frozen=True)
class AtRisk:
    """Probability, EUR of margin a month and tier of the customers above the lowest tier, in the order of their ids."""

    probability: np.ndarray[tuple[int], np.dtype[np.float64]]
    margin: np.ndarray[tuple[int], np.dtype[np.float64]]
    tier: pd.Series
    action: np.ndarray[tuple[int], np.dtype[np.object_]]


def at_risk(found: Scored) -> AtRisk:
    """The customers that offers are for."""
    rows = ask(
        found.tables,
        """
        SELECT s.churn_probability AS probability, g.avg_monthly_margin AS margin, s.risk_tier AS tier, r.action
        FROM scores AS s JOIN gold_master AS g USING (customer_id) JOIN recommendations AS r USING (customer_id)
        WHERE s.risk_tier <> $lowest ORDER BY customer_id
        """,
        {"lowest": RISK_TIERS[0]},
    )
    return AtRisk(
        rows["probability"].to_numpy(dtype="float64"),
        rows["margin"].to_numpy(dtype="float64"),
        rows["tier"],
        rows["action"].to_numpy(dtype=object),
    )


def allocation(known: AtRisk, policy: Policy, budget: float | None) -> pd.DataFrame:
    """What `budget` in EUR would choose (None: whatever pays): offer, customers, cost and expected_value; dearest last.

    The same rule as in `spanishgas score`, before a share of the customers is held back as control.
    """
    offers = policy.offers
    values = option_values(known.probability, known.margin, offers)
    costs = np.array(list(_costs(offers).values()))
    option = within_budget(values, costs, budget)
    worth = values[option, np.arange(len(option))]
    rows = [
        (
            name,
            int((option == i).sum()),
            float(costs[i] * (option == i).sum()),
            float(worth[option == i].sum()),
        )
        for i, name in enumerate(_costs(offers))
    ]
    return pd.DataFrame(rows, columns=["offer", "customers", "cost", "expected_value"])


def _costs(offers: Offers) -> dict[str, float]:
    return {NO_OFFER: 0.0, **{name: offer.cost_eur for name, offer in offers.menu.items()}}
