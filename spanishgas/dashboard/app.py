"""What Streamlit runs: the pages, and the date of the scores that they are about."""

from __future__ import annotations

import streamlit as st

from spanishgas.dashboard import frame, guard
from spanishgas.errors import SpanishGasError
from spanishgas.rendering import markdown

PAGES = {
    "Retention": {
        "overview": "Overview",
        "customers": "Customers",
        "customer": "Customer",
        "recommendations": "Recommendations",
    },
    "Operation": {"model": "Model", "drift": "Drift", "pipeline": "Pipeline"},
}


def choose_date() -> None:
    """The date of the scores, for all pages; nothing to choose before anything was scored."""
    try:
        dates = frame.lake().dates("scores")[::-1]
    except (SpanishGasError, OSError):
        return  # the page itself says what is wrong
    if dates:
        st.sidebar.selectbox("Scores as of", dates, format_func=frame.day, key=frame.AS_OF)


def account() -> None:
    """Who is logged in, and the way out, where a login is configured."""
    if st.user.get("is_logged_in"):
        st.sidebar.caption(
            f"Logged in as {markdown(st.user.get('email') or st.user.get('name') or 'unknown')}"
        )
        st.sidebar.button("Log out", on_click=st.logout)


st.set_page_config("SpanishGas", layout="wide")
guard.keep_key()
chosen = st.navigation(
    {
        section: [
            st.Page(f"views/{file}.py", title=title, default=file == "overview") for file, title in of.items()
        ]
        for section, of in PAGES.items()
    }
)
choose_date()
account()
chosen.run()
