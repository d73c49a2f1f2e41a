"""The yardstick itself, pinned by cases small enough to compute by hand from the dictionary's sentences."""

import json
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.oracle import gold as oracle
from tests.oracle.dirty import write_dirty_raw
from tests.oracle.gold import CANCELLATION, COMPLAINT, CROSSED, FEATURES, PRICING
from tests.oracle.gold import gold as compute_gold

AS_OF = date(2024, 12, 31)
ID = "C00001"
Row = dict[str, Any]

ATTRIBUTES: Row = {
    "customer_id": ID,
    "contracted_power_kw": 4.6,
    "is_industrial": 0,
    "is_second_residence": 0,
    "province_code": 28,
    "region": "Madrid",
    "is_high_competition_province": 1,
    "is_urban": 1,
    "sales_channel": "comparador",
}
CONTRACT: Row = {
    "customer_id": ID,
    "customer_first_activation_date": "2024-07-04",  # 180 days before as_of
    "contract_start_date": "2024-07-04",
    "last_product_change_date": None,
    "next_renewal_date": "2025-01-30",  # 30 days after as_of
}
PRICE: Row = {
    "customer_id": ID,
    "pricing_date": "2024-01-01",
    "variable_price_tier1_eur_kwh": None,
    "variable_price_tier2_eur_kwh": None,
    "variable_price_tier3_eur_kwh": None,
    "elec_fixed_fee_eur_month": None,
    "elec_fixed_cost_eur_month": None,
    "gas_variable_price_eur_m3": None,
    "gas_fixed_revenue_eur_year": None,
    "gas_fixed_cost_eur_year": None,
}
COST: Row = {
    "province": 28,
    "month": "2024-01",
    "elec_var_cost_eur_kwh": 0.06,
    "gas_var_cost_eur_m3": 0.4,
    "peaje_elec_eur_kwh": 0.04,
}
LABEL: Row = {"customer_id": ID, "churn": 0}


def hour(stamp: str, elec: float = 0.0, gas: float = 0.0, customer: str | None = ID) -> Row:
    """One reading; `stamp` as "MM-DD HH" of 2024, or a whole timestamp."""
    whole = stamp if len(stamp) > 8 else f"2024-{stamp}:00"
    return {
        "customer_id": customer,
        "timestamp": pd.Timestamp(whole),
        "consumption_elec_kwh": float(elec),
        "consumption_gas_m3": float(gas),
    }


def peak(month: int, elec: float = 1.0, gas: float = 0.0, customer: str = ID) -> Row:
    """One reading at 11:00 of the month's first working day from the 9th on: tier 1."""
    day = date(2024, month, 9)
    while day.weekday() >= 5 or (day.month, day.day) in oracle.FIXED_HOLIDAYS:
        day += timedelta(days=1)
    return hour(f"{day:%m-%d} 11", elec, gas, customer)


def price(month: int, customer: str = ID, /, **values: float | None) -> Row:
    return PRICE | {"customer_id": customer, "pricing_date": f"2024-{month:02d}-01"} | values


def tier1(*by_month: float | None, customer: str = ID) -> list[Row]:
    """Tier-1 prices from January on."""
    return [
        price(month, customer, variable_price_tier1_eur_kwh=value)
        for month, value in enumerate(by_month, start=1)
    ]


def contact(day: str, text: str | None, customer: str | None = ID) -> Row:
    return {"customer_id": customer, "date": day, "channel": "call", "interaction_summary": text}


Write = Callable[..., Path]


@pytest.fixture
def raw(tmp_path: Path) -> Write:
    """Writes a raw folder; each file holds the one customer unless rows are given, hours none."""

    def write(
        *,
        attributes: Sequence[Row] = (ATTRIBUTES,),
        contracts: Sequence[Row] = (CONTRACT,),
        labels: Sequence[Row] | None = (LABEL,),
        hours: Sequence[Row] = (),
        prices: Sequence[Row] = (),
        costs: Sequence[Row] = (),
        interactions: Sequence[Row] = (),
    ) -> Path:
        tables: list[tuple[str, Sequence[Row], Row]] = [
            ("customer_attributes", attributes, ATTRIBUTES),
            ("customer_contracts", contracts, CONTRACT),
            ("price_history", prices, PRICE),
            ("costs_by_province_month", costs, COST),
        ]
        if labels is not None:
            tables.append(("churn_label", labels, LABEL))
        for name, rows, example in tables:
            frame = pd.DataFrame(list(rows), columns=list(example), dtype=object)
            frame.to_csv(tmp_path / f"{name}.csv", index=False)
        readings = pd.DataFrame(list(hours), columns=list(hour("01-01 00")))
        readings = readings.astype({"customer_id": "string", "timestamp": "datetime64[us]"})
        readings = readings.astype({"consumption_elec_kwh": float, "consumption_gas_m3": float})
        readings.to_parquet(tmp_path / "consumption_hourly_2024.parquet", index=False)
        (tmp_path / "customer_interactions.json").write_text(json.dumps(list(interactions)), encoding="utf-8")
        return tmp_path

    return write


def one(folder: Path, customer: str = ID, as_of: date = AS_OF) -> Row:
    """The gold row of one customer, nulls as None."""
    table = compute_gold(folder, as_of)
    row = table[table["customer_id"] == customer].to_dict("records")[0]
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def silver(folder: Path, *columns: str, customer: str = ID) -> list[Any]:
    """One list per column of a customer's months in order, nulls as None; of one column the list itself."""
    months = oracle.silver_customer_month(folder, AS_OF)
    mine = months[months["customer_id"] == customer]
    lists = [[None if pd.isna(value) else float(value) for value in mine[name]] for name in columns]
    return lists[0] if len(columns) == 1 else lists


