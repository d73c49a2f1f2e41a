"""What is recommended, what it is expected to bring beside other ways, and what another budget would choose."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd
import streamlit as st

from spanishgas.config.policy import ACTIONS, RISK_TIERS, Policy, load_policy
from spanishgas.dashboard import campaign, frame, tables, tracking
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.scoring.campaign import CURVE, rules, ways

COLUMNS: Mapping[str, object] = {
    "customers": st.column_config.NumberColumn(format="localized"),
    "cost": st.column_config.NumberColumn("costs at most, EUR", format="localized"),
    "offer_budget": st.column_config.NumberColumn("costs at most, EUR", format="localized"),
    "expected_value": st.column_config.NumberColumn("expected value, EUR", format="localized"),
    "expected_margin_impact": st.column_config.NumberColumn("expected value, EUR", format="localized"),
    "risk_tier": "risk tier",
}


def show() -> None:
    """Actions by tier and segment, the alternatives, and the budget."""
    scored, policy = tables.scored(frame.lake(), frame.as_of()), load_policy()
    made = campaign.actions(scored).round(0)
    offered = frame.in_words(made[made["action"] != NO_OFFER], "action")
    st.subheader("By tier and segment")
    st.altair_chart(chart(offered))
    st.dataframe(frame.in_words(made, "action"), column_config=COLUMNS, hide_index=True)
    learned(scored)
    customers = campaign.at_risk(scored, policy.offers)
    st.subheader("Beside other ways")
    st.dataframe(ways(customers, policy.offers).round(0), column_config=COLUMNS, hide_index=True)
    st.caption(
        "Expected value: acceptance x (probability of churn x uplift x months of margin - cost). Uplift, acceptance "
        "and months are assumptions of experiments/policy.yaml, not measurements."
    )
    st.subheader("With another budget")
    budget(customers, policy)


def learned(scored: tables.ScoredCustomers) -> None:
    """What each rule was worth on held-out customers, and who is left alone, where learned effects decide."""
    version = tracking.offers_version(scored.recommendations)
    if version is None:
        return
    st.subheader("Who gets an offer")
    st.dataframe(rules(version.metrics), hide_index=True)
    with frame.told():
        st.image(tracking.artefact(version.run_id or "", CURVE))
    st.caption(
        f"Effects that were learned from earlier campaigns decide (version {version.number} of {version.name}), for no "
        f"more money than offers by risk would cost. {campaign.left_alone(scored):,} customers at risk are better left "
        "alone: any offer would rather make them leave."
    )


def budget(customers: pd.DataFrame, policy: Policy) -> None:
    """A slider from nothing to all that pays, and what it would choose."""
    everything = campaign.allocation(customers, policy, None)
    most, best = float(everything["cost"].sum()), float(everything["expected_value"].sum())
    if most <= 0:
        st.caption("No offer is expected to pay, whatever the budget.")
        return
    limit = st.slider("Budget, EUR", 0.0, most, most, step=max(1.0, round(most / 100, 0)), format="localized")
    chosen = campaign.allocation(customers, policy, limit) if limit < most else everything
    row = frame.figures()
    frame.metric(row, "Offers", f"{chosen['customers'][chosen['offer'] != NO_OFFER].sum():,}")
    frame.metric(row, "Cost at most", frame.eur(chosen["cost"].sum()))
    worth = chosen["expected_value"].sum()
    of_most = f"{worth / best:.0%} of the most that offers can bring"
    frame.metric(row, "Expected value", frame.eur(worth), of_most)
    st.dataframe(frame.in_words(chosen.round(0), "offer"), column_config=COLUMNS, hide_index=True)
    st.caption(
        "Nothing is changed here: set offers.total_budget_eur in experiments/policy.yaml and run `spanishgas score`. "
        f"Then {policy.offers.control.share:.0%} of these customers get no offer, to measure what offers do."
    )


def chart(made: pd.DataFrame) -> alt.Chart:
    """Customers with an offer: a bar per segment and tier, the highest tier first, as wide as the page."""
    offers = [frame.words(name) for name in ACTIONS]
    groups = [f"{segment}, {tier}" for segment in sorted(set(made["segment"])) for tier in RISK_TIERS[::-1]]
    return frame.bars(
        made.assign(group=made["segment"] + ", " + made["risk_tier"]),
        x=alt.X("customers:Q", title="customers with an offer"),
        y=alt.Y("group:N", sort=groups, title=None, axis=alt.Axis(labelLimit=280)),
        color=alt.Color("action:O", title=None, sort=offers, legend=alt.Legend(orient="bottom")),
        tooltip=["segment", "risk_tier", "action", alt.Tooltip("customers:Q", format=",")],
    )


frame.page("Recommendations", show)
