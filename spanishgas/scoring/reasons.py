"""Why a customer is at risk, in words that a retention agent can use on the telephone.

The model's own attributions (TreeSHAP for boosted trees) rank the facts. Facts that say the same thing, such as the
months to renewal and their bucket, count together and are told once, by the one that weighs most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from spanishgas.evaluation.importance import contributions
from spanishgas.training.model import ChurnModel

REASONS = 3
GENERIC = "risk below the Medium tier: not explained in detail"
NOTHING_RAISES = "no single fact raises the risk: the combination does"
TOPICS: Mapping[str, tuple[str, ...]] = {
    "renewal": ("months_to_renewal", "renewal_bucket", "is_within_3m_of_renewal", "is_expired_contract"),
    "tenure": ("tenure_months", "tenure_bucket"),
    "mood": ("sentiment_label", "is_negative_sentiment"),
    "subject": (
        *("customer_intent", "is_complaint_intent", "is_cancellation_intent", "recent_complaint_flag"),
        *("intent_severity_score", "is_price_sensitive"),
    ),
    "complaint": ("complaint_near_renewal", "complaint_x_negative_sentiment"),
    "contact": ("has_interaction", "last_interaction_days_ago"),
    "channel": ("sales_channel", "is_comparison_channel", "is_own_website_channel", "is_digital_channel"),
    "electricity": ("avg_monthly_elec_kwh", "total_elec_kwh_2024"),
    "gas": ("avg_monthly_gas_m3", "total_gas_m3_2024"),
    "price": ("elec_price_trend_12m", "is_price_increase"),
    "portfolio": ("segment", "portfolio_type", "is_dual_fuel"),
}
"""Features that tell an agent the same thing."""
_TOPIC = {feature: topic for topic, features in TOPICS.items() for feature in features}


def reasons(model: ChurnModel, customers: pd.DataFrame, dictionary: Mapping[str, str]) -> list[list[str]]:
    """Up to three reasons for each customer, the weightiest first, in the dictionary's words; never an empty list."""
    words = {f: dictionary[f] for f in model.features}
    added = contributions(model, customers).to_numpy()
    inputs = customers[list(model.features)].astype(object).to_numpy()
    return [
        reason_codes(dict(zip(words, weights, strict=True)), dict(zip(words, values, strict=True)), words)
        for weights, values in zip(added, inputs, strict=True)
    ]


def reason_codes(
    added: Mapping[str, float], customer: Mapping[str, object], words: Mapping[str, str]
) -> list[str]:
    """What raises this customer's risk most, a topic each, from what every feature adds to the log odds."""
    topics: dict[str, float] = {}
    leading: dict[str, str] = {}
    for feature, weight in added.items():
        topic = _TOPIC.get(feature, feature)
        topics[topic] = topics.get(topic, 0.0) + weight
        if topic not in leading or weight > added[leading[topic]]:
            leading[topic] = feature
    raising = sorted((t for t in topics if topics[t] > 0), key=lambda t: -topics[t])[:REASONS]
    return [phrase(leading[t], customer[leading[t]], words[leading[t]]) for t in raising] or [NOTHING_RAISES]


def phrase(feature: str, value: object, words: str) -> str:
    """One fact about one customer; `words` are the data dictionary's for the feature."""
    fact = None if value is None or value != value else value  # NaN is not equal to itself
    if feature in _PHRASES:
        return _PHRASES[feature](fact)
    if fact is None:
        return f"{words}: not known"
    if feature.startswith(
        ("is_", "has_", "dual_fuel_x_", "complaint_", "interaction_within_")
    ) or feature.endswith("_flag"):
        return words if fact == 1 else f"does not apply: {words}"
    if isinstance(fact, str):
        return f"{words}: {fact.replace('_x_', ' and ').replace('_', ' ')}"
    return f"{words}: {float(str(fact)):.4g}"


def _renewal(months: object) -> str:
    if months is None:
        return "renewal date not known"
    days = round(float(str(months)) * 30)
    return f"renewal in {days} days" if days > 0 else f"contract expired {-days} days ago"


def _trend(what: str) -> Callable[[object], str]:
    def told(change: object) -> str:
        if change is None:
            return f"{what} trend not known"
        percent = 100 * float(str(change))
        return f"{what} {'up' if percent >= 0 else 'down'} {abs(percent):.0f} % in twelve months"

    return told


def _counted(text: str, unknown: str) -> Callable[[object], str]:
    return lambda value: unknown if value is None else text.format(float(str(value)))


_PHRASES: Mapping[str, Callable[[object], str]] = {
    "months_to_renewal": _renewal,
    "renewal_bucket": lambda v: {
        None: "renewal date not known",
        "expired": "contract has expired",
    }.get(v if v is None else str(v), f"renewal in {str(v).replace('m', ' months')}"),
    "tenure_months": _counted("customer for {:.0f} months", "time as a customer not known"),
    "tenure_bucket": lambda v: f"customer for {v}" if v else "time as a customer not known",
    "sentiment_label": lambda v: f"last contact was {v}" if v else "no contact on record",
    "customer_intent": lambda v: f"last contact was about: {v}" if v else "no contact on record",
    "has_interaction": lambda v: "has been in contact" if v == 1 else "no contact on record",
    "last_interaction_days_ago": _counted("last contact {:.0f} days ago", "no contact on record"),
    "months_since_last_change": _counted(
        "last product change {:.0f} months ago", "has never changed product"
    ),
    "complaint_near_renewal": lambda v: "complaint near renewal" if v == 1 else "no complaint near renewal",
    "is_dual_fuel": lambda v: "takes electricity and gas" if v == 1 else "takes one fuel only",
    "elec_price_trend_12m": _trend("electricity price"),
    "gas_price_trend_12m": _trend("gas price"),
    "province_elec_cost_trend": _trend("electricity cost in the province"),
}
"""Facts that read better than "words: value"."""
