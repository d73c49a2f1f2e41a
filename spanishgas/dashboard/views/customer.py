"""One customer: how likely it is to leave, why, what to do, what it used and brought, and where that comes from."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from spanishgas.dashboard import customer, frame, tables, tracking
from spanishgas.dashboard.tables import ScoredCustomers
from spanishgas.errors import TrackingError
from spanishgas.rendering import markdown
from spanishgas.scoring.campaign import EFFECT


def show() -> None:
    """Search by id, then everything about the one that was found."""
    lake = frame.lake()
    scored = tables.scored(lake, frame.as_of())
    text = st.text_input("Customer id", key=frame.CUSTOMER, placeholder="the id, or how it begins")
    if not text.strip():
        st.info("Give a customer's id, or how it begins.")
        return
    near = customer.search(scored, text)
    if not near:
        day = frame.day(scored.scores.manifest.as_of)
        st.warning(f"No customer scored as of {day} has an id that begins with '{markdown(text)}'.")
        return
    who = near[0]
    if who not in (text, text.strip()):
        who = str(st.selectbox(f"Ids that begin so (at most {customer.NEAR})", near))
    facts = customer.facts(scored, who)
    st.header(markdown(who))
    risk(facts)
    moves(scored, facts)
    if not scored.adopted:
        st.subheader("Usage and margin by month")
        by_month(customer.months(lake, scored, who))
        st.subheader("Contacts")
        date = st.column_config.DateColumn(format="DD MMM YYYY")
        contacts = customer.contacts(lake, scored, who)
        frame.table(contacts, "No contact on record.", column_config={"date": date})
    st.subheader("Where this comes from")
    st.dataframe(customer.lineage(scored), hide_index=True)


def risk(facts: dict[str, Any]) -> None:
    """Probability and value, what is recommended, and the reasons."""
    row = frame.figures()
    between = f"by the holdout {facts['probability_low']:.1%} or {facts['probability_high']:.1%}"
    frame.metric(row, "Churn probability", f"{facts['churn_probability']:.1%}", between)
    frame.metric(row, "Risk tier", facts["risk_tier"])
    frame.metric(row, "Expected monthly loss", frame.eur(facts["expected_monthly_loss"], 2))
    margin = facts["avg_monthly_margin"]
    frame.metric(row, "Monthly margin", "unknown" if pd.isna(margin) else frame.eur(margin, 2))
    st.caption(about(facts))
    st.subheader("What to do")
    st.write(advice(facts))
    st.subheader("Why")
    st.markdown("\n".join(f"- {markdown(reason)}" for reason in facts["reason_codes"]))


def moves(scored: ScoredCustomers, facts: dict[str, Any]) -> None:
    """What raises and what lowers the risk, by the model that made the score; customers are shown without it too."""
    try:
        model = tracking.model(str(facts["model_version"]))
    except TrackingError as fault:
        st.caption(
            f"No picture of what moves the risk, since the model could not be loaded: {markdown(fault)}"
        )
        return
    added = customer.contributions(scored, str(facts["customer_id"]), model)
    chart = frame.bars(
        added.assign(raises=added["adds"] > 0),
        x=alt.X("adds:Q", title="lowers the risk <  log odds  > raises it"),
        y=alt.Y("feature:N", sort=None, title=None, axis=alt.Axis(labelLimit=280)),
        color=alt.Color("raises:N", legend=None),
        tooltip=["feature:N", "value:N", alt.Tooltip("adds:Q", format="+.2f")],
    )
    st.altair_chart(chart)


def about(facts: dict[str, Any]) -> str:
    """Who the customer is, in a line."""
    said = [f"{words}: {facts[name]}" for name, words in customer.WHO.items() if not pd.isna(facts.get(name))]
    trained = (
        ["the model saw this customer's outcome in training, and may be too sure of it"]
        if facts["in_training"]
        else []
    )
    return markdown("; ".join([*said, *trained, f"scored by version {facts['model_version']}"]))


def advice(facts: dict[str, Any]) -> str:
    """The recommendation, as a sentence."""
    if facts.get("better_left_alone"):
        return "No offer: by what was measured on customers alike, any would rather make this one leave."
    if facts["action"] == "no_offer":
        return "No offer: none is expected to pay within the budget, or it is withheld to measure what offers do."
    when = f", {frame.words(facts['timing_window'])}" if facts["timing_window"] else ""
    return (
        f"{frame.words(facts['action']).capitalize()} of {frame.eur(facts['offer_budget'])}{when}; "
        f"expected to bring {frame.eur(facts['expected_margin_impact'], 2)}.{_measured(facts)}"
    )


def _measured(facts: dict[str, Any]) -> str:
    """What was measured of the offer, if learned effects chose it."""
    if facts.get("expected_effect") is None:
        return ""
    avoided, low, high = (100 * facts[name] for name in EFFECT[:3])
    return (
        f" It lowers the probability of leaving by {avoided:.1f} points; among customers alike the average effect was "
        f"{low:.1f} to {high:.1f}."
    )


def by_month(months: pd.DataFrame) -> None:
    """Usage on the left, margin on the right."""
    if months.empty:
        st.caption("No month of this customer is in the table.")
        return
    left, right = st.columns(2)
    usage = {"electricity_kwh": "electricity, kWh", "gas_m3": "gas, m3"}
    margin = {"electricity_margin": "electricity", "gas_margin": "gas"}
    for place, title, words in ((left, "used", usage), (right, "margin, EUR", margin)):
        rows = months.rename(columns=words)
        place.bar_chart(rows, x="month", y=list(words.values()), x_label="", y_label=title, stack=False)


frame.page("Customer", show, customers=True)
