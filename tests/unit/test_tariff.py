"""Tariffs as data: other numbers of periods, calendars, holidays, zones, from tariff.yaml to gold."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from spanishgas.config.reading import read
from spanishgas.config.tariff import Tariff, applied, tariff
from spanishgas.errors import UsageError
from spanishgas.etl.build import ETL, build, etl_inputs
from spanishgas.etl.calendar import Grid, hours, period_numbers
from spanishgas.etl.source import open_source
from spanishgas.etl.template import write_template
from spanishgas.lake import Lake
from spanishgas.settings import PROJECT, settings
from spanishgas.simulate import write_extract
from tests.raw_builder import MONTHS, hour, price, rows, write_raw

SHIPPED = PROJECT / "experiments"
AS_OF = date(2024, 12, 31)
ECONOMY = {
    "name": "night and day",
    "zone": "Europe/London",
    "periods": {"night": "at night", "day": "by day"},
    "calendar": [{"period": "night", "hours": ["0:30-7:30"]}, {"period": "day"}],
}
Uses = Callable[[dict[str, Any] | Path], Path]


@pytest.fixture
def uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uses]:
    """Put a tariff.yaml into a folder of experiments of its own, which is then the settings'."""
    folder = tmp_path / "experiments"
    shutil.copytree(SHIPPED, folder)
    monkeypatch.setenv("SPANISHGAS_EXPERIMENTS", str(folder))

    def put(content: dict[str, Any] | Path) -> Path:
        text = content.read_text() if isinstance(content, Path) else yaml.safe_dump(content, sort_keys=False)
        (folder / "tariff.yaml").write_text(text)
        settings.cache_clear()
        return folder / "tariff.yaml"

    yield put
    monkeypatch.undo()
    settings.cache_clear()


def of_circular_3_2020(at: datetime) -> int:
    """Period of the tariffs of six periods on the mainland, as the tables of article 7 list them, in plain Python."""
    fixed = {(1, 1), (1, 6), (5, 1), (8, 15), (10, 12), (11, 1), (12, 6), (12, 8), (12, 25)}
    if at.weekday() > 4 or (at.month, at.day) in fixed or at.hour < 8:
        return 6
    season = {1: 0, 2: 0, 3: 1, 4: 3, 5: 3, 6: 2, 7: 0, 8: 2, 9: 2, 10: 3, 11: 1, 12: 0}[at.month]
    busy = 9 <= at.hour < 14 or 18 <= at.hour < 22
    return 1 + season + (not busy)


def test_the_shipped_table_of_six_periods_is_that_of_the_circular_for_every_hour_of_a_year() -> None:
    six = read(SHIPPED / "tariffs" / "3.0TD.yaml", Tariff)
    times = pd.date_range("2024-01-01", "2024-12-31 23:00", freq="h")
    assert period_numbers(times, six).tolist() == [of_circular_3_2020(at) for at in times]


def test_a_folder_without_a_tariff_has_the_projects_own(uses: Uses) -> None:
    uses(SHIPPED / "tariff.yaml").unlink()
    assert tariff() == read(SHIPPED / "tariff.yaml", Tariff)


def test_six_periods_flow_from_the_raw_files_to_gold(uses: Uses, tmp_path: Path) -> None:
    uses(SHIPPED / "tariffs" / "3.0TD.yaml")
    prices = {f"variable_price_tier{i}_eur_kwh": 0.30 - 0.03 * i for i in range(1, 7)}
    raw = rows()
    raw["consumption_hourly_2024"] += [
        hour("C1", datetime(2024, month, 17) + timedelta(hours=h), 0.5) for month in (2, 4) for h in range(24)
    ]
    raw["price_history"] = [price(i, month, **prices) for i in ("C1", "C2", "C3") for month in MONTHS]
    folder = write_raw(tmp_path / "raw", **{**raw, "price_history": pd.DataFrame(raw["price_history"])})
    made = build(folder, Lake(tmp_path / "lake"), AS_OF).snapshots["silver_customer_month"].pandas()
    used = pd.DataFrame(raw["consumption_hourly_2024"])
    used["timestamp"] = pd.to_datetime(used["timestamp"])
    used["period"] = used["timestamp"].map(of_circular_3_2020)
    used["worth"] = used["consumption_elec_kwh"] * (0.30 - 0.03 * used["period"])
    for month in MONTHS:
        mine = used[(used["customer_id"] == "C1") & (used["timestamp"].dt.strftime("%Y-%m") == month)]
        row = made[(made["customer_id"] == "C1") & (made["month"] == month)].iloc[0]
        for number in range(1, 7):
            kwh = mine["consumption_elec_kwh"][mine["period"] == number].sum()
            assert row[f"elec_kwh_p{number}"] == pytest.approx(kwh), (month, number)
        assert row["elec_revenue_variable"] == pytest.approx(mine["worth"].sum())
        assert row["monthly_elec_kwh"] == pytest.approx(mine["consumption_elec_kwh"].sum())
    assert not any("tier_1_peak" in column for column in made.columns)


def test_the_simulator_and_the_template_write_a_price_for_each_period(uses: Uses, tmp_path: Path) -> None:
    uses(SHIPPED / "tariffs" / "3.0TD.yaml")
    names = [f"variable_price_tier{i}_eur_kwh" for i in range(1, 7)]
    write_extract(tmp_path / "raw", customers=30, seed=1, as_of=AS_OF, labelled=True)
    drawn = pd.read_csv(tmp_path / "raw" / "price_history.csv")
    assert [c for c in drawn.columns if "tier" in c] == names
    assert drawn[names].replace(0, None).mean().astype(float).is_monotonic_decreasing
    made = build(tmp_path / "raw", Lake(tmp_path / "lake"), AS_OF)
    assert made.snapshots["gold_master"].manifest.rows == 30
    write_template(tmp_path / "empty")
    assert names[5] in (tmp_path / "empty" / "price_history.csv").read_text()
    assert "electricity price in period 6, EUR/kWh" in (tmp_path / "empty" / "README.md").read_text()


