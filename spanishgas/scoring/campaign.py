"""The campaign on one page: what the recommendations are expected to bring beside other ways to spend the money.

All figures are expectations under the policy's assumptions (uplift, acceptance, cost, months of margin), none is a
measurement; the treatment log's control share is there to measure them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.policy import Offers, Policy
from spanishgas.evaluation.value import NO_OFFER, offer_value

Array = NDArray[np.float64]
TIER_RULE: Mapping[str, str] = {"Medium": "offer_small", "High": "offer_medium", "Critical": "offer_large"}
"""The replaced system's rule: an offer by risk tier, whatever it costs and brings, none at a negative margin."""
FACTORS = (0.5, 1.0, 1.5)
ASSUMPTIONS = {"uplift": "uplift", "acceptance": "acceptance", "cost_eur": "cost of an offer"}


def campaign_value(probability: Array, margin: Array, action: NDArray[np.object_], offers: Offers) -> float:
    """Expected EUR of giving each customer `action`."""
    total = 0.0
    for name, offer in offers.menu.items():
        rows = action == name
        total += float(offer_value(probability[rows], margin[rows], offer, offers.horizon_months).sum())
    return total


def tier_rule(tier: pd.Series, margin: Array) -> NDArray[np.object_]:
    """The offer of each customer under the replaced system's rule."""
    offer = tier.map(TIER_RULE).fillna(NO_OFFER).to_numpy(dtype=object)
    return np.where(margin > 0, offer, NO_OFFER)


def everyone(probability: Array, margin: Array, offers: Offers) -> NDArray[np.object_]:
    """Every customer gets the offer that is worth most, or costs least where none pays."""
    values = [
        offer_value(probability, margin, offer, offers.horizon_months) for offer in offers.menu.values()
    ]
    names = np.array(list(offers.menu), dtype=object)
    best: NDArray[np.object_] = names[np.stack(values).argmax(axis=0)]
    return best


def scaled(offers: Offers, what: str, factor: float) -> Offers:
    """The same offers with one assumption multiplied; shares stay at most 1."""
    menu = {}
    for name, offer in offers.menu.items():
        value = getattr(offer, what) * factor
        menu[name] = offer.model_copy(update={what: value if what == "cost_eur" else min(value, 1.0)})
    return offers.model_copy(update={"menu": menu})


def ways(customers: pd.DataFrame, offers: Offers) -> pd.DataFrame:
    """These recommendations beside other ways: way, customers with an offer, cost and expected_value in EUR.

    `customers` has probability, margin (EUR a month), tier and action.
    """
    p, m = (customers[name].to_numpy(dtype="float64") for name in ("probability", "margin"))
    actions = {
        "these recommendations": customers["action"].to_numpy(dtype=object),
        "an offer to everyone": everyone(p, m, offers),
        "nobody": np.full(len(p), NO_OFFER, dtype=object),
        "the tier rule of the replaced system": tier_rule(customers["tier"], m),
    }
    costs = {name: offer.cost_eur for name, offer in offers.menu.items()}
    rows = [
        (
            way,
            int((made != NO_OFFER).sum()),
            float(sum(cost * (made == name).sum() for name, cost in costs.items())),
            campaign_value(p, m, made, offers),
        )
        for way, made in actions.items()
    ]
    return pd.DataFrame(rows, columns=["way", "customers", "cost", "expected_value"])


def page(
    probability: pd.Series, margin: pd.Series, tier: pd.Series, action: pd.Series, policy: Policy, as_of: date
) -> str:
    """The page as HTML, self-contained; it holds counts and sums, no customer."""
    p, m, offers = probability.to_numpy(), margin.to_numpy(dtype="float64"), policy.offers
    made = action.to_numpy(dtype=object)
    customers = pd.DataFrame({"probability": p, "margin": m, "tier": tier.to_numpy(), "action": made})
    changed = {
        words: [campaign_value(p, m, made, scaled(offers, what, factor)) for factor in FACTORS]
        for what, words in ASSUMPTIONS.items()
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("spanishgas.scoring"), undefined=jinja2.StrictUndefined, autoescape=True
    )
    return environment.get_template("campaign.html.jinja").render(
        as_of=as_of,
        customers=len(p),
        offers=offers,
        ways=ways(customers, offers).to_dict("records"),
        made={name: int((made == name).sum()) for name in offers.menu},
        factors=FACTORS,
        changed=changed,
    )
