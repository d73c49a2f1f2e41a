"""How many customers are at risk, what that may cost, and how both have moved."""

from __future__ import annotations

import streamlit as st

from spanishgas.dashboard import campaign, frame, tables


def show() -> None:
    """Four numbers, the tiers, and the trend over all scored dates."""
    lake = frame.lake()
    scores = tables.scores(lake, frame.as_of())
    now, history = campaign.totals(scores), campaign.trend(lake)
    st.caption(f"As of {frame.day(scores.manifest.as_of)}, scored by version {now.model_version}.")
    row = frame.figures()
    frame.metric(row, "Customers", f"{now.customers:,}")
    lowest = "Above the lowest risk tier."
    frame.metric(row, "At risk", f"{now.share:.1%}", f"{now.at_risk:,} customers", help=lowest)
    frame.metric(row, "Flagged", f"{now.flagged:,}", help="At or above the champion's threshold.")
    frame.metric(
        row,
        "Expected monthly loss",
        frame.eur(now.expected_monthly_loss),
        help="Churn probability times monthly margin, where that is positive, over all customers.",
    )
    left, right = st.columns(2)
    left.subheader("Customers by risk tier")
    left.bar_chart(campaign.tiers(scores), x="risk_tier", y="customers", x_label="", sort=False)
    right.subheader("Over time")
    if len(history) < 2:
        right.caption("The trend begins with the second scored date.")
    else:
        loss = "expected monthly loss, EUR"
        right.line_chart(history, x="as_of", y="expected_monthly_loss", x_label="", y_label=loss)


frame.page("Overview", show)
