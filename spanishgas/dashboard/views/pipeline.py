"""Which stages ran, how long they took and why they failed, and what the data was like."""

from __future__ import annotations

import streamlit as st

from spanishgas.dashboard import frame, tracking
from spanishgas.dashboard.tables import NothingYet
from spanishgas.errors import TrackingError
from spanishgas.rendering import markdown

STAGES = (
    *("simulate", "etl", "experiment", "ladder", "evaluate", "promote"),
    *("score", "recommend", "drift", "retrain", "main"),
)
COLUMNS = {
    "started": st.column_config.DatetimeColumn("started (UTC)", format="DD MMM YYYY HH:mm"),
    "seconds": st.column_config.NumberColumn(format="%.1f"),
}


def show() -> None:
    """Runs, failures, quality and quarantine."""
    st.subheader("Rows in quarantine")
    try:
        apart = tracking.quarantine(frame.lake())
        if apart.empty:
            st.caption("None in the newest build.")
        else:
            st.dataframe(apart, hide_index=True)
    except NothingYet as empty:
        st.info(str(empty))
    with tracking.looked_at():
        runs()
        st.subheader("Data quality")
        quality()


def runs() -> None:
    """The newest runs, of one stage or all, and what the failed ones said."""
    st.subheader("Runs")
    stage = st.selectbox("Stage", ["all", *STAGES])
    listed = tracking.pipeline(None if stage == "all" else str(stage))
    if listed.empty:
        st.caption("No run of this stage yet.")
        return
    st.dataframe(listed.drop(columns="failure"), column_config=COLUMNS, hide_index=True)
    for row in listed[listed["failure"] != ""].head(10).itertuples():
        with st.expander(f"{markdown(row.stage)} failed on {row.started:%d %b %Y %H:%M} UTC"):
            st.code(row.failure, language=None, wrap_lines=True)


def quality() -> None:
    """The report of the newest build, as the ETL wrote it."""
    try:
        run = tracking.finished("etl", "spanishgas etl")[0]
        text = tracking.artefact(run.info.run_id, "quality.md").decode()
    except NothingYet as empty:
        st.info(str(empty))
    except TrackingError as fault:
        st.error(markdown(fault))
    else:
        with st.expander(f"Report of {markdown(run.info.run_name)}"):
            st.markdown(text)


frame.page("Pipeline", show)
