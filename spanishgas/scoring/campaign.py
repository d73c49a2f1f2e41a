"""The campaign on one page: what the recommendations are expected to bring beside other ways to spend the money.

All figures are expectations under the policy's assumptions (uplift, acceptance, cost, months of margin), none is a
measurement; the treatment log's control share is there to measure them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from html import escape

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.policy import Offers
from spanishgas.evaluation.value import NO_OFFER, offer_value

Array = NDArray[np.float64]
TIER_RULE: Mapping[str, str] = {"Medium": "offer_small", "High": "offer_medium", "Critical": "offer_large"}
"""The replaced system's rule: an offer by risk tier, whatever it costs and brings, none at a negative margin."""
FACTORS = (0.5, 1.0, 1.5)


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


def page(
    probability: pd.Series, margin: pd.Series, tier: pd.Series, action: pd.Series, offers: Offers, as_of: date
) -> str:
    """The page as HTML, self-contained; it holds counts and sums, no customer."""
    p, m = probability.to_numpy(), margin.to_numpy(dtype="float64")
    made = action.to_numpy(dtype=object)
    ways = {
        "these recommendations": made,
        "an offer to everyone": everyone(p, m, offers),
        "nobody": np.full(len(p), NO_OFFER, dtype=object),
        "the tier rule of the replaced system": tier_rule(tier, m),
    }
    rows = [_way(name, p, m, given, offers) for name, given in ways.items()]
    lines = [
        _head("way", "customers with an offer", "offers cost at most (EUR)", "expected value (EUR)"),
        *(_row(*row) for row in rows),
    ]
    changed = [_head("if this is multiplied by", *(f"{factor:g}" for factor in FACTORS))]
    for what, words in (
        ("uplift", "uplift"),
        ("acceptance", "acceptance"),
        ("cost_eur", "cost of an offer"),
    ):
        values = [campaign_value(p, m, made, scaled(offers, what, factor)) for factor in FACTORS]
        changed.append(_row(words, *(f"{value:,.0f}" for value in values)))
    menu = [
        _head("offer", "customers", "cost (EUR)", "acceptance", "uplift"),
        *(
            _row(
                name,
                f"{int((made == name).sum()):,}",
                f"{o.cost_eur:g}",
                f"{o.acceptance:.0%}",
                f"{o.uplift:.0%}",
            )
            for name, o in offers.menu.items()
        ),
    ]
    return _PAGE.format(
        as_of=as_of,
        customers=f"{len(p):,}",
        budget="none" if offers.total_budget_eur is None else f"{offers.total_budget_eur:,.0f} EUR",
        share=f"{offers.control.share:.0%}",
        months=offers.horizon_months,
        ways="\n".join(lines),
        menu="\n".join(menu),
        changed="\n".join(changed),
    )


def _way(name: str, p: Array, m: Array, action: NDArray[np.object_], offers: Offers) -> tuple[str, ...]:
    costs = {offer: terms.cost_eur for offer, terms in offers.menu.items()}
    cost = sum(costs.get(given, 0.0) for given in action)
    value = campaign_value(p, m, action, offers)
    return name, f"{int((action != NO_OFFER).sum()):,}", f"{cost:,.0f}", f"{value:,.0f}"


def _head(*cells: str) -> str:
    return "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in cells) + "</tr>"


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Retention campaign as of {as_of}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100%; margin: 0.5rem 0 1.5rem }}
th, td {{ padding: 0.3rem 0.6rem; border-bottom: 1px solid #ccc; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
</style>
<h1>Retention campaign as of {as_of}</h1>
<p>{customers} customers scored. Budget: {budget}. {share} of the customers an offer was chosen for get none, by chance,
so that the uplift can be measured later; they count as customers without an offer here.</p>
<h2>What it is expected to bring</h2>
<table>
{ways}
</table>
<p>Expected value: acceptance x (probability of churn x uplift x {months} months of margin - cost), summed. An
assumption of the policy, not a measurement.</p>
<h2>Offers</h2>
<table>
{menu}
</table>
<h2>If the assumptions are wrong</h2>
<p>Expected value in EUR of the same offers to the same customers.</p>
<table>
{changed}
</table>
</html>
"""
