"""Hours in order are summed the faster way to the same bits; hours that are not are left to the roll-up's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spanishgas.etl import calendar, ordered, rollup
from spanishgas.etl.engine import duckdb
from spanishgas.etl.hours import open_hours, parts_of
from spanishgas.etl.source import open_source
from spanishgas.raw_files import HOURS
from tests.unit.test_etl_rollup import AS_OF, WINDOW, year

Frames = tuple[pd.DataFrame, pd.DataFrame]


def people() -> pd.DataFrame:
    """Whole years, a part of a year, and readings below 0."""
    hours = pd.concat([year("C1", 1), year("C2", 2), year("C3", 3)[1000:7003], year("C4", 4)[:2]])
    below = np.random.default_rng(5).random(len(hours)) < 0.01
    hours.loc[below, "consumption_elec_kwh"] *= -1
    return hours.reset_index(drop=True)


def write(folder: Path, hours: pd.DataFrame, rows: int = 5000) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    hours.to_parquet(folder / "consumption_hourly_2024.parquet", index=False, row_group_size=rows)
    return folder


def summed(folder: Path) -> pa.Table | None:
    source = open_source(folder)
    return ordered.sums(parts_of(source), source.columns(HOURS), WINDOW, rollup.UNIT, threads=2)


def rolled(folder: Path, in_order: bool) -> Frames:
    """Slots and counts of the roll-up with and without the faster way."""
    with duckdb() as engine:
        source = open_source(folder)
        found = rollup.roll_up(open_hours(source, engine), AS_OF, engine, source if in_order else None)
        slots, counts = (engine.fetch(table).to_pandas() for table in (found.slots, found.counts))
    columns = sorted(slots.columns)
    return (
        slots[columns].sort_values(["customer_id", "slot"], ignore_index=True),
        counts[sorted(counts.columns)].sort_values("customer_id", ignore_index=True),
    )


def equal(folder: Path) -> None:
    for ours, theirs in zip(rolled(folder, in_order=True), rolled(folder, in_order=False), strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.parametrize("rows", [500, 5_000, 8_784, 100_000])
def test_hours_in_order_give_the_same_sums_and_counts_for_any_size_of_row_group(
    tmp_path: Path, rows: int
) -> None:
    folder = write(tmp_path, people(), rows)
    assert summed(folder) is not None
    equal(folder)


def test_a_customer_who_comes_back_later_in_the_file_is_added_up_and_a_copy_there_is_found(
    tmp_path: Path,
) -> None:
    hours = year("C1", 1)
    again = pd.concat([hours[:3000], year("C2", 2), hours[3000:], hours[4000:4100]])
    folder = write(tmp_path, again)
    assert summed(folder) is not None
    equal(folder)
    assert rolled(folder, in_order=True)[1].set_index("customer_id").loc["C1", "kept"] == len(hours)


@pytest.mark.parametrize("times", [0, 2], ids=["a gap", "a copy"])
def test_a_gap_or_a_copy_only_begins_another_run(tmp_path: Path, times: int) -> None:
    hours = people()
    folder = write(tmp_path, hours.loc[np.repeat(hours.index, np.where(hours.index == 700, times, 1))])
    assert summed(folder) is not None
    equal(folder)


SPOILT: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "order": lambda h: h.sample(frac=1, random_state=1),
    "no id": lambda h: h.assign(customer_id=h["customer_id"].mask(h.index == 700)),
    "no time": lambda h: h.assign(timestamp=h["timestamp"].mask(h.index == 700)),
    "no reading": lambda h: h.assign(consumption_gas_m3=h["consumption_gas_m3"].mask(h.index == 700)),
    "infinite": lambda h: h.assign(consumption_gas_m3=h["consumption_gas_m3"].mask(h.index == 700, np.inf)),
    "too large": lambda h: h.assign(consumption_gas_m3=h["consumption_gas_m3"].mask(h.index == 700, 9100.0)),
    "between hours": lambda h: h.assign(
        timestamp=h["timestamp"].mask(h.index == 700, h["timestamp"] + pd.Timedelta(minutes=30))
    ),
    "another year": lambda h: h.assign(timestamp=h["timestamp"] - pd.Timedelta(hours=100)),
    "text": lambda h: h.assign(timestamp=h["timestamp"].astype(str)),
    "whole numbers": lambda h: h.assign(consumption_gas_m3=1),
    "by hour": lambda h: h.sort_values(["timestamp", "customer_id"]),
    "nothing": lambda h: h[:0],
}


@pytest.mark.parametrize("fault", SPOILT)
def test_what_is_not_in_order_is_left_to_the_general_way(tmp_path: Path, fault: str) -> None:
    folder = write(tmp_path, SPOILT[fault](people()))
    assert summed(folder) is None
    equal(folder)


def test_a_null_that_parquet_holds_as_nan_is_not_added(tmp_path: Path) -> None:
    hours = people()
    hours.loc[700, "consumption_elec_kwh"] = np.nan
    table = pa.Table.from_pandas(hours, preserve_index=False, safe=True)
    values = table["consumption_elec_kwh"].to_numpy().copy()
    folder = tmp_path / "raw"
    folder.mkdir()
    whole = table.set_column(2, "consumption_elec_kwh", pa.array(values, from_pandas=False))
    pq.write_table(whole, folder / "consumption_hourly_2024.parquet")
    assert summed(folder) is None
    equal(folder)


def test_the_codes_of_a_stretch_are_the_calendars() -> None:
    calendar_of = ordered._Calendar(WINDOW)
    slots = calendar_of.stretch(0, len(WINDOW))
    whole = calendar.hours(AS_OF).groupby("slot")["code"].sum()
    assert dict(zip(slots.names, slots.code, strict=True)) == whole.to_dict()