def test_a_boundary_between_readings_is_refused_and_finer_readings_fall_on_both_sides(uses: Uses) -> None:
    uses(ECONOMY)
    with pytest.raises(UsageError, match="begin between readings of 60 minutes: give readings of 30 minutes"):
        hours(AS_OF)
    fine = hours(AS_OF, Grid(30)).set_index("hour")["slot"].mod(10)
    at = ["2024-06-03 00:00", "2024-06-03 00:30", "2024-06-03 07:00", "2024-06-03 07:30"]
    assert fine[pd.DatetimeIndex(at)].tolist() == [2, 1, 1, 2]


def test_the_days_that_clocks_change_are_those_of_the_tariffs_zone(uses: Uses) -> None:
    calendar = [{"period": "night", "hours": ["22-6"]}, {"period": "day"}]
    uses(ECONOMY | {"zone": "America/New_York", "calendar": calendar})
    year = hours(AS_OF, Grid(60, "America/New_York"))
    assert year["hour"][year["times"] == 2].astype(str).tolist() == ["2024-11-03 01:00:00"]
    assert pd.Timestamp("2024-03-10 02:00") not in set(year["hour"])
    utc = hours(AS_OF, Grid(60, "UTC")).set_index("hour")["slot"].mod(10)
    assert utc[pd.DatetimeIndex(["2024-01-02 10:00", "2024-01-02 11:00", "2024-07-02 10:00"])].tolist() == [
        1,
        2,
        2,
    ]


@pytest.mark.parametrize(
    ("holidays", "off", "on"),
    [
        ({"country": "ES"}, "2024-03-29", "2024-06-24"),  # Good Friday moves; Saint John is a region's
        ({"country": "ES", "subdivision": "CT"}, "2024-06-24", "2024-06-25"),
        ({"country": "ES", "subdivision": "CT", "fixed": ["06-25"]}, "2024-06-25", "2024-06-26"),
        ({"country": "DE", "subdivision": "BY"}, "2025-06-19", "2025-06-20"),  # Corpus Christi
        ({"fixed": ["12-25"]}, "2025-12-25", "2025-04-18"),
        ({"fixed": ["02-29"]}, "2024-02-29", "2025-02-28"),  # which the other years do not have
    ],
)
def test_holidays_are_of_the_country_the_region_and_the_year(
    holidays: dict[str, Any], off: str, on: str
) -> None:
    calendar = [{"period": "night", "days": ["holiday"]}, {"period": "day"}]
    made = Tariff.model_validate(ECONOMY | {"holidays": holidays, "calendar": calendar})
    assert period_numbers(pd.DatetimeIndex([off, f"{off} 23:30", on]), made).tolist() == [1, 1, 2]


def test_another_tariff_is_another_build(uses: Uses, tmp_path: Path) -> None:
    source = open_source(write_raw(tmp_path / "raw"))
    uses(SHIPPED / "tariff.yaml")
    before = etl_inputs(source, AS_OF, "duckdb")
    text = (SHIPPED / "tariff.yaml").read_text()
    path = uses(SHIPPED / "tariff.yaml")
    path.write_text(text.replace("10-14", "11-14"))
    after = etl_inputs(source, AS_OF, "duckdb")
    assert ETL.key(before) != ETL.key(after)
    with applied(before.tariff):
        assert tariff() is before.tariff
    assert tariff() == after.tariff


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"zone": "Europe/Madird"},
            "zone: must be a time zone, such as Europe/Madrid, but got 'Europe/Madird'",
        ),
        ({"periods": {}}, "periods"),
        ({"periods": {f"p{i}": "at times" for i in range(1, 11)}}, "at most 9"),
        ({"calendar": [{"period": "nigth"}]}, "calendar.0.period: unknown period 'nigth'"),
        ({"calendar": [{"period": "day"}]}, "gives no time to night"),
        (
            {"calendar": [{"period": "night"}, {"period": "day", "hours": ["8-20"]}]},
            "must end with a line that names",
        ),
        (
            {"calendar": [{"period": "night", "hours": ["8-26"]}, {"period": "day"}]},
            "must be a span of the day",
        ),
        (
            {"calendar": [{"period": "night", "hours": ["8-8:75"]}, {"period": "day"}]},
            "must be a span of the day",
        ),
        (
            {"calendar": [{"period": "night", "hours": ["late"]}, {"period": "day"}]},
            "must be a span of the day",
        ),
        (
            {"calendar": [{"period": "night", "days": ["sonday"]}, {"period": "day"}]},
            "Input should be 'monday'",
        ),
        ({"calendar": [{"period": "night", "months": [13]}, {"period": "day"}]}, "less than or equal to 12"),
        ({"holidays": {"country": "XX"}}, "XX"),
        ({"holidays": {"country": "ES", "subdivision": "ZZ"}}, "ZZ"),
        ({"holidays": {"subdivision": "CT"}}, "needs a country"),
        ({"holidays": {"fixed": ["13-01"]}}, "fixed"),
        ({"holidays": {"fixed": ["02-30"]}}, "fixed"),
        ({"hollidays": {}}, "unknown key 'hollidays'"),
    ],
)
def test_what_no_tariff_can_be_is_named_with_its_key(
    uses: Uses, change: dict[str, Any], message: str
) -> None:
    path = uses(ECONOMY | change)
    with pytest.raises(UsageError, match=re.escape(message)) as fault:
        tariff()
    assert str(path) in str(fault.value)
