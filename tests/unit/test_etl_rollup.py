"""The roll-up: exact for any order of rows, clean hours are read once, copies are found all the same."""

from __future__ import annotations

import itertools
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spanishgas.config.tariff import tariff
from spanishgas.etl import calendar, rollup
from spanishgas.etl.engine import duckdb
from spanishgas.etl.hours import open_hours
from spanishgas.etl.source import open_source

AS_OF = date(2024, 12, 31)
WINDOW = calendar.hours(AS_OF)


def year(customer_id: str, seed: int) -> pd.DataFrame:
    """Every hour of 2024 with readings of many digits."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "customer_id": customer_id,
            "timestamp": WINDOW["hour"],
            "consumption_elec_kwh": rng.lognormal(0, 2, len(WINDOW)),
            "consumption_gas_m3": rng.lognormal(-4, 2, len(WINDOW)),
        }
    )


def months(folder: Path, hours: pd.DataFrame, seen: list[str] | None = None) -> pd.DataFrame:
    """Customer-months of these hours; `seen` notes the tables that the passes made."""
    folder.mkdir(parents=True, exist_ok=True)
    hours.to_parquet(folder / "consumption_hourly_2024.parquet", index=False, row_group_size=5000)
    with duckdb() as engine:
        rolled = rollup.roll_up(open_hours(open_source(folder), engine), AS_OF, engine)
        if seen is not None:
            seen += engine.con.list_tables(database=("temp", "main"))
        frame: pd.DataFrame = engine.fetch(rollup.customer_months(rolled.slots, AS_OF)).to_pandas()
    return frame.sort_values(["customer_id", "month"], ignore_index=True)


def test_sums_agree_with_pandas_by_month_and_period(tmp_path: Path) -> None:
    hours = year("C1", 1)
    ours = months(tmp_path, hours)
    stamped = hours.assign(
        month=hours["timestamp"].dt.strftime("%Y-%m"),
        period=calendar.period_numbers(pd.DatetimeIndex(hours["timestamp"]), tariff()),
    )
    totals = stamped.groupby("month")[["consumption_elec_kwh", "consumption_gas_m3"]].sum()
    np.testing.assert_allclose(ours["monthly_elec_kwh"], totals["consumption_elec_kwh"], rtol=1e-12)
    np.testing.assert_allclose(ours["monthly_gas_m3"], totals["consumption_gas_m3"], rtol=1e-10)
    peak = stamped[stamped["period"] == 1].groupby("month")["consumption_elec_kwh"].sum()
    np.testing.assert_allclose(ours["elec_kwh_tier_1_peak"], peak, rtol=1e-12)
    np.testing.assert_allclose(ours["gas_kwh_tier_3_offpeak"], 11 * ours["gas_m3_tier_3_offpeak"], rtol=1e-15)


def test_any_order_of_rows_gives_the_same_bits(tmp_path: Path) -> None:
    hours = pd.concat([year("C1", 1), year("C2", 2)], ignore_index=True)
    plain = months(tmp_path / "plain", hours)
    for seed in (1, 2):
        shuffled = months(tmp_path / f"{seed}", hours.sample(frac=1, random_state=seed))
        pd.testing.assert_frame_equal(shuffled, plain, check_exact=True)


def test_clean_hours_are_read_once_and_a_doubtful_customer_alone_is_read_again(tmp_path: Path) -> None:
    clean, seen = pd.concat([year("C1", 1), year("C2", 2)], ignore_index=True), []
    plain = months(tmp_path / "clean", clean, seen)
    assert "slots_second" not in seen
    copied = pd.concat([clean, clean.iloc[[10, 9000]].assign(consumption_elec_kwh=-1.0)], ignore_index=True)
    pd.testing.assert_frame_equal(months(tmp_path / "copied", copied, seen), plain, check_exact=True)
    assert "slots_second" in seen


def test_a_copy_that_hides_behind_a_missing_hour_is_found(tmp_path: Path) -> None:
    hours = year("C1", 1)
    hidden = hours.drop(index=33).reset_index(drop=True)
    hidden = pd.concat([hidden, hours.iloc[[34]].assign(consumption_gas_m3=0.0)], ignore_index=True)
    once = months(tmp_path / "once", hours.drop(index=33))
    pd.testing.assert_frame_equal(months(tmp_path / "hidden", hidden), once, check_exact=True)


def test_no_two_small_exchanges_of_hours_have_the_same_code() -> None:
    codes = calendar.codes(200)
    pairs = [a + b for a, b in itertools.combinations_with_replacement(codes.tolist(), 2)]
    assert len(set(pairs)) == len(pairs)
    assert codes.max() < 2**40


@pytest.mark.parametrize(
    ("readings", "total"),
    [
        ([1.0, 2.0], 3.0),
        ([-1.0, 2.0], 2.0),
        ([None, 2.0], 2.0),
        ([None, None], 0.0),
        ([-1e300, 2.0], 2.0),
        ([0.1, 0.2], 0.3),
    ],
)
def test_readings_below_zero_and_missing_ones_add_nothing(
    tmp_path: Path, readings: list[Any], total: float
) -> None:
    hours = year("C1", 1).iloc[:2].assign(consumption_elec_kwh=pd.array(readings, dtype="Float64"))
    assert months(tmp_path, hours)["monthly_elec_kwh"].tolist() == [total]


def test_a_reading_between_two_hours_counts_for_the_hour_before_it(tmp_path: Path) -> None:
    hours = year("C1", 1)
    late = hours.iloc[[100]].assign(
        timestamp=hours["timestamp"][100] + pd.Timedelta(minutes=30), consumption_elec_kwh=1e6
    )
    plain, ours = (
        months(tmp_path / "a", hours),
        months(tmp_path / "b", pd.concat([hours, late], ignore_index=True)),
    )
    extra = ours["monthly_elec_kwh"] - plain["monthly_elec_kwh"]
    assert extra[0] == pytest.approx(1e6 - hours["consumption_elec_kwh"][100])
    assert (extra[1:] == 0).all()


@pytest.mark.parametrize("reading", [np.inf, -np.inf, np.nan, 2**63 / 1e12])
def test_a_reading_that_is_no_amount_leaves_its_hour_out_and_every_other_hour_as_it_was(
    tmp_path: Path, reading: float
) -> None:
    """pandas writes NaN as no value, so the file is written by Arrow."""
    hours = pd.concat([year("C1", 1), year("C2", 2)], ignore_index=True)
    without = months(tmp_path / "without", hours.drop(index=[5, 9000]))
    spoilt = pa.Table.from_pandas(hours, preserve_index=False)
    elec = spoilt["consumption_elec_kwh"].to_numpy().copy()
    elec[[5, 9000]] = reading
    spoilt = spoilt.set_column(2, "consumption_elec_kwh", pa.array(elec))
    (tmp_path / "spoilt").mkdir()
    pq.write_table(spoilt, tmp_path / "spoilt" / "consumption_hourly_2024.parquet")
    with duckdb() as engine:
        rolled = rollup.roll_up(open_hours(open_source(tmp_path / "spoilt"), engine), AS_OF, engine)
        counts = engine.fetch(rolled.counts).to_pandas()
        ours = engine.fetch(rollup.customer_months(rolled.slots, AS_OF)).to_pandas()
    ours = ours.sort_values(["customer_id", "month"], ignore_index=True)
    pd.testing.assert_frame_equal(ours, without, check_exact=True)
    assert counts["bad_elec"].sum() == 2
    assert counts["rows_in"].sum() == len(hours)
    assert counts["kept"].sum() == len(hours) - 2