def around(**values: Any) -> dict[str, Any]:
    """Numbers to be met to nine digits, everything else exactly."""
    return {
        key: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        for key, value in values.items()
    }


def expect(row: Row, **values: Any) -> None:
    assert {key: row[key] for key in values} == around(**values)


# ------------------------------------------------------------------------------------------------- grain


@pytest.mark.parametrize(
    ("as_of", "first", "last"),
    [
        (date(2024, 12, 31), "2024-01", "2024-12"),
        (date(2024, 12, 30), "2023-12", "2024-11"),
        (date(2024, 2, 29), "2023-03", "2024-02"),
        (date(2025, 1, 1), "2024-01", "2024-12"),
    ],
)
def test_the_window_is_twelve_whole_months_up_to_as_of(as_of: date, first: str, last: str) -> None:
    assert [str(month) for month in oracle.window(as_of)] == [first, last]


def test_gold_has_the_64_features_by_name_and_six_more_columns(raw: Write) -> None:
    table = compute_gold(raw(), AS_OF)
    assert len(FEATURES) == len(set(FEATURES)) == 64
    assert list(table.columns[:6]) == [
        *("customer_id", "churn", "avg_monthly_margin", "total_margin_2024"),
        *("contracted_power_kw", "is_urban"),
    ]
    assert list(table.columns[6:]) == list(FEATURES)


def test_attributes_or_labels_make_a_customer_and_other_files_do_not(raw: Write) -> None:
    folder = raw(
        attributes=[ATTRIBUTES, ATTRIBUTES | {"customer_id": "C00003"}, ATTRIBUTES | {"customer_id": None}],
        labels=[LABEL, LABEL | {"customer_id": "C00002"}],
        contracts=[CONTRACT, CONTRACT | {"customer_id": "C00004"}],
        hours=[peak(1, customer="C00005"), peak(1)],
        prices=[price(1, "C00006")],
        interactions=[contact("2024-12-01", "Hello", "C00007")],
    )
    table = compute_gold(folder, AS_OF)
    assert table["customer_id"].tolist() == ["C00001", "C00002", "C00003"]
    assert table["churn"].isna().tolist() == [False, False, True]
    assert oracle.silver_customer_month(folder, AS_OF)["customer_id"].unique().tolist() == [ID]


def test_a_customer_of_the_label_file_alone_has_nulls_zero_flags_and_an_unknown_channel(raw: Write) -> None:
    row = one(raw(attributes=[], contracts=[]))
    expect(row, churn=0, contracted_power_kw=None, is_urban=0, segment=None, portfolio_type=None)
    expect(row, months_to_renewal=None, renewal_bucket=None, tenure_months=None, tenure_bucket=None)
    expect(row, sales_channel="Unknown", is_high_competition_province=0, is_second_residence=0)
    expect(row, is_within_3m_of_renewal=0, is_expired_contract=0, is_high_risk_lifecycle=0)
    expect(row, is_competition_x_renewal=0, dual_fuel_x_competition=0, competition_x_intent="0_x_none")
    expect(row, has_interaction_x_renewal_bucket="0_x_none", tenure_x_renewal_bucket="none_x_none")


def test_conflicting_labels_leave_the_customer_unlabelled_and_copies_collapse(raw: Write) -> None:
    assert one(raw(labels=[LABEL, LABEL | {"churn": 1}]))["churn"] is None
    assert one(raw(labels=[LABEL | {"churn": 1}, LABEL | {"churn": 1}]))["churn"] == 1


def test_without_a_label_file_everybody_is_unlabelled(raw: Write) -> None:
    assert one(raw(labels=None))["churn"] is None


def test_of_two_attribute_rows_the_one_that_sorts_first_stands(raw: Write) -> None:
    bigger = ATTRIBUTES | {"contracted_power_kw": 10.35, "is_urban": 0}  # 4.6 < 10.35, as numbers
    assert one(raw(attributes=[bigger, ATTRIBUTES]))["is_urban"] == 1
    without_power = ATTRIBUTES | {"contracted_power_kw": None, "is_urban": 0}  # nulls last
    assert one(raw(attributes=[without_power, ATTRIBUTES]))["contracted_power_kw"] == 4.6
    by_region = ATTRIBUTES | {"region": "Galicia", "is_urban": 0}  # Galicia before Madrid before urban
    assert one(raw(attributes=[ATTRIBUTES, by_region]))["is_urban"] == 0


def test_of_two_contract_rows_the_latest_start_up_to_as_of_stands_then_the_first_in_order(raw: Write) -> None:
    def renewals(*rows: tuple[str, str]) -> float:
        contracts = [
            CONTRACT | {"contract_start_date": start, "next_renewal_date": renewal} for start, renewal in rows
        ]
        return float(one(raw(contracts=contracts))["months_to_renewal"])

    assert renewals(("2024-01-01", "2025-01-30"), ("2024-06-01", "2025-03-01")) == 2.0
    assert renewals(("2024-01-01", "2025-01-30"), ("2025-01-01", "2025-03-01")) == 1.0
    assert renewals(("2024-12-31", "2025-03-01"), ("2024-12-30", "2025-01-30")) == 2.0
    assert renewals(("2024-06-01", "2025-03-01"), ("2024-06-01", "2025-01-30")) == 1.0
    late = [CONTRACT | {"contract_start_date": "2025-06-01"}]
    assert one(raw(contracts=late))["months_to_renewal"] is None


# ------------------------------------------------------------------------------------------------ roll-up


