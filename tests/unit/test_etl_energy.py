"""Energy is conserved: what came in is what was kept and what was set apart, whatever the hours look like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanishgas.config.tariff import tariff
from spanishgas.contracts import contract
from spanishgas.etl import rollup
from spanishgas.etl.calendar import Grid
from spanishgas.etl.engine import DuckEngine, duckdb
from spanishgas.etl.hours import typed

AS_OF = date(2024, 12, 31)
COLUMNS = {name: name for name in contract("consumption_hourly_2024").fields}
CLOCKS = (None, "Europe/Madrid", "UTC", "Etc/GMT-1")


@pytest.fixture(scope="module")
def engine() -> Any:
    with duckdb() as opened:
        yield opened


def rolled(engine: DuckEngine, hours: pd.DataFrame, grid: Grid) -> rollup.RollUp:
    """These hours as a file would give them, rolled up."""
    return rollup.roll_up(
        typed(engine.import_table("hours", _arrow(hours)), COLUMNS), AS_OF, engine, grid=grid
    )


def _arrow(hours: pd.DataFrame) -> Any:
    return pa.table({name: pa.array(hours[name]) for name in COLUMNS})


def totals(engine: DuckEngine, passed: rollup.RollUp) -> Mapping[str, Any]:
    """Units by what became of them, and by customer, of electricity."""
    counts = engine.fetch(passed.counts).to_pandas()
    return {name: counts[f"{name}_elec"].sum() for name in ("in", "kept", "outside", "copies", "beside")}


def oracle_instants(step: int, clock: str | None) -> Iterator[tuple[datetime, tuple[datetime, datetime]]]:
    """Local begin of each interval of 2024, and its begin and end as the clock shows them."""
    madrid, shown = ZoneInfo("Europe/Madrid"), ZoneInfo(clock or "UTC")
    begin, stop = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    if clock:  # local midnights
        begin, stop = begin - timedelta(hours=1), stop - timedelta(hours=1)
    while begin < stop:
        after = begin + timedelta(minutes=step)
        local = begin.astimezone(madrid if clock else UTC)
        pair = [at.astimezone(shown).replace(tzinfo=None) for at in (begin, after)]
        yield local.replace(tzinfo=None), (pair[0], pair[1])
        begin = after


def oracle_period(local: datetime) -> int:
    """Circular 3/2020 of the CNMC: weekends and national holidays of fixed date are off peak."""
    fixed = {(1, 1), (1, 6), (5, 1), (8, 15), (10, 12), (11, 1), (12, 6), (12, 8), (12, 25)}
    if local.weekday() > 4 or (local.month, local.day) in fixed or local.hour < 8:
        return 3
    return 1 if local.hour in {10, 11, 12, 13, 18, 19, 20, 21} else 2


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from([None, 15, 30, 60]),
    clock=st.sampled_from(CLOCKS),
    end=st.booleans(),
)
def test_what_came_in_is_what_was_kept_and_what_was_set_apart(
    engine: DuckEngine, seed: int, step: int | None, clock: str | None, end: bool
) -> None:
    """Rows at odd times, without a time, a customer or a reading, below 0, endless, and copies of others."""
    rng, size = np.random.default_rng(seed), 400
    minutes = rng.choice([15, 60, 7], size, p=[0.45, 0.45, 0.1]) * rng.integers(0, 900, size)
    stamps = pd.Timestamp("2024-10-20") + pd.to_timedelta(minutes, unit="m")
    spoilt = rng.choice([np.nan, np.inf, -1.0, 9.3e6, 0.0], size)
    readings = np.where(rng.random(size) < 0.2, spoilt, rng.lognormal(0, 2, size).round(3))
    ids = rng.choice(["C1", "C2", "", None], size, p=[0.6, 0.2, 0.1, 0.1])
    hours = pd.DataFrame(dict(zip(COLUMNS, (ids, stamps, readings, rng.random(size)), strict=True)))
    hours.loc[rng.random(size) < 0.05, "timestamp"] = pd.NaT
    hours.loc[rng.random(size) < 0.05, "timestamp"] = pd.Timestamp("2031-01-01")
    passed = rolled(engine, hours, Grid(step, clock, end))
    units = totals(engine, passed)
    assert units["in"] == units["kept"] + units["outside"] + units["copies"]
    usable = hours[(hours["consumption_elec_kwh"].fillna(0) < 9.2e6)]["consumption_elec_kwh"].clip(lower=0)
    assert float(units["in"] + units["beside"]) / 1e12 == pytest.approx(usable.sum(), rel=1e-12)
    kept = engine.fetch(rollup.customer_months(passed.slots, AS_OF)).to_pandas()
    assert kept["monthly_elec_kwh"].sum() == pytest.approx(float(units["kept"]) / 1e12, rel=1e-12)


QUICK = [
    (15, "Europe/Madrid", False),
    (60, "Europe/Madrid", True),
    (30, "UTC", True),
    (60, "Etc/GMT-1", False),
]
ALL = [(step, clock, end) for step in (15, 30, 60) for clock in CLOCKS for end in (False, True)]


@pytest.mark.parametrize(
    ("step", "clock", "end"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in ALL],
)
def test_a_year_with_both_changes_of_the_clock_is_right_by_month_and_period_on_every_clock(
    engine: DuckEngine, step: int, clock: str | None, end: bool
) -> None:
    """The oracle walks the year's instants with zoneinfo and plain Python."""
    grid, rng = Grid(step, clock, end), np.random.default_rng(step)
    instants = list(oracle_instants(step, clock))
    readings = rng.lognormal(0, 1, len(instants)).round(3)
    expected: dict[tuple[str, int], float] = {}
    for (local, _), reading in zip(instants, readings, strict=True):
        place = (f"{local:%Y-%m}", oracle_period(local))
        expected[place] = expected.get(place, 0.0) + float(reading)
    stamps = [after if end else begin for _, (begin, after) in instants]
    hours = pd.DataFrame({"customer_id": "C1", "timestamp": pd.Series(stamps, dtype="datetime64[us]")})
    hours = hours.assign(consumption_elec_kwh=readings, consumption_gas_m3=0.0)
    passed = rolled(engine, hours.sample(frac=1, random_state=1), grid)
    counts = engine.fetch(passed.counts).to_pandas()
    assert int(counts["kept"].sum()) == len(instants)
    months = engine.fetch(rollup.customer_months(passed.slots, AS_OF)).to_pandas().set_index("month")
    for (month, period), kwh in expected.items():
        assert months.loc[month, f"elec_kwh_{[*tariff().periods][period - 1]}"] == pytest.approx(
            kwh, rel=1e-9
        ), (
            month,
            period,
        )
