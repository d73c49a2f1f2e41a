"""Extracts whose months have three readings, one per tariff period, in place of their hours.

Nothing but the negative readings hangs on single hours: monthly totals are the same, and a period gets
the share of its hours' expected use. A utility of 20,099 customers is drawn and taken to gold in half a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from unittest import mock

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.etl import calendar
from spanishgas.simulate import hours
from spanishgas.simulate.market import Energy
from spanishgas.simulate.population import Floats

HOURLY = ("negative electricity readings", "negative gas readings", "both readings negative")
"""Figures that need the hours."""


@contextmanager
def drawn(as_of: date) -> Iterator[None]:
    """Within, extracts as of `as_of` are drawn so."""
    clock = calendar.hours(as_of)
    first = clock.groupby("slot")["hour"].min()
    of_segment = np.stack(
        [_shares(clock, hours.SHAPES[s], hours.WEEKEND[s]) for s in range(len(hours.SHAPES))]
    )
    of_gas = _shares(clock, hours.BOILER, 1.0)

    def draw(
        people: pd.DataFrame, energy: Energy, keep: NDArray[np.bool_], *where: object
    ) -> tuple[Floats, Floats]:
        span = where[-1]
        assert isinstance(span, slice)
        segment = people["segment"].to_numpy()[keep]
        elec, gas = (np.repeat(total[keep][:, span], 3, axis=1) for total in (energy.elec, energy.gas))
        return elec * of_segment[segment], gas * of_gas

    with mock.patch.multiple(
        "spanishgas.simulate.files",
        timestamps=lambda span: first.to_numpy(dtype="datetime64[us]"),
        draw_hours=draw,
    ):
        yield


def _shares(clock: pd.DataFrame, shape: NDArray[np.float32], weekend: float) -> Floats:
    """Share of each tariff period in its month."""
    weight = shape[clock["hour"].dt.hour] * np.where(clock["hour"].dt.weekday >= 5, weekend, 1.0)
    use = pd.Series(weight).groupby(clock["slot"]).sum()
    share: Floats = (use / use.groupby(use.index // 10).transform("sum")).to_numpy()
    return share