@pytest.mark.parametrize(
    ("stamp", "period"),
    [
        *((f"03-04 {h:02d}", "tier_3_offpeak") for h in range(8)),  # a Monday
        *((f"03-04 {h:02d}", "tier_2_standard") for h in (8, 9, 14, 15, 16, 17, 22, 23)),
        *((f"03-04 {h:02d}", "tier_1_peak") for h in (10, 11, 12, 13, 18, 19, 20, 21)),
        ("03-09 11", "tier_3_offpeak"),  # Saturday
        ("03-10 20", "tier_3_offpeak"),  # Sunday
        ("03-29 11", "tier_1_peak"),  # Good Friday is not of fixed date
        ("05-01 11", "tier_3_offpeak"),
        ("12-25 09", "tier_3_offpeak"),
        ("11-01 18", "tier_3_offpeak"),
        ("12-24 18", "tier_1_peak"),
    ],
)
def test_the_tariff_calendar(stamp: str, period: str) -> None:
    assert oracle.tariff_period(hour(stamp)["timestamp"]) == period


def test_the_roll_up_by_hand(raw: Write) -> None:
    folder = raw(
        hours=[
            hour("03-04 10", 1.0, 0.1),
            hour("03-04 10", 0.5, 0.3),  # the same hour: 1.0 kWh and 0.3 m3
            hour("03-04 11", -2.0, 0.2),  # 0 kWh
            hour("03-04 08", 4.0),
            hour("03-04 08", 4.0),
            hour("03-04 03", 8.0, -0.5),
            hour("03-04 12", 50.0, customer=None),
            hour("03-04 12", 50.0, customer=""),
            hour("2023-12-31 23:00", 100.0, 100.0),
            hour("2025-01-01 00:00", 100.0, 100.0),
        ]
    )
    by_hand = {
        "monthly_elec_kwh": 13.0,
        "elec_kwh_tier_1_peak": 1.0,
        "elec_kwh_tier_2_standard": 4.0,
        "elec_kwh_tier_3_offpeak": 8.0,
        "monthly_gas_m3": 0.5,
        "gas_m3_tier_1_peak": 0.5,
        "gas_m3_tier_2_standard": 0.0,
        "monthly_gas_kwh": 5.5,
        "gas_kwh_tier_1_peak": 5.5,
        "gas_kwh_tier_3_offpeak": 0.0,
    }
    assert silver(folder, *by_hand) == [[pytest.approx(value)] for value in by_hand.values()]
    expect(one(folder), total_elec_kwh_2024=13.0, total_gas_m3_2024=0.5, active_months_count=1)


def test_a_month_of_zeros_is_active_and_one_without_hours_is_not(raw: Write) -> None:
    folder = raw(hours=[peak(1, 6.0), peak(2, 0.0), peak(4, -3.0)])
    expect(one(folder), active_months_count=3, avg_monthly_elec_kwh=2.0, total_elec_kwh_2024=6.0)


def test_a_customer_without_any_month_has_nulls_but_two_zeros_and_single_fuel(raw: Write) -> None:
    row = one(raw(prices=tier1(0.1, 0.2), costs=[COST]))
    nulls = set(oracle.MP_CORE + oracle.MP_RISK) - {"active_months_count", "is_price_increase"}
    assert [name for name in nulls if row[name] is not None] == []
    expect(row, active_months_count=0, is_price_increase=0, avg_monthly_margin=None, total_margin_2024=None)
    expect(row, is_dual_fuel=0, portfolio_type="Residential_SingleFuel")


# ---------------------------------------------------------------------------------------------- lifecycle


@pytest.mark.parametrize(
    ("days", "bucket", "within"),
    [
        (-1, "expired", 0),
        (0, "expired", 1),
        (1, "0-3m", 1),
        (90, "0-3m", 1),
        (91, "3-6m", 0),
        (180, "3-6m", 0),
        (181, "6-12m", 0),
        (360, "6-12m", 0),
        (361, "12m+", 0),
    ],
)
def test_renewal_edges(raw: Write, days: int, bucket: str, within: int) -> None:
    renewal = (AS_OF + timedelta(days=days)).isoformat()
    row = one(raw(contracts=[CONTRACT | {"next_renewal_date": renewal}]))
    expect(row, months_to_renewal=days / 30, renewal_bucket=bucket, is_within_3m_of_renewal=within)
    expect(row, is_expired_contract=int(days <= 0), is_competition_x_renewal=within)


@pytest.mark.parametrize(
    ("days", "bucket"),
    [
        *((0, "0-6m"), (180, "0-6m"), (181, "6-12m"), (360, "6-12m"), (361, "1-2y"), (720, "1-2y")),
        *((721, "2-5y"), (1800, "2-5y"), (1801, "5y+")),
    ],
)
def test_tenure_edges(raw: Write, days: int, bucket: str) -> None:
    start = (AS_OF - timedelta(days=days)).isoformat()
    row = one(raw(contracts=[CONTRACT | {"customer_first_activation_date": start}]))
    expect(row, tenure_months=days / 30, tenure_bucket=bucket)
    expect(row, is_high_risk_lifecycle=int(bucket in ("0-6m", "6-12m")))


def test_dates_after_as_of_are_null(raw: Write) -> None:
    after = {"customer_first_activation_date": "2025-01-01", "last_product_change_date": "2025-01-01"}
    row = one(raw(contracts=[CONTRACT | after]))
    expect(row, tenure_months=None, tenure_bucket=None, months_since_last_change=None)
    expect(row, is_high_risk_lifecycle=0, tenure_x_renewal_bucket="none_x_0-3m")


def test_months_since_last_change(raw: Write) -> None:
    row = one(raw(contracts=[CONTRACT | {"last_product_change_date": "2024-12-16"}]))
    expect(row, months_since_last_change=0.5)
    assert one(raw())["months_since_last_change"] is None


