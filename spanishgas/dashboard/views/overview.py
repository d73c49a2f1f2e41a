"""How many customers are at risk, what that may cost, and how both have moved."""

from __future__ import annotations

import altair as alt
import streamlit as st

from spanishgas.config.policy import RISK_TIERS
from spanishgas.dashboard import campaign, frame, tables

SHADES = ["#9ecae1", "#fdd0a2", "#fd8d3c", "#a63603"]  # of the risk tiers, lowest first


def show() -> None:
    """Four numbers, the tiers, and the trend over all scored dates."""
    lake = frame.lake()
    scores = tables.scores(lake, frame.as_of())
    now, history = campaign.totals(scores), campaign.trend(lake)
    st.caption(f"As of {frame.day(scores.manifest.as_of)}, scored by version {now.model_version}.")
    columns = st.columns(4)
    columns[0].metric("Customers", f"{now.customers:,}")
    lowest = "Above the lowest risk tier."
    frame.metric(columns[1], "At risk", f"{now.share:.1%}", f"{now.at_risk:,} customers", help=lowest)
    columns[2].metric("Flagged", f"{now.flagged:,}", help="At or above the champion's threshold.")
    columns[3].metric(
        "Expected monthly loss",
        frame.eur(now.expected_monthly_loss),
        help="Churn probability times monthly margin, where that is positive, over all customers.",
    )
    left, right = st.columns(2)
    left.subheader("Customers by risk tier")
    left.altair_chart(tier_chart(campaign.tiers(scores)))
    right.subheader("Over time")
    if len(history) < 2:
        right.caption("The trend begins with the second scored date.")
    right.altair_chart(trend_chart(history))


def tier_chart(counts: object) -> alt.Chart:
    """Customers per tier, lowest first."""
    order = list(RISK_TIERS)
    tooltip = [
        alt.Tooltip("customers:Q", format=","),
        alt.Tooltip("expected_monthly_loss:Q", format=",.0f", title="EUR a month"),
    ]
    return frame.bars(
        counts,
        x=alt.X("risk_tier:N", sort=order, title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("customers:Q", title="customers"),
        color=alt.Color("risk_tier:N", scale=alt.Scale(domain=order, range=SHADES), legend=None),
        tooltip=tooltip,
    )


def trend_chart(history: object) -> alt.Chart:
    """Expected monthly loss by scored date, and who scored."""
    chart: alt.Chart = (
        alt.Chart(history)
        .mark_line(point=True)
        .encode(
            x=alt.X("as_of:T", title=None, axis=alt.Axis(format="%d %b %Y")),
            y=alt.Y(
                "expected_monthly_loss:Q", title="expected monthly loss, EUR", axis=alt.Axis(format=",.0f")
            ),
            tooltip=[
                alt.Tooltip("as_of:T", format="%d %b %Y"),
                alt.Tooltip("expected_monthly_loss:Q", format=",.0f", title="EUR a month"),
                alt.Tooltip("at_risk_share:Q", format=".1%", title="at risk"),
                alt.Tooltip("customers:Q", format=","),
                "model_version:N",
            ],
        )
    )
    return chart


frame.page("Overview", show)
