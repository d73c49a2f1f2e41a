"""Which stages ran, how long they took and why they failed, and what the data was like."""

from __future__ import annotations

import streamlit as st

from spanishgas.dashboard import frame, tables, tracking
from spanishgas.rendering import markdown

FROM_RAW = ("main", "simulate", "etl")
STAGES = (
    *("experiment", "ladder", "evaluate", "promote", "versions"),
    *("score", "recommend", "drift", "outcomes", "uplift", "retrain"),
)
COLUMNS = {
    "started": st.column_config.DatetimeColumn("started (UTC)", format="DD MMM YYYY HH:mm"),
    "seconds": st.column_config.NumberColumn(format="%.1f"),
}


def show() -> None:
    """Runs, failures, quality and quarantine."""
    built = not tables.adopted(frame.lake())
    if built:
        st.subheader("Rows in quarantine")
        with frame.told():
            rows = tracking.quarantine(frame.lake()).rename(columns={"source_table": "table"})
            frame.table(rows, "None in the newest build.")
    with tracking.looked_at():
        runs(built)
        if built:
            st.subheader("Data quality")
            with frame.told():
                quality()


def runs(built: bool) -> None:
    """The newest runs, of one stage or all, and what the failed ones said; `built`: gold is made of raw files."""
    st.subheader("Runs")
    stage = st.selectbox("Stage", ["all", *(FROM_RAW if built else ["adopt"]), *STAGES])
    listed = tracking.pipeline(frame.lake(), None if stage == "all" else str(stage))
    frame.table(listed.drop(columns="failure"), "No run of this stage yet.", column_config=COLUMNS)
    for row in listed[listed["failure"] != ""].head(10).itertuples():
        with st.expander(f"{markdown(row.stage)} failed on {row.started:%d %b %Y %H:%M} UTC"):
            st.code(row.failure, language=None, wrap_lines=True)


def quality() -> None:
    """The report of the newest build, as the ETL wrote it."""
    run = tracking.finished("etl", "spanishgas etl", frame.lake())[0]
    text = tracking.artefact(run.info.run_id, "quality.md").decode()
    with st.expander(f"Report of {markdown(run.info.run_name)}"):
        st.markdown(text)


frame.page("Pipeline", show)