@pytest.mark.parametrize(
    ("industrial", "power", "segment"),
    [
        (0, 4.6, "Residential"),
        (0, 10.35, "Residential"),
        (0, None, "Residential"),
        (1, 9.9, "SME"),
        (1, 10.0, "SME"),
        (1, 10.05, "Corporate"),
        (1, None, None),
    ],
)
def test_segment_and_portfolio(raw: Write, industrial: int, power: float | None, segment: str | None) -> None:
    folder = raw(
        attributes=[ATTRIBUTES | {"is_industrial": industrial, "contracted_power_kw": power}],
        hours=[peak(1, 1.0, 1.0)],
    )
    portfolio = None if segment is None else f"{segment}_DualFuel"
    expect(one(folder), segment=segment, portfolio_type=portfolio, contracted_power_kw=power)


@pytest.mark.parametrize(
    ("value", "channel", "comparison", "own"),
    [
        ("presencial_comercial", "In-Person Commercial", 0, 0),
        ("comparador", "Comparison Website", 1, 0),
        (" Comparador\t", "Comparison Website", 1, 0),
        ("WEB_PROPIA", "Own Website", 0, 1),
        ("oficina", "Office", 0, 0),
        ("telemarketing", "Telemarketing", 0, 0),
        ("desconocido", "Unknown", 0, 0),
        (None, "Unknown", 0, 0),
        ("feria", "Unknown", 0, 0),
    ],
)
def test_sales_channel(raw: Write, value: str | None, channel: str, comparison: int, own: int) -> None:
    row = one(raw(attributes=[ATTRIBUTES | {"sales_channel": value}]))
    expect(row, sales_channel=channel, is_comparison_channel=comparison, is_own_website_channel=own)
    expect(row, is_digital_channel=comparison + own, sales_channel_x_renewal_bucket=f"{channel}_x_0-3m")


@pytest.mark.parametrize(("elec", "gas", "dual"), [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 0), (1, -1, 0)])
def test_dual_fuel_takes_both_commodities_in_any_months(raw: Write, elec: int, gas: int, dual: int) -> None:
    row = one(raw(hours=[peak(1, elec), peak(2, 0, gas)]))
    expect(row, is_dual_fuel=dual, dual_fuel_x_renewal=dual, dual_fuel_x_competition=dual)


# --------------------------------------------------------------------------------------------- the market

FULL_PRICE = {
    "variable_price_tier2_eur_kwh": 0.15,
    "variable_price_tier3_eur_kwh": 0.1,
    "elec_fixed_fee_eur_month": 3.0,
    "elec_fixed_cost_eur_month": 2.0,
    "gas_variable_price_eur_m3": 0.8,
    "gas_fixed_revenue_eur_year": 60.0,
    "gas_fixed_cost_eur_year": 36.0,
}


def test_two_months_of_profit_and_loss_by_hand(raw: Write) -> None:
    folder = raw(
        hours=[
            *(hour("01-08 11", 10.0, 5.0), hour("01-08 08", 20.0), hour("01-08 03", 30.0)),
            hour("02-05 11", 40.0),
        ],
        prices=[
            price(1, variable_price_tier1_eur_kwh=0.2, **FULL_PRICE),
            price(2, variable_price_tier1_eur_kwh=0.25, **FULL_PRICE),
        ],
        costs=[COST, COST | {"month": "2024-02", "elec_var_cost_eur_kwh": 0.08, "gas_var_cost_eur_m3": 0.5}],
    )
    by_hand = {
        "elec_revenue_variable": [8.0, 10.0],  # 10 x 0.2 + 20 x 0.15 + 30 x 0.1; 40 x 0.25
        "elec_revenue_fixed": [3.0, 3.0],
        "elec_cost_variable": [6.0, 4.8],  # 60 x 0.10; 40 x 0.12
        "elec_cost_fixed": [2.0, 2.0],
        "gas_revenue_variable": [4.0, 0.0],
        "gas_revenue_fixed": [5.0, 5.0],
        "gas_cost_variable": [2.0, 0.0],
        "gas_cost_fixed": [3.0, 3.0],
        "elec_margin": [3.0, 6.2],
        "gas_margin": [4.0, 2.0],
        "total_revenue": [20.0, 18.0],
        "total_cost": [13.0, 9.8],
        "total_margin": [7.0, 8.2],
    }
    assert silver(folder, *by_hand) == [pytest.approx(values) for values in by_hand.values()]
    row = one(folder)
    expect(row, avg_monthly_margin=7.6, total_margin_2024=15.2, std_margin=1.2 / sqrt(2))
    expect(row, min_monthly_margin=7.0, max_negative_margin=0, rolling_margin_trend=None)
    expect(row, gas_share_of_revenue=14 / 38, price_update_count=1, is_dual_fuel=1)
    expect(row, avg_monthly_elec_kwh=50.0, total_elec_kwh_2024=100.0, std_monthly_elec_kwh=20 / sqrt(2))
    expect(row, avg_monthly_gas_m3=2.5, total_gas_m3_2024=5.0, std_monthly_gas_m3=5 / sqrt(2))
    expect(row, elec_price_trend_12m=0.25, elec_price_volatility_12m=0.05 / sqrt(2), is_price_increase=1)
    expect(row, province_avg_elec_cost_2024=0.07, province_avg_gas_cost_2024=0.45, gas_price_trend_12m=0.0)
    expect(row, province_elec_cost_trend=1 / 3, elec_price_vs_province_cost_spread=0.18)


