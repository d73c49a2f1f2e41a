"""What every page has in common: its title, the lake, the date that was chosen, and what is said where nothing is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from spanishgas.dashboard import guard
from spanishgas.dashboard.tables import NothingYet
from spanishgas.errors import SpanishGasError
from spanishgas.lake import Lake
from spanishgas.rendering import markdown
from spanishgas.settings import settings

AS_OF, CUSTOMER = "as_of", "customer_id"
"""Names in the session's state."""


def page(title: str, show: Callable[[], None], *, customers: bool = False) -> None:
    """Show a page; what is missing is a note, what fails an error. `customers`: it shows rows of single customers."""
    st.title(title)
    if customers and not guard.admitted():
        return
    with told():
        show()


@contextmanager
def told() -> Iterator[None]:
    """Say what is missing as a note and what fails as an error, and go on after it."""
    try:
        yield
    except NothingYet as empty:
        st.info(str(empty))
    except SpanishGasError as fault:
        st.error(markdown(fault))
    except OSError as fault:
        st.error(f"{markdown(fault)}: check that the lake is there and may be read")


def lake() -> Lake:
    """The lake that SPANISHGAS_LAKE names."""
    return Lake(settings().lake)


def as_of() -> date | None:
    """The date chosen in the sidebar; None before anything was scored."""
    chosen: date | None = st.session_state.get(AS_OF)
    return chosen


def eur(amount: float, places: int = 0) -> str:
    """An amount as a reader expects it: 1,234 EUR."""
    return f"{amount:,.{places}f} EUR"


def day(when: date) -> str:
    """A date as a reader expects it: 31 Dec 2024."""
    return f"{when:%d %b %Y}"


def words(name: str) -> str:
    """A value of a closed set as words: offer_small is `offer small`, 60_90_days `60 to 90 days`."""
    return re.sub(r"(?<=\d)_(?=\d)", " to ", name).replace("_", " ")


def in_words(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table with the values of closed sets in `columns` as words."""
    return rows.assign(**{name: rows[name].map(words, na_action="ignore") for name in columns})


def figures() -> Any:
    """A row for figures, which goes on below where the page is too narrow: none of them is cut."""
    return st.container(horizontal=True, gap="large")


def metric(place: Any, label: str, value: str, note: str | None = None, **more: Any) -> None:
    """A figure, as wide as it is, with a note below it, which is no change of it."""
    place.metric(label, value, note, delta_color="off", delta_arrow="off", width="content", **more)


def table(rows: pd.DataFrame, empty: str, **options: Any) -> None:
    """A table for people, or the words of `empty` where it has no rows."""
    if rows.empty:
        st.caption(empty)
    else:
        st.dataframe(rows, hide_index=True, **options)


def bars(rows: object, **channels: Any) -> alt.Chart:
    """A chart of bars; `channels` are Altair's encodings."""
    chart: alt.Chart = alt.Chart(rows).mark_bar().encode(**channels)
    return chart
