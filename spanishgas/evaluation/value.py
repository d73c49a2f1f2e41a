"""What an offer is worth in EUR: one formula for the evaluation, which knows who left, and for recommendations.

An offer that is taken costs its price and lowers the probability of churn by its uplift; what it protects is the
customer's margin over the horizon:

    value = acceptance * (churn * uplift * horizon * max(margin, 0) - cost)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.policy import Offer, Offers

Array = NDArray[np.float64]
NO_OFFER = "no_offer"


def protected_margin(margin: Array, horizon_months: int) -> Array:
    """EUR per customer that is lost when it leaves; a negative or unknown margin protects nothing."""
    protected: Array = horizon_months * np.nan_to_num(np.maximum(margin, 0.0))
    return protected


def offer_value(churn: Array, margin: Array, offer: Offer, horizon_months: int) -> Array:
    """Expected EUR per customer of making `offer`; `churn` is a probability or, in hindsight, the label.

    `margin` is EUR a month.
    """
    protected = protected_margin(margin, horizon_months)
    value: Array = offer.acceptance * (churn * offer.uplift * protected - offer.cost_eur)
    return value


def lasting_margin(customers: pd.DataFrame, margin: Array, offers: Offers) -> Array:
    """Margin per month of the horizon, of who would leave in its `expected_month` and not today, if that is a column.

    Until then it pays in any case: an offer protects horizon - expected_month months.
    """
    if "expected_month" not in customers:
        return margin
    share = 1 - customers["expected_month"].to_numpy(dtype="float64") / offers.horizon_months
    lasting: Array = margin * np.clip(share, 0.0, 1.0)
    return lasting


def option_values(probability: Array, margin: Array, offers: Offers) -> Array:
    """Expected EUR of each option for each customer, shape (1 + offers, customers); row 0 is no offer, 0 EUR.

    -inf where a guardrail forbids the offer: a margin that is negative or unknown gets none, and none costs more than
    the policy's share of the margin it protects.
    """
    protected = protected_margin(margin, offers.horizon_months)
    values = [np.zeros(len(probability))]
    for offer in offers.menu.values():
        value = offer_value(probability, margin, offer, offers.horizon_months)
        allowed = (margin > 0) & (offer.cost_eur <= offers.max_share_of_margin * protected)
        values.append(np.where(allowed, value, -np.inf))
    return np.stack(values)


def kept_values(effects: Mapping[str, Array], margin: Array, offers: Offers) -> Array:
    """EUR of margin that each option keeps of each customer, as `option_values` numbers them, before what it costs.

    `effects` has what an offer adds to P(churn). -inf too where nothing was learned of an offer.
    """
    protected = protected_margin(margin, offers.horizon_months)
    kept = np.full((1 + len(offers.menu), len(margin)), -np.inf)
    kept[0] = 0.0
    for option, name in enumerate(offers.menu, start=1):
        if name in effects:
            kept[option] = -effects[name] * protected
    allowed = np.isfinite(option_values(np.zeros(len(margin)), margin, offers))
    return np.where(allowed, kept, -np.inf)


def best_offer(probability: Array, margin: Array, offers: Offers) -> tuple[NDArray[np.object_], Array]:
    """The most valuable offer per customer and its expected EUR; no offer (0 EUR) where none pays or is allowed."""
    values = option_values(probability, margin, offers)
    choice = values.argmax(axis=0)
    names = np.array([NO_OFFER, *offers.menu], dtype=object)
    return names[choice], values[choice, np.arange(len(choice))]


def realised_value(
    probability: Array, flag: NDArray[np.int64], y: NDArray[np.int64], margin: Array, offers: Offers
) -> Array:
    """EUR per customer of giving each flagged customer the offer that its probability calls for, judged by the label.

    The uplift is the policy's assumption, not a measurement.
    """
    action, _ = best_offer(probability, margin, offers)
    value = np.zeros(len(y))
    for name, offer in offers.menu.items():
        rows = (action == name) & (flag == 1)
        value[rows] = offer_value(y[rows].astype(float), margin[rows], offer, offers.horizon_months)
    return value