def test_an_electricity_only_customer_earns_no_gas_margin_and_has_no_gas_trend(raw: Write) -> None:
    folder = raw(
        hours=[peak(1, 1.0), peak(2, 1.0, -1.0)],
        prices=[price(1, **FULL_PRICE), price(2, **FULL_PRICE | {"gas_variable_price_eur_m3": 0.9})],
    )
    assert silver(folder, "gas_margin") == [0.0, 0.0]
    assert silver(folder, "total_revenue") == [3.0, 3.0]
    expect(one(folder), gas_share_of_revenue=0.0, gas_price_trend_12m=None)


def test_a_gas_only_customer_earns_no_electricity_margin(raw: Write) -> None:
    folder = raw(hours=[peak(1, 0.0, 10.0)], prices=[price(1, **FULL_PRICE)])
    assert silver(folder, "elec_margin") == [0.0]
    assert silver(folder, "total_margin") == [pytest.approx(8.0 + 5.0 - 3.0)]
    expect(one(folder), gas_share_of_revenue=1.0)


def test_a_missing_price_or_cost_counts_as_zero(raw: Write) -> None:
    folder = raw(
        hours=[peak(1, 10.0)],
        prices=[price(1, elec_fixed_fee_eur_month=3.0)],
        costs=[COST | {"elec_var_cost_eur_kwh": None}],
    )
    assert silver(folder, "total_margin") == [pytest.approx(3.0 - 0.4)]
    row = one(folder)
    expect(row, province_avg_elec_cost_2024=None, province_elec_cost_trend=None)
    expect(row, elec_price_vs_province_cost_spread=None, elec_price_trend_12m=None, is_price_increase=0)


def test_no_revenue_is_no_gas_share(raw: Write) -> None:
    expect(one(raw(hours=[peak(1, 1.0, 1.0)])), gas_share_of_revenue=0.0)


def test_one_month_has_no_sample_deviation(raw: Write) -> None:
    row = one(raw(hours=[peak(5)], prices=tier1(*[0.1] * 6)))
    expect(row, std_monthly_elec_kwh=None, std_monthly_gas_m3=None, std_margin=None)
    expect(row, elec_price_volatility_12m=None, elec_price_trend_12m=None, active_months_count=1)


def test_margin_extremes_and_the_rolling_trend(raw: Write) -> None:
    def months(*fees: float) -> Path:
        """Margins are fee - 5: nothing else has a price."""
        values = [
            price(month, elec_fixed_fee_eur_month=fee, elec_fixed_cost_eur_month=5.0)
            for month, fee in enumerate(fees, start=1)
        ]
        return raw(hours=[peak(month) for month in range(1, len(fees) + 1)], prices=values)

    row = one(months(1, 9, 2, 7, 8, 9))  # -4, 4, -3, 2, 3, 4
    expect(row, min_monthly_margin=-4.0, max_negative_margin=2, rolling_margin_trend=3.0 - (-1.0))
    assert one(months(1, 9, 2, 7, 8))["rolling_margin_trend"] is None
    expect(
        one(months(5, 1, 9, 2, 7, 8, 9)), rolling_margin_trend=4.0, max_negative_margin=2
    )  # 0 is not below 0


@pytest.mark.parametrize(
    ("prices", "updates", "trend"),
    [
        ((0.2, 0.2005, 0.201), 0, 0.005),
        ((0.2, 0.202, 0.19), 2, -0.05),
        ((0.2, None, 0.3), 0, 0.5),
        ((0.0, 0.2, 0.3), 1, 0.5),
        ((0.2, 0.3, 0.0), 1, 0.5),
        ((0.2, 0.0, 0.0), 0, None),
        ((None, None, None), 0, None),
    ],
)
def test_raw_tier_1_prices(
    raw: Write, prices: tuple[float | None, ...], updates: int, trend: float | None
) -> None:
    row = one(raw(hours=[peak(1), peak(2), peak(3)], prices=tier1(*prices)))
    expect(row, price_update_count=updates, elec_price_trend_12m=trend)
    expect(row, is_price_increase=int(trend is not None and trend > 0))


def test_the_previous_row_of_the_backbone_may_lie_two_months_back(raw: Write) -> None:
    row = one(raw(hours=[peak(1), peak(3)], prices=tier1(0.2, 0.9, 0.3, 0.8)))
    expect(row, price_update_count=1, elec_price_trend_12m=0.5, elec_price_volatility_12m=0.1 / sqrt(2))


def test_the_spread_takes_the_last_price_that_exists(raw: Write) -> None:
    folder = raw(hours=[peak(1), peak(2)], prices=tier1(0.2, 0.0), costs=[COST, COST | {"month": "2024-02"}])
    expect(one(folder), elec_price_vs_province_cost_spread=0.2 - 0.06, province_elec_cost_trend=0.0)


def test_province_costs_are_those_of_the_customers_months(raw: Write) -> None:
    costs = [
        COST | {"month": f"2024-{month:02d}", "elec_var_cost_eur_kwh": month / 100} for month in range(1, 13)
    ]
    row = one(raw(hours=[peak(2), peak(6)], costs=costs))
    expect(row, province_avg_elec_cost_2024=0.04, province_elec_cost_trend=2.0)


# --------------------------------------------------------------------------------------------- imputation

TIER1 = "variable_price_tier1_eur_kwh"


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ((0.1, None, 0.3), [0.1, 0.1, 0.3]),
        ((0.0, 0.2, 0.0), [0.2, 0.2, 0.2]),
        ((None, None, 0.3), [0.3, 0.3, 0.3]),
        ((None, None, None), [None, None, None]),
    ],
)
def test_a_price_is_filled_by_the_previous_then_the_next(
    raw: Write, given: tuple[float | None, ...], filled: list[float | None]
) -> None:
    folder = raw(hours=[peak(1), peak(2), peak(3)], prices=tier1(*given))
    assert silver(folder, TIER1) == filled


