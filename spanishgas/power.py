"""How many customers and campaigns it takes to see what an offer does: the design of the policy, on the newest scores.

The variance of the doubly robust estimate per customer is that of labels drawn from the scores' own probabilities, each
arm's over its probability by the design. An effect is seen with 80 % power in a two-sided test at 5 %.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm

from spanishgas.config.policy import Offers, load_policy
from spanishgas.errors import DataError
from spanishgas.evaluation.effects import ALL, assumed_effect, chances, comparable
from spanishgas.evaluation.inference import Z
from spanishgas.lake import Lake
from spanishgas.monitoring.campaigns import campaigns
from spanishgas.scoring.recommend import at_risk, choose, with_gold

POWER = 0.8
DETECTABLE = Z + float(norm.ppf(POWER))
"""Standard errors that an effect must be away from zero."""


def power(
    lake: Lake, effect: float | None = None, customers: int | None = None, planned: int = 1
) -> pd.DataFrame:
    """A row per comparison (all offers, each offer): what `required` says, and the controls labelled so far.

    `effect` is the churn avoided in percentage points (what policy assumes if None), `customers` the number scored in
    a campaign (as many as were, if None). DataError where the design leaves nothing to chance.
    """
    policy, scores = load_policy(), lake.current("scores")
    scored, past = scores.pandas(), campaigns(lake).rows
    gold = lake.by_digest(scores.manifest.built_from["gold_master"], "gold_master")
    chosen = choose(with_gold(scored, gold), policy.offers, at_risk(scored, policy.risk_tiers))
    table = required(chosen, policy.offers, effect, (customers or len(scored)) / len(scored), planned)
    if table.empty:
        raise DataError(
            f"the design leaves nothing to chance for the {len(scored):,} customers scored as of "
            f"{scores.manifest.as_of}: set offers.control.share or offers.explore in policy.yaml"
        )
    controls = [
        int((comparable(past, name) & past["treatment"].eq("no_offer")).sum()) for name in table["offer"]
    ]
    return table.assign(controls_so_far=controls, enough=np.array(controls) >= table["controls_needed"])


def required(
    chosen: pd.DataFrame, offers: Offers, effect: float | None, scale: float, planned: int
) -> pd.DataFrame:
    """What the design needs, by offer; `scale` times as many customers as are in `chosen` are scored in a campaign.

    - effect (points of the churn rate), smallest_effect that `planned` campaigns show, and their power
    - in_campaign: customers of one campaign who might meet either; customers_needed: to be scored, over all campaigns
    - campaigns_needed, controls_needed
    """
    lines = []
    for name in (ALL, *offers.menu):
        rows = chosen[chosen["arm"].notna() & comparable(chosen, name)]
        assumed = float(assumed_effect(rows, offers, name).mean()) if len(rows) else 0.0
        aim = assumed if effect is None else effect / 100
        if not aim:
            continue
        p, (p0, p1) = rows["risk_score"].to_numpy(dtype="float64"), chances(rows, name)
        left = np.clip(p * (1 - aim / p.mean()), 0, 1)
        variance, per_campaign = float((p * (1 - p) / p0 + left * (1 - left) / p1).mean()), scale * len(rows)
        needed, error = variance * (DETECTABLE / aim) ** 2, np.sqrt(variance / (planned * per_campaign))
        lines.append(
            {
                "offer": name,
                "effect": 100 * aim,
                "in_campaign": round(per_campaign),
                "campaigns_needed": int(np.ceil(needed / per_campaign)),
                "customers_needed": int(np.ceil(needed / per_campaign * scale * len(chosen))),
                "controls_needed": int(np.ceil(needed * p0.mean())),
                "power": float(norm.cdf(aim / error - Z)),
                "smallest_effect": 100 * DETECTABLE * float(error),
            }
        )
    return pd.DataFrame(lines)
