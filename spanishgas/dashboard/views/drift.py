"""What moved between the champion's training table and the customers now scored, and how often that was seen."""

from __future__ import annotations

import html

import pandas as pd
import streamlit as st

from spanishgas.config.policy import load_policy
from spanishgas.config.tiers import read_tiers
from spanishgas.dashboard import frame, tracking
from spanishgas.errors import UsageError

REPORTS = {
    "first page": "drift.html",
    "the model's inputs": "drift-inputs.html",
    "the predictions": "drift-predictions.html",
    "data quality": "drift-quality.html",
}


def show() -> None:
    """All reports over time, then one of them: what moved, and Evidently's own pages."""
    with tracking.looked_at():
        windows = tracking.drifts()
        st.subheader("Over time")
        st.scatter_chart(
            windows, x="as_of", y="share", color="alarm", x_label="", y_label="share of inputs that moved"
        )
        titles = {
            row.run_id: f"{row.as_of:%d %b %Y}, version {row.version}" for row in windows[::-1].itertuples()
        }
        run = str(st.selectbox("Report as of", list(titles), format_func=titles.__getitem__))
        one = windows.set_index("run_id").loc[run]
        left, middle, right = st.columns(3)
        left.metric("Alarm", "yes" if one["alarm"] else "no")
        middle.metric("Inputs that moved", f"{one['share']:.0%}")
        right.metric("Predictions moved by", f"{one['prediction']:.2f} sd")
        if pd.notna(one["statistic"]):
            limit = f"the alarm rings above {one['threshold']:.1f}"
            st.caption(
                f"The farthest input moved {one['statistic']:.1f} times its baseline variation; {limit}."
            )
        st.subheader("What moved")
        effects = tracking.effects(run).head(20)
        named = effects.assign(column=[feature(name) for name in effects["column"]])
        st.bar_chart(named, x="column", y="effect", horizontal=True, sort="-effect", x_label="effect size")
        least = load_policy().drift.min_effect
        st.caption(f"An input counts as moved from {least:g}; the alarm is judged by the figure above.")
        name = st.radio("Report on", ["none", *REPORTS], horizontal=True)
        if name in REPORTS:
            st.iframe(apart(tracking.artefact(run, REPORTS[str(name)]).decode()), height=900)


def feature(column: str) -> str:
    """A column in the words of the data dictionary; one that it no longer holds by its name."""
    try:
        return read_tiers().words(column)
    except UsageError:
        return column


def apart(report: str) -> str:
    """A page that holds a report in a frame of its own origin, from which its scripts cannot reach into the dashboard.

    The report, of several megabytes, is the frame's attribute: browsers refuse addresses of that length.
    """
    style = "position: fixed; inset: 0; width: 100%; height: 100%; border: 0"
    return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{html.escape(report)}"></iframe>'


frame.page("Drift", show)
