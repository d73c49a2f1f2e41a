"""The campaign on one page: what the recommendations are expected to bring beside other ways to spend the money.

All figures but those of learned effects are expectations under the policy's assumptions (uplift, acceptance, cost,
months of margin), none is a measurement; the treatment log's control share is there to measure them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.policy import Offers
from spanishgas.evaluation.card import html
from spanishgas.evaluation.value import NO_OFFER, offer_value
from spanishgas.rendering import as_markdown, filled

Array = NDArray[np.float64]
TIER_RULE: Mapping[str, str] = {"Medium": "offer_small", "High": "offer_medium", "Critical": "offer_large"}
"""The replaced system's rule: an offer by risk tier, whatever it costs and brings, none at a negative margin."""
FACTORS = (0.5, 1.0, 1.5)
ASSUMED: Mapping[str, str] = {"uplift": "uplift", "acceptance": "acceptance", "cost_eur": "cost of an offer"}

WAYS = ["way", "customers with an offer", "offers cost at most (EUR)", "expected value (EUR)"]
MENU = ["offer", "customers", "cost (EUR)", "acceptance", "uplift"]
EFFECT = ("expected_effect", "effect_low", "effect_high", "better_left_alone")
"""Columns of recommendations by learned effects; the first three are the probability of churn avoided."""
CURVE = "uplift.png"
"""The picture that a version of learned effects has of whom they keep and what each rule was worth."""
RULES = ["rule", "EUR per customer beside no offers", "95 % interval"]
"""Columns of the page's tables."""


def campaign_value(probability: Array, margin: Array, action: NDArray[np.object_], offers: Offers) -> float:
    """Expected EUR of giving each customer `action`."""
    total = 0.0
    for name, offer in offers.menu.items():
        rows = action == name
        total += float(offer_value(probability[rows], margin[rows], offer, offers.horizon_months).sum())
    return total


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
    rule = customers["tier"].map(TIER_RULE).fillna(NO_OFFER).to_numpy(dtype=object)
    every = {
        "these recommendations": customers["action"].to_numpy(dtype=object),
        "an offer to everyone": everyone(p, m, offers),
        "nobody": np.full(len(p), NO_OFFER, dtype=object),
        "the tier rule of the replaced system": np.where(m > 0, rule, NO_OFFER),
    }
    rows = [
        (
            way,
            int((action != NO_OFFER).sum()),
            float(sum(terms.cost_eur * (action == name).sum() for name, terms in offers.menu.items())),
            campaign_value(p, m, action, offers),
        )
        for way, action in every.items()
    ]
    return pd.DataFrame(rows, columns=["way", "customers", "cost", "expected_value"])


def rules(metrics: Mapping[str, float]) -> pd.DataFrame:
    """What each rule was worth on held-out customers, by the metrics of a version of learned offers: columns RULES."""
    names = ("everyone", "risk_rule", "learned_effects")
    ends = [[metrics[f"uplift.value_eur.{name}{end}"] for end in ("", ".low", ".high")] for name in names]
    lines = [
        (name.replace("_", " "), f"{v:.2f}", f"{low:.2f} to {high:.2f}")
        for name, (v, low, high) in zip(names, ends, strict=True)
    ]
    return pd.DataFrame(lines, columns=RULES)


def page(
    customers: pd.DataFrame,
    offers: Offers,
    as_of: date,
    measured: Mapping[str, float] | None = None,
    pictures: Sequence[bytes] = (),
) -> str:
    """The page of `customers`, as `ways` takes them: self-contained HTML of counts and sums, and no customer.

    Where learned effects decide, `measured` has the metrics of their version, and `pictures` its curve.
    """
    p, m = (customers[name].to_numpy(dtype="float64") for name in ("probability", "margin"))
    made, others = customers["action"].to_numpy(dtype=object), ways(customers, offers)
    for column in ("customers", "cost", "expected_value"):
        others[column] = others[column].map("{:,.0f}".format)
    menu = [
        (name, f"{(made == name).sum():,}", f"{o.cost_eur:g}", f"{o.acceptance:.0%}", f"{o.uplift:.0%}")
        for name, o in offers.menu.items()
    ]
    changed = [
        (words, *(f"{campaign_value(p, m, made, scaled(offers, what, factor)):,.0f}" for factor in FACTORS))
        for what, words in ASSUMED.items()
    ]
    text = filled(
        "spanishgas.scoring",
        "campaign.md.jinja",
        as_of=as_of,
        customers=len(p),
        offers=offers,
        ways=as_markdown(others.set_axis(WAYS, axis="columns")),
        rules=as_markdown(rules(measured)) if measured else "",
        alone=int(customers["better_left_alone"].sum()) if measured else 0,
        menu=as_markdown(pd.DataFrame(menu, columns=MENU)),
        changed=as_markdown(pd.DataFrame(changed, columns=["if this is multiplied by", *map(str, FACTORS)])),
    )
    return html(text, f"Retention campaign as of {as_of}", pictures)
