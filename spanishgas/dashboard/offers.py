"""Questions about the recommendations of one date, and what another budget would choose."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spanishgas.config.policy import ACTIONS, RISK_TIERS, Policy
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


def at_risk(found: Scored) -> pd.DataFrame:
    """The customers that offers are for, above the lowest tier, in the order of their ids.

    probability, margin (EUR a month), tier, action.
    """
    return ask(
        found.tables,
        """
        SELECT s.churn_probability AS probability, g.avg_monthly_margin AS margin, s.risk_tier AS tier, r.action
        FROM scores AS s JOIN gold_master AS g USING (customer_id) JOIN recommendations AS r USING (customer_id)
        WHERE s.risk_tier <> $lowest ORDER BY customer_id
        """,
        {"lowest": RISK_TIERS[0]},
    )


def allocation(customers: pd.DataFrame, policy: Policy, budget: float | None) -> pd.DataFrame:
    """What `budget` in EUR would choose (None: whatever pays): offer, customers, cost and expected_value; dearest last.

    The same rule as in `spanishgas score`, before a share of the customers is held back as control.
    """
    p, m = (customers[name].to_numpy(dtype="float64") for name in ("probability", "margin"))
    values = option_values(p, m, policy.offers)
    options = {NO_OFFER: 0.0, **{name: offer.cost_eur for name, offer in policy.offers.menu.items()}}
    costs = np.array(list(options.values()))
    option = within_budget(values, costs, budget)
    chosen = np.bincount(option, minlength=len(costs))
    worth = np.bincount(option, values[option, np.arange(len(option))], minlength=len(costs))
    return pd.DataFrame(
        {"offer": list(options), "customers": chosen, "cost": costs * chosen, "expected_value": worth}
    )
