"""The customers of a campaign: filtered, ordered, counted, and taken along as CSV or Excel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from spanishgas.config.policy import ACTIONS, RISK_TIERS, TIMINGS
from spanishgas.contracts.tables import CHANNELS, SEGMENTS
from spanishgas.dashboard import campaign, frame, tables
from spanishgas.dashboard.campaign import Filters

COLUMNS: Mapping[str, object] = {
    "customer_id": st.column_config.TextColumn("customer", pinned=True),
    "churn_probability": st.column_config.ProgressColumn(
        "churn probability", min_value=0, max_value=100, format="%.1f%%"
    ),
    "risk_tier": "risk tier",
    "expected_monthly_loss": st.column_config.NumberColumn("expected loss, EUR a month", format="%.2f"),
    "avg_monthly_margin": st.column_config.NumberColumn("margin, EUR a month", format="%.2f"),
    "sales_channel": "sales channel",
    "renewal_bucket": "renewal in",
    "timing_window": "when",
    "offer_budget": st.column_config.NumberColumn("offer, EUR", format="%.0f"),
    "expected_margin_impact": st.column_config.NumberColumn("expected value, EUR", format="%.2f"),
    "in_training": st.column_config.CheckboxColumn(
        "trained on", help="The model saw this customer's outcome."
    ),
}


def show() -> None:
    """Filters, totals, the first rows, and the files."""
    scored = tables.scored(frame.lake(), frame.as_of())
    filters = chosen(scored.known(*campaign.GROUPS))
    order = str(st.selectbox("Order by", list(campaign.ORDERS)))
    sums = campaign.cut(scored, filters)
    row = frame.figures()
    frame.metric(row, "Customers", f"{sums.customers:,}")
    frame.metric(row, "Expected monthly loss", frame.eur(sums.expected_monthly_loss))
    frame.metric(row, "Offers", f"{sums.offers:,}", f"cost {frame.eur(sums.offer_budget)} at most")
    frame.metric(row, "Expected gain after cost", frame.eur(sums.expected_margin_impact))
    if not sums.customers:
        st.info("No customer passes these filters: take one of them away.")
        return
    rows = frame.in_words(campaign.customers(scored, filters, order), "action", "timing_window")
    rows["churn_probability"] *= 100  # a column in per cent drops the decimals that are 0
    picked = st.dataframe(
        rows, column_config=COLUMNS, hide_index=True, on_select="rerun", selection_mode="single-row"
    )
    if picked.selection.rows:
        st.session_state[frame.CUSTOMER] = str(rows["customer_id"].iloc[picked.selection.rows[0]])
        st.switch_page("views/customer.py")
    st.caption(
        f"{len(rows):,} of {sums.customers:,} customers; the files hold all of them. Mark a row to see the customer."
    )
    name = f"campaign-{scored.scores.manifest.as_of}"
    csv = excel = st.container(horizontal=True)  # a file is made when its button is pressed
    csv.download_button(
        "Download CSV", lambda: campaign.as_csv(scored, filters, order), f"{name}.csv", on_click="ignore"
    )
    if sums.customers <= campaign.EXCEL_ROWS:
        excel.download_button(
            "Download Excel",
            lambda: campaign.as_excel(scored, filters, order),
            f"{name}.xlsx",
            on_click="ignore",
        )
    else:
        excel.caption(f"Excel takes up to {campaign.EXCEL_ROWS:,} customers: filter further, or take CSV.")


def chosen(groups: Sequence[str]) -> Filters:
    """The filters as they are set, `groups` among them; nothing set lets everybody pass."""
    top, bottom = st.columns(3), st.columns(3)
    values = {"segment": SEGMENTS, "sales_channel": tuple(dict.fromkeys(CHANNELS.values()))}
    of_groups = {
        name: several(place, frame.words(name).capitalize(), values[name])
        for name, place in zip(groups, top[1:], strict=False)
    }
    return Filters(
        risk_tier=several(top[0], "Risk tier", RISK_TIERS[::-1]),
        **of_groups,
        action=several(bottom[0], "Recommended", ACTIONS),
        timing_window=several(bottom[1], "When", TIMINGS),
        least_loss=float(bottom[2].number_input("Expected loss of at least, EUR a month", 0.0, step=1.0)),
    )


def several(place: st.delta_generator.DeltaGenerator, label: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Any number of `values`."""
    return tuple(place.multiselect(label, values, format_func=frame.words, placeholder="all"))


frame.page("Customers", show, customers=True)
