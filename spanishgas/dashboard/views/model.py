"""The champion: its verdict, its figures, where it is weaker; all versions, the ladder, and who was champion when."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from spanishgas.config.policy import load_policy
from spanishgas.dashboard import frame, tracking
from spanishgas.evaluation import card
from spanishgas.lifecycle import overview
from spanishgas.lifecycle.version import Version
from spanishgas.rendering import markdown


def show() -> None:
    """Champion, versions, ladder and history; each says for itself what is missing."""
    with tracking.looked_at():
        with frame.told():
            champion(tracking.champion())
        st.subheader("All versions")
        with frame.told():
            versions()
        st.subheader("The ladder")
        with frame.told():
            ladder()
        st.subheader("Who was champion when")
        when = st.column_config.DatetimeColumn("when (UTC)", format="DD MMM YYYY HH:mm")
        frame.table(tracking.moves(), "No champion was ever named.", column_config={"at": when})


def champion(version: Version) -> None:
    """Verdict, metrics with intervals, curves and slices."""
    st.subheader(f"Champion: version {version.number}")
    if old := version.too_old(max(frame.lake().dates("scores"), default=None), load_policy().max_age_days):
        st.warning(markdown(old))
    verdict = version.verdict
    tell = st.success if verdict.passed else st.error
    tell(f"Gate {markdown(verdict.words)}")
    told = pd.DataFrame(verdict.rows()).rename(columns={"": "outcome"})
    st.dataframe(told[["check", "outcome", "value", "95 % interval", "limit"]], hide_index=True)
    for line in verdict.waived:
        st.caption(line)
    left, right = st.columns(2)
    left.markdown("**On held-out customers, with 95 % intervals**")
    left.dataframe(card.metrics_table(version.metrics), hide_index=True)
    with right, frame.told():
        curves = tracking.artefact(version.run_id, "holdout.png")
        st.image(curves, caption="Precision-recall and calibration, holdout")
    st.markdown("**Where it is weaker**")
    with frame.told():
        st.dataframe(tracking.table(version.run_id, "slices.json"), hide_index=True)


def versions() -> None:
    """Every version beside the others, as the registered model's page has them."""
    run = tracking.finished(overview.DRAWN, "spanishgas evaluate")[0].info
    st.image(tracking.artefact(run.run_id, overview.PICTURE))
    st.dataframe(overview.in_words(tracking.table(run.run_id, overview.TABLE)[::-1]), hide_index=True)


def ladder() -> None:
    """The rungs that the newest ladder compared, and its choice."""
    run = tracking.finished("ladder", "spanishgas ladder", frame.lake())[0].info
    st.image(tracking.artefact(run.run_id, "ladder.png"), caption=markdown(run.run_name))
    st.dataframe(tracking.table(run.run_id, "ladder_table.json"), hide_index=True)


frame.page("Model", show)