def test_prices_of_months_without_hours_or_outside_the_window_play_no_part(raw: Write) -> None:
    before = price(1, **{TIER1: 0.7}) | {"pricing_date": "2023-12-01"}
    folder = raw(hours=[peak(1), peak(3)], prices=[before, *tier1(None, 0.9, 0.3)])
    assert silver(folder, TIER1) == [0.3, 0.3]


def test_a_month_without_matching_electricity_is_not_filled_but_may_give_its_price(raw: Write) -> None:
    folder = raw(
        hours=[hour("01-08 03", 1.0), peak(2), hour("03-04 03", 1.0)],
        prices=[price(1, **{TIER1: 0.1}), price(2), price(3)],
    )
    assert silver(folder, TIER1) == [0.1, 0.1, None]


def test_the_fixed_fee_is_filled_only_where_the_month_has_electricity(raw: Write) -> None:
    folder = raw(hours=[peak(1), peak(2, 0.0, 1.0), peak(3)], prices=[price(1, elec_fixed_fee_eur_month=3.0)])
    assert silver(folder, "elec_fixed_fee_eur_month") == [3.0, None, 3.0]
    assert silver(folder, "elec_revenue_fixed") == [3.0, 0.0, 3.0]


def test_gas_prices_are_filled_in_every_month_of_a_gas_customer(raw: Write) -> None:
    folder = raw(
        hours=[peak(1), peak(2, 1.0, 1.0)],
        prices=[price(2, gas_variable_price_eur_m3=0.8, gas_fixed_revenue_eur_year=60.0)],
    )
    assert silver(folder, "gas_variable_price_eur_m3") == [0.8, 0.8]
    assert silver(folder, "gas_revenue_fixed") == [5.0, 5.0]


def test_medians_fill_last_by_industrial_and_month_then_by_month(raw: Write) -> None:
    """Residential 0.1, 0.3, 0.5 and two without; industrial 0.9; one of unknown kind."""
    kinds = {"C00001": 0, "C00002": 0, "C00003": 0, "C00004": 0, "C00005": 0, "C00006": 1, "C00007": None}
    given = {"C00001": 0.1, "C00002": 0.2, "C00003": 0.6, "C00006": 0.9}
    folder = raw(
        attributes=[
            ATTRIBUTES | {"customer_id": name, "is_industrial": kind}
            for name, kind in kinds.items()
            if kind is not None
        ],
        labels=[LABEL | {"customer_id": "C00007"}],
        hours=[peak(1, customer=name) for name in kinds],
        prices=[price(1, name, **{TIER1: value}) for name, value in given.items()],
    )
    assert silver(folder, TIER1, customer="C00004") == silver(folder, TIER1, customer="C00005") == [0.2]
    # 0.1 0.2 0.2 0.2 0.6 0.9: with the two filled rows the median of the month is 0.2, without them 0.4
    assert silver(folder, TIER1, customer="C00007") == [pytest.approx(0.2)]


def test_a_median_is_taken_over_covered_rows_only(raw: Write) -> None:
    names = ("C00001", "C00002", "C00003")
    folder = raw(
        attributes=[ATTRIBUTES | {"customer_id": name} for name in names],
        hours=[
            peak(1, customer="C00001"),
            peak(1, customer="C00002"),
            hour("01-08 03", 1.0, customer="C00003"),
        ],
        prices=[price(1, "C00002", **{TIER1: 0.2}), price(1, "C00003", **{TIER1: 0.8})],
    )
    assert silver(folder, TIER1, customer="C00001") == [0.2]


def test_an_electricity_only_customer_is_not_given_a_gas_price(raw: Write) -> None:
    other = "C00002"
    folder = raw(
        attributes=[ATTRIBUTES, ATTRIBUTES | {"customer_id": other}],
        hours=[peak(1), peak(1, 1.0, 1.0, other)],
        prices=[price(1, other, **FULL_PRICE)],
    )
    assert silver(folder, "gas_fixed_revenue_eur_year") == [None]
    assert silver(folder, "gas_margin") == [0.0]


# ---------------------------------------------------------------------------------------------- behaviour


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("   ", None),
        ("Said hello.", "Other / Unclassified"),
        ("Customer wants to CANCEL", CANCELLATION),
        ("Early termination, unhappy", CANCELLATION),
        ("Cancelling soon", CANCELLATION),
        ("switchboard cancelable leaves", "Other / Unclassified"),
        ("Asked about account closure", CANCELLATION),
        ("Renewal terms, unhappy", COMPLAINT),
        ("Renewal terms, disappointed", COMPLAINT),
        ("not satisfied with the bill", COMPLAINT),
        ("Not unhappy about the bill", "Billing / Payment"),
        ("no complaint", "Other / Unclassified"),
        ("past due amount", "Billing / Payment"),
        ("Renewal and price", "Contract Renewal"),
        ("no significant price increases", "Other / Unclassified"),
        ("no price hike", "Other / Unclassified"),
        ("never a really good price", PRICING),
        ("never a good price", "Other / Unclassified"),
        ("No, the price is fine", PRICING),
        ("no trouble. Price asked", PRICING),
        ("without price, but price again and again", PRICING),
        ("looking around", PRICING),
        ("better offer elsewhere", PRICING),
        ("offer better", "Other / Unclassified"),
        ("plan options", "Plan / Product Inquiry"),
        ("account   details", "Account / Service Inquiry"),
        ("no issues found", "Account / Service Inquiry"),
        ("not all good", "Other / Unclassified"),
        ("general follow-up", "General / Operational Contact"),
        ("can't see the price", PRICING),
    ],
)
def test_intent(text: str | None, expected: str | None) -> None:
    assert oracle.intent(text) == expected


