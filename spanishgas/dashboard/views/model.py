"""The champion: its verdict, its figures, where it is weaker, its ladder, and who was champion when."""

from __future__ import annotations

import altair as alt
import streamlit as st

from spanishgas.dashboard import frame, tracking
from spanishgas.lifecycle.version import Version
from spanishgas.rendering import markdown


def show() -> None:
    """Champion, ladder and history; each says for itself what is missing."""
    with tracking.looked_at():
        with frame.told():
            champion(tracking.champion())
        st.subheader("The ladder")
        with frame.told():
            ladder()
        st.subheader("Who was champion when")
        frame.table(tracking.moves(), "No champion was ever named.")


def champion(version: Version) -> None:
    """Verdict, metrics with intervals, curves and slices."""
    st.subheader(f"Champion: version {version.number}")
    verdict = version.verdict
    tell = st.success if verdict.passed else st.error
    tell(f"Gate {markdown(verdict.words)}")
    st.markdown(verdict.table())
    left, right = st.columns(2)
    left.markdown("**On held-out customers, with 95 % intervals**")
    left.dataframe(tracking.intervals(version.metrics), hide_index=True)
    with right, frame.told():
        curves = tracking.artefact(version.run_id, "holdout.png")
        st.image(curves, caption="Precision-recall and calibration, holdout")
    st.markdown("**Where it is weaker**")
    with frame.told():
        st.dataframe(tracking.table(version.run_id, "slices.json"), hide_index=True)


def ladder() -> None:
    """Average precision of each rung with its interval."""
    rungs = tracking.ladder()
    base = alt.Chart(rungs).encode(
        x=alt.X("experiment:N", title=None), xOffset="model:N", color=alt.Color("model:N", title=None)
    )
    span = base.mark_rule().encode(
        y=alt.Y("low:Q", title="average precision, 95 % interval", scale=alt.Scale(zero=False)), y2="high:Q"
    )
    st.altair_chart(span + base.mark_point(filled=True).encode(y="score:Q", tooltip=list(rungs.columns)))
    st.dataframe(rungs, hide_index=True)


frame.page("Model", show)
