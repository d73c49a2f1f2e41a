"""The dictionary's rules from raw files to gold: keys, duplicates, as-of, roll-up, prices, profit and loss.

One build holds a customer per rule, named after it; what needs a file or date of its own builds again.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spanishgas.config.tariff import tariff
from spanishgas.contracts import contract
from spanishgas.contracts.tables import RAW
from spanishgas.etl import calendar
from spanishgas.etl.build import build
from spanishgas.lake import Lake
from tests.raw_builder import (
    MONTHS,
    Built,
    assert_accounted,
    attributes,
    build_raw,
    contact,
    cost,
    hour,
    hours_of,
    label,
    price,
    rows,
    write_raw,
)
from tests.raw_builder import (
    contract as contracted,
)

MARKET = [
    *(f for f in contract("gold_master").fields if f.startswith(("avg_", "total_", "std_", "province_")))
]


def tier1(customer: str, *prices: float | None) -> list[dict[str, Any]]:
    """Price rows from January on, with these tier-1 prices."""
    return [price(customer, m, variable_price_tier1_eur_kwh=p) for m, p in zip(MONTHS, prices, strict=False)]


def scenario() -> dict[str, list[dict[str, Any]]]:
    raw = rows()
    raw["churn_label"] += [
        *[label("label_copies", 1)] * 3,
        *[label("label_conflict", 0), label("label_conflict", 1)],
        *[label("label_only", 1), label("label_null", None), label(None, 1), label("  ", 0)],
    ]
    raw["customer_attributes"] += [
        *[
            attributes(name)
            for name in ("label_copies", "label_conflict", "unlabelled", "no_contract", "contract_conflict")
        ],
        *[attributes("attribute_copies")] * 2,
        *[
            attributes("attribute_conflict", contracted_power_kw=p, region=r)
            for p, r in ((9.2, "A"), (10.0, "A"))
        ],
        *[
            attributes("no_power", is_industrial=1, contracted_power_kw=None),
            attributes("small_industry", is_industrial=1),
        ],
        *[
            attributes("odd_channel", sales_channel="  Paloma "),
            attributes("case_channel", sales_channel=" COMPARADOR"),
        ],
        *[
            attributes("dates"),
            attributes("talks"),
            attributes("ties"),
            attributes("silent"),
            attributes("gap"),
            attributes("hours"),
        ],
        *[
            attributes("short"),
            attributes("fill", is_industrial=0),
            attributes("lone", province_code=99),
            attributes(None),
        ],
    ]
    raw["customer_contracts"] += [
        contracted("contract_conflict", contract_start_date="2025-01-01", next_renewal_date="2030-01-01"),
        contracted("contract_conflict", contract_start_date="2024-02-01", next_renewal_date="2025-02-01"),
        contracted("contract_conflict", contract_start_date="2024-05-01", next_renewal_date="2025-09-01"),
        contracted("contract_conflict", contract_start_date="2024-05-01", next_renewal_date="2025-08-01"),
        contracted(
            "dates",
            customer_first_activation_date="2025-01-01",
            last_product_change_date="2025-02-01",
            next_renewal_date="soon",
        ),
        contracted("orphan"),
    ]
    raw["customer_interactions"] += [
        *[
            contact("talks", "2024-03-01", "unhappy"),
            contact("talks", "2024-10-01", "better deal"),
            contact("talks", "2025-01-01", "cancel"),
        ],
        *[
            contact("ties", "2024-12-31", "aaa unhappy"),
            contact("ties", "2024-12-31", "zzz rates"),
            contact("ties", "2024-12-31", None),
        ],
        *[
            contact("silent", "2024-12-01", "   "),
            contact("orphan", "2024-12-01"),
            contact(None),
            contact("C2", None),
        ],
    ]
    raw["consumption_hourly_2024"] += [
        *[
            hour("hours", "2024-05-07 10:00", 2.0, 0.5),
            hour("hours", "2024-05-07 10:00", 1.0, 0.7),
            hour("hours", "2024-05-07 10:00", -9.0, 0.1),
        ],
        *[hour("hours", "2024-05-07 11:00", -3.0, 1.0), hour("hours", "2024-05-07 12:30", 4.0, None)],
        *[
            hour("hours", "2023-12-31 23:00", 50.0),
            hour("hours", "2025-01-01 00:00", 70.0),
            hour("hours", None, 9.0),
        ],
        *[
            hour(None, "2024-05-07 10:00", 1.0),
            hour("", "2024-05-07 10:00", 1.0),
            hour("orphan", "2024-05-07 10:00", 1.0),
        ],
        *hours_of("gap", ("2024-01", "2024-02", "2024-05")),
        *hours_of("short", MONTHS[:5]),
        *hours_of("fill"),
        *hours_of("lone", MONTHS[:1]),
    ]
    raw["price_history"] += [
        *[
            price("gap", m, variable_price_tier1_eur_kwh=p)
            for m, p in zip(MONTHS[:5], (0.1, 0.2, 9.0, 9.0, 0.2005), strict=True)
        ],
        *[
            price("fill", m, variable_price_tier1_eur_kwh=p)
            for m, p in zip(MONTHS[:6], (0, None, 0.3, 0, 0, 0.5), strict=True)
        ],
        *[
            price(None),
            price("orphan"),
            price("C1", "2023-12"),
            price("short", "2024-06"),
            price("C1", "2024-01"),
        ],
        *[
            price("short", "2024-01-20", gas_fixed_cost_eur_year=1.0),
            price("short", "2024-01-05", gas_fixed_cost_eur_year=2.0),
        ],
    ]
    raw["costs_by_province_month"] += [
        cost(28, "2024-01"),
        cost(None, "2024-01"),
        cost(28, "2023-12"),
        cost(28, "2024-02", peaje_elec_eur_kwh=0.03),
    ]
    return raw


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_raw(tmp_path_factory.mktemp("rules"), **scenario())


def test_gold_has_its_seventy_columns_in_order_and_types_that_do_not_depend_on_data(built: Built) -> None:
    gold = built.tables["gold_master"]
    assert list(gold.columns) == list(contract("gold_master").fields)
    assert gold["is_price_increase"].dtype == "int64"
    assert gold["active_months_count"].dtype == "int64"
    assert gold["price_update_count"].dtype == "float64"
    assert list(gold["customer_id"]) == sorted(gold["customer_id"])


def test_labels_or_attributes_make_a_customer_and_other_files_do_not(built: Built) -> None:
    ids = set(built.tables["gold_master"]["customer_id"])
    assert {"label_only", "unlabelled", "label_null"} <= ids
    assert not ids & {"orphan", "", "  "}
    for table in ("customer_contracts", "price_history", "customer_interactions", "consumption_hourly_2024"):
        assert built.quality[table]["quarantined.orphan"] == 1, table


def test_a_customer_without_attributes_contract_and_hours_has_nulls_zero_flags_and_single_fuel(
    built: Built,
) -> None:
    row = built.gold("label_only")
    assert row["sales_channel"] == "Unknown"
    assert (
        row["active_months_count"] == row["is_price_increase"] == row["is_dual_fuel"] == row["is_urban"] == 0
    )
    assert all(
        pd.isna(row[name])
        for name in [*MARKET, "price_update_count", "max_negative_margin", "months_to_renewal"]
    )
    assert all(
        pd.isna(row[name]) for name in ["segment", "portfolio_type", "renewal_bucket", "tenure_bucket"]
    )
    assert row["tenure_x_renewal_bucket"] == "none_x_none"


def test_label_copies_collapse_and_conflicting_labels_leave_the_customer_unlabelled_but_scored(
    built: Built,
) -> None:
    assert built.gold("label_copies")["churn"] == 1
    assert pd.isna(built.gold("label_conflict")["churn"])
    assert built.gold("label_conflict")["segment"] == "Residential"
    counts = built.quality["churn_label"]
    assert (counts["collapsed"], counts["quarantined.conflicting_label"]) == (2, 2)
    assert (counts["quarantined.missing.customer_id"], counts["quarantined.missing.churn"]) == (2, 1)


def test_of_conflicting_attribute_rows_the_first_by_typed_value_stands(built: Built) -> None:
    assert (
        built.gold("attribute_conflict")["contracted_power_kw"] == 9.2
    )  # as text "10.0" would sort before "9.2"
    counts = built.quality["customer_attributes"]
    assert (counts["collapsed"], counts["quarantined.conflicting_copy"]) == (1, 1)


def test_of_conflicting_contracts_the_latest_start_up_to_as_of_stands_then_the_first_in_order(
    built: Built,
) -> None:
    assert built.customer("contract_conflict")["next_renewal_date"] == date(2025, 8, 1)
    assert built.quality["customer_contracts"]["quarantined.conflicting_copy"] == 2
    assert built.quality["customer_contracts"]["unused.starts_after_as_of"] == 1


def test_dates_after_as_of_and_unreadable_dates_are_null_and_counted(built: Built) -> None:
    row, counts = built.gold("dates"), built.quality["customer_contracts"]
    assert all(pd.isna(row[n]) for n in ("tenure_months", "months_since_last_change", "renewal_bucket"))
    assert row["is_within_3m_of_renewal"] == row["is_expired_contract"] == row["is_high_risk_lifecycle"] == 0
    assert (
        counts["repaired.after_as_of.customer_first_activation_date"]
        == counts["repaired.after_as_of.last_product_change_date"]
        == 1
    )
    assert counts["repaired.unreadable.next_renewal_date"] == 1


def test_the_latest_interaction_up_to_as_of_stands_whatever_the_file_order(built: Built) -> None:  # D1, D5
    row = built.gold("talks")
    assert row["customer_intent"] == "Pricing Offers"
    assert row["last_interaction_days_ago"] == 91
    counts = built.quality["customer_interactions"]
    assert (counts["unused.after_as_of"], counts["quarantined.missing.customer_id"]) == (1, 1)


def test_of_interactions_of_one_day_the_summary_that_sorts_last_stands(built: Built) -> None:
    assert built.customer("ties")["interaction_summary"] == "zzz rates"
    assert built.quality["customer_interactions"]["unused.older_interactions"] == 3


def test_an_interaction_without_text_counts_but_has_no_intent_or_sentiment(built: Built) -> None:
    row = built.gold("silent")
    assert row["has_interaction"] == 1
    assert pd.isna(row["customer_intent"])
    assert pd.isna(row["sentiment_label"])
    assert row["is_negative_sentiment"] == row["intent_severity_score"] == 0
    assert built.gold("gap")["has_interaction"] == 0


def test_every_row_is_kept_quarantined_or_collapsed(built: Built) -> None:
    for table in RAW:
        assert_accounted(built.quality[table])


def test_an_hour_that_stands_twice_counts_once_with_the_larger_reading_of_each(built: Built) -> None:
    month = built.month("hours", "2024-05")
    assert month["monthly_elec_kwh"] == 2.0 + 0.0 + 4.0
    assert month["monthly_gas_m3"] == 0.7 + 1.0
    assert month["monthly_gas_kwh"] == pytest.approx(11 * 1.7)
    assert built.quality["consumption_hourly_2024"]["collapsed"] == 2


def test_negative_readings_become_zero_and_leave_a_trace(built: Built) -> None:  # D16
    counts = built.quality["consumption_hourly_2024"]
    assert counts["repaired.negative_elec"] == 2
    assert counts["repaired.negative_gas"] == 0
    assert counts["missing_as_0.gas"] == 1


def test_hours_outside_the_window_without_id_or_time_play_no_part(built: Built) -> None:
    assert built.gold("hours")["active_months_count"] == 1
    counts = built.quality["consumption_hourly_2024"]
    assert (counts["unused.outside_window"], counts["quarantined.unreadable.timestamp"]) == (2, 1)
    assert counts["quarantined.missing.customer_id"] == 2


def test_hours_fall_into_their_tariff_period(built: Built) -> None:
    month = built.month("C2", "2024-03")
    assert [month[f"elec_kwh_{p}"] for p in ("tier_1_peak", "tier_2_standard", "tier_3_offpeak")] == [
        2.0,
        2.0,
        2.0,
    ]
    assert [month[f"gas_m3_{p}"] for p in ("tier_1_peak", "tier_2_standard", "tier_3_offpeak")] == [
        1.5,
        1.5,
        1.5,
    ]


@pytest.mark.parametrize(
    ("hour_", "period"),
    [
        *[("2024-03-04 07:59", 3), ("2024-03-04 08:00", 2), ("2024-03-04 10:00", 1), ("2024-03-04 13:00", 1)],
        *[("2024-03-04 14:00", 2), ("2024-03-04 18:00", 1), ("2024-03-04 21:00", 1), ("2024-03-04 22:00", 2)],
        *[("2024-03-04 23:00", 2), ("2024-03-02 10:00", 3), ("2024-03-03 10:00", 3), ("2024-03-29 10:00", 1)],
        *[(f"2024-{day} 10:00", 3) for day in ("01-01", "05-01", "08-15", "11-01", "12-06", "12-25")],
    ],
)
def test_the_tariff_calendar_knows_working_days_weekends_and_fixed_holidays(hour_: str, period: int) -> None:
    assert calendar.period_numbers(pd.DatetimeIndex([hour_]), tariff()) == [period]


def test_the_year_2024_has_8784_hours_with_codes_of_their_own() -> None:
    hours = calendar.hours(date(2024, 12, 31))
    assert len(hours) == 8784
    assert hours["code"].is_unique
    assert hours["slot"].nunique() == 36


@pytest.mark.parametrize(
    ("as_of", "first", "last"),
    [
        (date(2024, 12, 31), "2024-01", "2024-12"),
        (date(2025, 3, 31), "2024-04", "2025-03"),
        (date(2025, 3, 30), "2024-03", "2025-02"),
        (date(2024, 2, 29), "2023-03", "2024-02"),
        (date(2024, 2, 28), "2023-02", "2024-01"),
    ],
)
def test_the_window_is_twelve_whole_months_up_to_as_of(as_of: date, first: str, last: str) -> None:
    window = calendar.window(as_of)
    assert (window[0], window[-1], len(window)) == (first, last, 12)


@pytest.mark.parametrize(
    ("customer", "segment"),
    [
        ("C1", "Residential"),
        ("C2", "SME"),
        ("C3", "Corporate"),
        ("small_industry", "SME"),
        ("no_power", None),
    ],
)
def test_industry_of_up_to_ten_kilowatts_is_an_sme(
    built: Built, customer: str, segment: str | None
) -> None:  # D12
    found = built.gold(customer)["segment"]
    assert found == segment if segment else pd.isna(found)


def test_channels_are_trimmed_and_folded_and_an_unknown_one_is_named(built: Built) -> None:
    assert built.gold("case_channel")["sales_channel"] == "Comparison Website"
    assert built.gold("odd_channel")["sales_channel"] == "Unknown"
    counts = built.quality["silver_customer"]
    assert (counts["odd.unknown_channel"], counts["odd.unknown_channel_names"]) == (1, "Paloma (1)")


def test_prices_fill_from_the_customers_previous_then_next_month(built: Built) -> None:
    filled = [built.month("fill", m)["variable_price_tier1_eur_kwh"] for m in MONTHS]
    assert filled == [0.3, 0.3, 0.3, 0.3, 0.3, 0.5, *[0.5] * 6]
    raw = [built.month("fill", m)["raw_price_tier1_eur_kwh"] for m in MONTHS[:3]]
    assert [pd.isna(p) for p in raw] == [True, True, False]


def test_prices_without_any_of_the_customer_fill_from_medians_over_rows_that_need_them(
    tmp_path: Path,
) -> None:
    people = [attributes(f"R{i}") for i in range(4)] + [
        attributes("I", is_industrial=1),
        attributes("N", is_industrial=None),
    ]
    month = MONTHS[:1]
    hours = [r for i in ("R0", "R1", "R2", "I", "N") for r in hours_of(i, month)] + [
        hour("R3", "2024-01-06 10:00")
    ]
    prices = [price(i, variable_price_tier1_eur_kwh=p) for i, p in (("R0", 0.1), ("R1", 0.3), ("R3", 9.0))]
    built = build_raw(
        tmp_path,
        churn_label=[label("R0")],
        customer_attributes=people,
        consumption_hourly_2024=hours,
        price_history=prices,
    )
    tier1 = {i: built.month(i, "2024-01")["variable_price_tier1_eur_kwh"] for i in ("R2", "I", "N")}
    assert tier1["R2"] == pytest.approx(0.2)  # R3 uses no peak hour: its price is no part of the median
    assert tier1["I"] == tier1["N"] == pytest.approx(0.2)  # median of 0.1, 0.3 and R2's fill
    counts = built.quality["silver_customer_month"]
    assert counts["imputed.variable_price_tier1_eur_kwh.segment_month_median"] == 1
    assert counts["imputed.variable_price_tier1_eur_kwh.month_median"] == 2


def test_electricity_only_customers_get_no_gas_price_and_earn_no_gas_margin(built: Built) -> None:  # S19
    month = built.month("fill", "2024-08")
    assert pd.isna(month["gas_variable_price_eur_m3"])
    assert month["gas_margin"] == month["gas_revenue_fixed"] == month["gas_cost_fixed"] == 0
    assert built.month("C1", "2024-08")["gas_margin"] == 0  # although the file has gas prices for C1
    assert pd.isna(built.gold("C1")["gas_price_trend_12m"])


def test_gas_only_customers_earn_no_electricity_margin_and_are_single_fuel(built: Built) -> None:
    month = built.month("C3", "2024-08")
    assert month["elec_margin"] == month["elec_revenue_fixed"] == month["elec_cost_fixed"] == 0
    assert built.gold("C3")["portfolio_type"] == "Corporate_SingleFuel"
    assert built.gold("C2")["portfolio_type"] == "SME_DualFuel"


def test_profit_and_loss_of_a_month_is_the_sum_of_its_parts(built: Built) -> None:
    month = built.month("C2", "2024-08")
    elec = 2 * (0.20 + 0.15 + 0.10) + 5.0 - 6.0 * (0.05 + 0.02) - 3.0
    gas = 4.5 * 0.8 + 60 / 12 - 4.5 * 0.4 - 36 / 12
    assert month["elec_margin"] == pytest.approx(elec)
    assert month["gas_margin"] == pytest.approx(gas)
    assert month["total_margin"] == pytest.approx(elec + gas)
    assert month["total_revenue"] - month["total_cost"] == pytest.approx(elec + gas)


def test_the_fixed_part_of_gas_revenue_is_divided_by_twelve_once(built: Built) -> None:  # S20
    gas = 4.5 * 0.8 + 5.0
    assert built.gold("C2")["gas_share_of_revenue"] == pytest.approx(gas / (gas + 2 * 0.45 + 5.0))
    assert built.gold("C1")["gas_share_of_revenue"] == 0


def test_missing_costs_count_as_zero_and_are_counted(built: Built) -> None:
    month = built.month("lone", "2024-01")
    assert month["elec_cost_variable"] == 0
    assert built.quality["silver_customer_month"]["missing_as_0.peaje_elec_eur_kwh"] == 1
    assert pd.isna(built.gold("lone")["province_elec_cost_trend"])


def test_conflicting_prices_and_costs_of_one_month_stand_by_order_not_by_file(built: Built) -> None:
    assert built.month("short", "2024-01")["gas_fixed_cost_eur_year"] == 2.0
    assert built.month("C1", "2024-02")["peaje_elec_eur_kwh"] == 0.02
    assert built.quality["price_history"]["unused.month_without_hours"] == 3
    assert built.quality["price_history"]["collapsed"] == 1


def test_price_updates_compare_neighbouring_rows_and_prices_of_months_without_hours_play_no_part(
    built: Built,
) -> None:
    row = built.gold("gap")
    assert row["active_months_count"] == 3
    assert row["price_update_count"] == 1  # 0.1 -> 0.2 moves, 0.2 -> 0.2005 does not; 9.0 belongs to no row
    assert row["elec_price_trend_12m"] == pytest.approx((0.2005 - 0.1) / 0.1)
    assert row["is_price_increase"] == 1


def test_trends_skip_missing_prices_and_need_two(built: Built) -> None:
    row = built.gold("fill")
    assert row["elec_price_trend_12m"] == pytest.approx((0.5 - 0.3) / 0.3)
    assert row["price_update_count"] == 0  # no two neighbouring rows have prices
    assert row["elec_price_volatility_12m"] == pytest.approx(0.2 / 2**0.5)
    assert row["elec_price_vs_province_cost_spread"] == pytest.approx(0.5 - 0.05)
    assert pd.isna(built.gold("short")["elec_price_trend_12m"])
    assert built.gold("short")["is_price_increase"] == 0


def test_the_margin_trend_needs_six_months_and_one_month_has_no_spread(built: Built) -> None:
    assert pd.isna(built.gold("short")["rolling_margin_trend"])
    assert built.gold("C1")["rolling_margin_trend"] == pytest.approx(0)
    assert pd.isna(built.gold("lone")["std_margin"])
    assert built.gold("C1")["std_monthly_elec_kwh"] == 0


def test_the_margin_trend_is_the_mean_of_three_months_less_that_of_the_three_before(tmp_path: Path) -> None:
    fees = {month: float(n * n) for n, month in enumerate(MONTHS, 1)}
    prices = [price("C1", m, elec_fixed_fee_eur_month=fee) for m, fee in fees.items()]
    row = build_raw(tmp_path, price_history=prices).gold("C1")
    assert row["rolling_margin_trend"] == pytest.approx((100 + 121 + 144) / 3 - (49 + 64 + 81) / 3)


def test_means_and_sums_run_over_the_months_with_hours(built: Built) -> None:
    row = built.gold("gap")
    assert (row["avg_monthly_elec_kwh"], row["total_elec_kwh_2024"]) == (3.0, 9.0)
    assert row["total_margin_2024"] == pytest.approx(3 * row["avg_monthly_margin"])


def test_negative_months_are_counted_and_the_worst_is_kept(tmp_path: Path) -> None:
    prices = [price("C1", m, elec_fixed_fee_eur_month=0.5 if m < "2024-04" else 9.0) for m in MONTHS]
    row = build_raw(tmp_path, price_history=prices).gold("C1")
    assert row["max_negative_margin"] == 3
    assert row["min_monthly_margin"] == pytest.approx(0.45 + 0.5 - 3 * 0.07 - 3.0)
    assert row["rolling_margin_trend"] == pytest.approx(0)


def test_the_quality_report_has_null_rates_of_gold(built: Built) -> None:
    gold = built.tables["gold_master"]
    assert built.quality["gold_master"]["null_rate.churn"] == pytest.approx(gold["churn"].isna().mean())
    assert built.quality["gold_master"]["rows"] == len(gold)


def test_without_a_label_file_everybody_is_unlabelled_and_churn_keeps_its_type(tmp_path: Path) -> None:
    report = build(
        write_raw(tmp_path / "raw", omit=["churn_label"]), Lake(tmp_path / "lake"), date(2024, 12, 31)
    )
    manifest = report.snapshots["gold_master"].manifest
    assert manifest.columns["churn"] == "int64"
    assert report.snapshots["gold_master"].pandas()["churn"].isna().all()