@pytest.mark.parametrize(
    ("compound", "label"),
    [(0.4, "positive"), (0.3999, "neutral"), (0.0, "neutral"), (-0.1999, "neutral"), (-0.2, "negative")],
)
def test_sentiment_edges(monkeypatch: pytest.MonkeyPatch, compound: float, label: str) -> None:
    monkeypatch.setattr(oracle._vader, "polarity_scores", lambda _: {"compound": compound})
    assert oracle.sentiment("any words") == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("unhappy", "negative"),  # -1.8 / sqrt(1.8^2 + 15) = -0.42
        ("okay", "neutral"),  # 0.9 / sqrt(0.9^2 + 15) = 0.23
        ("happy", "positive"),  # 2.7 / sqrt(2.7^2 + 15) = 0.57
        (" ", None),
        (None, None),
    ],
)
def test_sentiment_of_words(text: str | None, label: str | None) -> None:
    assert oracle.sentiment(text) == label


def test_the_latest_interaction_up_to_as_of_stands_and_on_a_tie_the_last_text(raw: Write) -> None:
    def subject(*contacts: Row) -> str | None:
        return one(raw(interactions=contacts))["customer_intent"]  # type: ignore[no-any-return]

    later, earlier = contact("2024-12-31", "Plan asked"), contact("2024-12-30", "Wants to cancel")
    assert subject(earlier, later) == "Plan / Product Inquiry"
    assert subject(later, contact("2025-01-01", "Wants to cancel")) == "Plan / Product Inquiry"
    assert subject(later, contact("2024-12-31", "Bill asked")) == "Plan / Product Inquiry"
    assert subject(later, contact("2024-12-31", "bill asked")) == "Billing / Payment"  # b after P
    assert subject(contact("2024-12-31", None), later) == "Plan / Product Inquiry"
    assert subject(earlier, contact("2024-12-31", None)) is None


def test_without_interaction_flags_are_zero_and_the_rest_null(raw: Write) -> None:
    row = one(raw(interactions=[contact("2025-01-01", "Wants to cancel"), contact("2024-12-01", "x", None)]))
    expect(row, has_interaction=0, customer_intent=None, sentiment_label=None, last_interaction_days_ago=None)
    expect(row, is_cancellation_intent=0, is_complaint_intent=0, recent_complaint_flag=0)
    expect(row, intent_severity_score=0, is_negative_sentiment=0, complaint_x_negative_sentiment=0)
    expect(row, interaction_within_3m_of_renewal=0, is_interaction_within_30d_of_renewal=0)
    expect(row, complaint_near_renewal=0, is_price_sensitive=0, dual_fuel_x_intent=0)


def test_an_interaction_without_text_is_an_interaction(raw: Write) -> None:
    row = one(raw(interactions=[contact("2024-12-01", None)]))
    expect(row, has_interaction=1, last_interaction_days_ago=30, customer_intent=None, sentiment_label=None)
    expect(row, interaction_within_3m_of_renewal=1, has_interaction_x_renewal_bucket="1_x_0-3m")
    expect(row, intent_x_sentiment="none_x_none", competition_x_intent="1_x_none")


def test_an_angry_dual_fuel_customer_near_renewal_by_hand(raw: Write) -> None:
    row = one(raw(hours=[peak(1, 1.0, 1.0)], interactions=[contact("2024-12-31", "Cust unhappy")]))
    expect(row, customer_intent=COMPLAINT, is_complaint_intent=1, is_cancellation_intent=0)
    expect(row, recent_complaint_flag=1, intent_severity_score=2, sentiment_label="negative")
    expect(row, is_negative_sentiment=1, complaint_x_negative_sentiment=1, last_interaction_days_ago=0)
    expect(row, interaction_within_3m_of_renewal=1, is_interaction_within_30d_of_renewal=1)
    expect(row, complaint_near_renewal=1, dual_fuel_x_intent=1, dual_fuel_x_renewal=1)
    expect(row, dual_fuel_x_competition=1, is_competition_x_renewal=1, is_high_risk_lifecycle=1)
    expect(row, intent_x_renewal_bucket="Complaint / Escalation_x_0-3m")
    expect(row, intent_x_tenure_bucket="Complaint / Escalation_x_0-6m")
    expect(row, intent_x_sentiment="Complaint / Escalation_x_negative")
    expect(row, sentiment_x_renewal_bucket="negative_x_0-3m", tenure_x_renewal_bucket="0-6m_x_0-3m")
    expect(row, sales_channel_x_renewal_bucket="Comparison Website_x_0-3m")
    expect(
        row, has_interaction_x_renewal_bucket="1_x_0-3m", competition_x_intent="1_x_Complaint / Escalation"
    )


@pytest.mark.parametrize(("text", "score"), [("cancel", 3), ("upset", 2), ("price", 1), ("bill", 0)])
def test_intent_severity(raw: Write, text: str, score: int) -> None:
    row = one(raw(interactions=[contact("2024-12-01", text)]))
    expect(row, intent_severity_score=score, is_price_sensitive=int(score == 1))
    expect(row, recent_complaint_flag=int(score >= 2), is_cancellation_intent=int(score == 3))


@pytest.mark.parametrize(
    ("day", "renewal", "within_3m", "within_30d"),
    [
        ("2024-12-31", "2025-01-30", 1, 1),
        ("2024-12-30", "2025-01-30", 1, 0),
        ("2024-11-01", "2025-01-30", 1, 0),
        ("2024-10-31", "2025-01-30", 0, 0),
        ("2024-12-10", "2024-12-10", 1, 1),
        ("2024-12-10", "2024-12-09", 0, 0),
    ],
)
def test_interaction_before_renewal(
    raw: Write, day: str, renewal: str, within_3m: int, within_30d: int
) -> None:
    row = one(
        raw(contracts=[CONTRACT | {"next_renewal_date": renewal}], interactions=[contact(day, "unhappy")])
    )
    expect(row, interaction_within_3m_of_renewal=within_3m, complaint_near_renewal=within_3m)
    expect(row, is_interaction_within_30d_of_renewal=within_30d)


