"""What moved between the champion's training table and the customers now scored, and how often that was seen."""

from __future__ import annotations

import html

import altair as alt
import pandas as pd
import streamlit as st

from spanishgas.config.policy import load_policy
from spanishgas.config.tiers import read_tiers
from spanishgas.dashboard import frame, tracking
from spanishgas.errors import UsageError
from spanishgas.monitoring.drift import yes

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
        st.altair_chart(over_time(windows))
        titles = {
            row.run_id: f"{row.as_of:%d %b %Y}, version {row.version}" for row in windows[::-1].itertuples()
        }
        run = str(st.selectbox("Report as of", list(titles), format_func=titles.__getitem__))
        one = windows.set_index("run_id").loc[run]
        row = frame.figures()
        frame.metric(row, "Alarm", yes(bool(one["alarm"])))
        frame.metric(row, "Inputs that moved", f"{one['share']:.0%}")
        frame.metric(row, "Predictions moved by", f"{one['prediction']:.2f} sd")
        if pd.notna(one["statistic"]):
            limit = f"the alarm rings above {one['threshold']:.1f}"
            st.caption(
                f"The farthest input moved {one['statistic']:.1f} times its baseline variation; {limit}."
            )
        st.subheader("What moved")
        effects = tracking.effects(run).head(20)
        named = effects.assign(column=[feature(name) for name in effects["column"]])
        size = alt.X("effect:Q", title="effect size")
        names = alt.Y("column:N", sort="-x", title=None, axis=alt.Axis(labelLimit=400))
        st.altair_chart(frame.bars(named, x=size, y=names))
        least = load_policy().drift.min_effect
        st.caption(f"An input counts as moved from {least:g}; the alarm is judged by the figure above.")
        name = st.radio("Report on", ["none", *REPORTS], horizontal=True)
        if name in REPORTS:
            st.iframe(apart(tracking.artefact(run, REPORTS[str(name)]).decode()), height=900)


def over_time(windows: pd.DataFrame) -> alt.Chart:
    """The share of inputs that moved by as-of date; a window with an alarm has a colour of its own."""
    chart: alt.Chart = (
        alt.Chart(windows.assign(alarm=windows["alarm"].map(yes)))
        .mark_point(filled=True, size=90)
        .encode(
            x=alt.X("as_of:T", title=None, axis=alt.Axis(format="%d %b %Y", tickCount=6)),
            y=alt.Y(
                "share:Q",
                title="inputs that moved",
                axis=alt.Axis(format=".0%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color("alarm:N", sort=["no", "yes"], legend=alt.Legend(orient="bottom")),
        )
    )
    return chart


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