def test_no_contract_row_leaves_null_buckets_and_zero_flags(raw: Write) -> None:
    row = one(raw(contracts=[], interactions=[contact("2024-12-31", "unhappy")]))
    expect(row, renewal_bucket=None, tenure_bucket=None, is_within_3m_of_renewal=0, is_expired_contract=0)
    expect(row, complaint_near_renewal=0, is_high_risk_lifecycle=0, is_competition_x_renewal=0)
    expect(row, sentiment_x_renewal_bucket="negative_x_none", intent_x_tenure_bucket=f"{COMPLAINT}_x_none")


def test_as_of_moves_every_date(raw: Write) -> None:
    folder = raw(
        hours=[peak(11, 2.0), peak(12, 4.0)],
        interactions=[contact("2024-11-20", "plan"), contact("2024-12-20", "cancel")],
    )
    row = one(folder, as_of=date(2024, 11, 30))
    expect(row, active_months_count=1, total_elec_kwh_2024=2.0, months_to_renewal=61 / 30)
    expect(
        row, tenure_months=149 / 30, customer_intent="Plan / Product Inquiry", last_interaction_days_ago=10
    )


# ------------------------------------------------------------------------------------------ the dirty folder


def test_a_dirty_folder_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_dirty_raw(tmp_path / name, customers=20, seed=7)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_dirty_folder_holds_what_the_dictionary_speaks_of(tmp_path: Path) -> None:
    write_dirty_raw(tmp_path, customers=60, seed=3)
    hours = pd.read_parquet(tmp_path / "consumption_hourly_2024.parquet")
    pair = ["customer_id", "timestamp"]
    assert hours["customer_id"].isna().any()
    assert (hours["customer_id"] == "").any()
    assert (hours["consumption_elec_kwh"] < 0).any()
    assert (hours["consumption_gas_m3"] < 0).any()
    assert hours.duplicated().any()
    assert hours.drop_duplicates().duplicated(pair).any()
    assert hours["timestamp"].min() < pd.Timestamp(2024, 1, 1)
    assert hours["timestamp"].max() >= pd.Timestamp(2025, 1, 1)
    for name in ("churn_label", "customer_attributes", "customer_contracts"):
        rows = pd.read_csv(tmp_path / f"{name}.csv")
        assert rows.duplicated().any()
        assert rows.drop_duplicates().duplicated("customer_id").any()
    table = compute_gold(tmp_path, AS_OF).set_index("customer_id")
    assert len(table) == 60
    assert not table.index.str.startswith("C9").any()
    assert set(table["renewal_bucket"].dropna()) == {"expired", "0-3m", "3-6m", "6-12m", "12m+"}
    assert set(table["tenure_bucket"].dropna()) == {"0-6m", "6-12m", "1-2y", "2-5y", "5y+"}
    assert set(table["segment"].dropna()) == {"Residential", "SME", "Corporate"}
    families = {name for name, _ in oracle.INTENTS} | {oracle.NO_INTENT}
    assert set(table["customer_intent"].dropna()) == families
    assert set(table["sentiment_label"].dropna()) == {"positive", "neutral", "negative"}
    months = oracle.silver_customer_month(tmp_path, AS_OF)
    for used in ("uses_elec", "uses_gas"):
        assert set(months[used]) == {True, False}
    assert {0, 1, 12} <= set(table["active_months_count"])
    flags = [name for name in FEATURES if set(table[name].dropna()) <= {0, 1}]
    assert [name for name in flags if table[name].nunique() < 2] == []


def test_the_order_of_rows_in_a_file_decides_nothing(tmp_path: Path) -> None:
    write_dirty_raw(tmp_path, customers=60, seed=5)
    before = compute_gold(tmp_path, AS_OF)
    for path in tmp_path.glob("*.csv"):
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([header, *reversed(lines)]) + "\n", encoding="utf-8")
    path = tmp_path / "customer_interactions.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))[::-1]), encoding="utf-8")
    path = tmp_path / "consumption_hourly_2024.parquet"
    pd.read_parquet(path).iloc[::-1].to_parquet(path, index=False)
    pd.testing.assert_frame_equal(before, compute_gold(tmp_path, AS_OF), rtol=1e-12)


def test_a_dirty_folder_of_any_size_and_date_goes_through(tmp_path: Path) -> None:
    for customers, as_of in ((1, AS_OF), (25, date(2025, 3, 15)), (25, date(2024, 6, 30))):
        folder = tmp_path / f"{customers}-{as_of}"
        write_dirty_raw(folder, customers=customers, seed=11, as_of=as_of)
        table = compute_gold(folder, as_of)
        assert len(table) == customers
        assert np.isfinite(table["total_margin_2024"].dropna()).all()
    with pytest.raises(ValueError, match="got 0"):
        write_dirty_raw(tmp_path, customers=0, seed=1)


def test_every_crossed_string_joins_two_gold_columns(tmp_path: Path) -> None:
    write_dirty_raw(tmp_path, customers=30, seed=2)
    table = compute_gold(tmp_path, AS_OF)
    for name, (first, second) in CROSSED.items():
        parts = [table[part].astype("string").fillna("none") for part in (first, second)]
        assert (table[name] == parts[0] + "_x_" + parts[1]).all()
