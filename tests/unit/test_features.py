"""Features: the data dictionary and the functions agree, and each formula holds at its boundaries."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pytest

from spanishgas.contracts import contract
from spanishgas.errors import UsageError
from spanishgas.features import Tiers, behaviour, compound, levels, lifecycle, load_tiers, market
from spanishgas.features.registry import CUSTOMER, MONTHS, CustomerFunction, MonthsFunction
from spanishgas.settings import settings

AS_OF = date(2024, 12, 31)
TIER_SIZES = {"1A": 15, "MP_CORE": 8, "MP_RISK": 13, "2A": 11, "2B": 3, "3": 6, "1B": 8}


def value(function: CustomerFunction, **row: Any) -> Any:
    """What a feature says of one customer's row; None values are typed by their name."""
    types = {name: pa.date32() if "date" in name else None for name in row}
    columns = {
        name: pa.array([cell.as_py() if isinstance(cell, pa.Scalar) else cell], types[name])
        for name, cell in row.items()
    }
    table = ibis.memtable(pa.table(columns))
    answer = table.select(value=function(table, AS_OF)).to_pyarrow().column(0)[0].as_py()
    return None if pd.isna(answer) else answer


def over(function: MonthsFunction, months: pd.DataFrame) -> Any:
    """What a feature over months says of one customer's."""
    table = ibis.memtable(months)
    answer = table.aggregate(value=function(table)).to_pyarrow().column(0)[0].as_py()
    return None if pd.isna(answer) else answer


def days(count: int) -> date:
    return AS_OF + timedelta(days=count)


def test_the_tiers_have_at_least_their_published_features_and_every_feature_has_a_function() -> None:
    tiers = load_tiers()
    assert list(tiers.tiers) == list(TIER_SIZES)
    assert all(len(tiers.features([name])) >= size for name, size in TIER_SIZES.items())
    assert set(tiers.features()) == {*CUSTOMER, *MONTHS}
    assert all(tiers.words(name) and tiers.entry(name).definition for name in tiers.features())


def silver_row() -> ir.Table:
    """A customer's row before any feature: silver's columns, and the features over months."""
    silver = {name: field.kind.dtype for name, field in contract("silver_customer").fields.items()}
    return ibis.table({**silver, **dict.fromkeys(MONTHS, "float64")}, name="row")


def test_a_feature_is_added_after_those_that_it_stands_on_and_not_before_those_that_read_what_it_replaces() -> (
    None
):
    tiers = load_tiers()
    steps = levels(silver_row(), tiers, AS_OF)
    step = {name: number for number, names in enumerate(steps) for name in names}
    assert sorted(step) == sorted(tiers.features())
    assert len(steps) < len(tiers.tiers), "a statement a step"
    assert step["months_to_renewal"] < step["renewal_bucket"] < step["is_expired_contract"]
    assert step["is_high_competition_province"] < step["is_competition_x_renewal"]
    assert step["is_dual_fuel"] <= step["total_elec_kwh_2024"], (
        "the sum of the months is read, not the feature"
    )


def test_a_feature_above_one_that_it_stands_on_is_refused_by_name() -> None:
    tiers = load_tiers()
    first = tiers.tiers["1A"]
    turned = first.model_copy(update={"features": dict(reversed(first.features.items()))})
    words = "the feature is_digital_channel stands on is_comparison_channel, which must stand above it"
    with pytest.raises(UsageError, match=words):
        levels(silver_row(), Tiers.model_construct({**tiers.tiers, "1A": turned}), AS_OF)


def test_tiers_answer_in_the_order_asked_for() -> None:
    tiers = load_tiers()
    assert tiers.features(["2B", "1A"])[:4] == [*tiers.features(["2B"]), "months_to_renewal"]
    assert tiers.tier_of("std_margin") == "MP_RISK"
    assert tiers.kind("competition_x_intent") == "cross"
    assert tiers.words("months_to_renewal") == "months to renewal"


def test_unknown_tiers_and_features_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean 'MP_CORE'"):
        load_tiers().features(["MP_COR"])
    with pytest.raises(UsageError, match="Did you mean 'tenure_months'"):
        load_tiers().kind("tenure_month")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("    tenure_months:", "    tenure_weeks:", "lists tenure_weeks"),
        ("    is_price_sensitive: {kind", "    # is_price_sensitive: {kind", "computes is_price_sensitive"),
    ],
)
def test_a_row_or_a_function_that_stands_alone_is_named(
    tmp_path: Path, before: str, after: str, words: str
) -> None:
    text = (settings().experiments / "tiers.yaml").read_text()
    assert before in text
    (tmp_path / "tiers.yaml").write_text(text.replace(before, after))
    with pytest.raises(UsageError, match=words):
        load_tiers(tmp_path / "tiers.yaml")


@pytest.mark.parametrize(("count", "months"), [(45, 1.5), (0, 0.0), (-29, -29 / 30)])
def test_months_to_renewal_are_thirty_days_and_unrounded(count: int, months: float) -> None:
    assert value(lifecycle.months_to_renewal, next_renewal_date=days(count)) == pytest.approx(
        months, rel=1e-15
    )


@pytest.mark.parametrize(
    ("months", "bucket"),
    [
        (-9, "expired"),
        (0, "expired"),
        (0.1, "0-3m"),
        (3, "0-3m"),
        (3.1, "3-6m"),
        (6, "3-6m"),
        (12, "6-12m"),
        (12.1, "12m+"),
    ],
)
def test_a_contract_renewing_today_counts_as_expired_and_edges_belong_to_the_lower_bucket(
    months: float, bucket: str
) -> None:
    assert value(lifecycle.renewal_bucket, months_to_renewal=float(months)) == bucket


@pytest.mark.parametrize(("months", "flag"), [(-0.01, False), (0, True), (3, True), (3.01, False)])
def test_an_expired_contract_is_not_within_three_months_of_renewal(months: float, flag: bool) -> None:  # D4
    assert value(lifecycle.is_within_3m_of_renewal, months_to_renewal=float(months)) is flag


@pytest.mark.parametrize(
    ("months", "bucket"),
    [
        (0, "0-6m"),
        (6, "0-6m"),
        (6.1, "6-12m"),
        (12, "6-12m"),
        (24, "1-2y"),
        (60, "2-5y"),
        (60.1, "5y+"),
        (201, "5y+"),
    ],
)
def test_tenure_zero_has_a_bucket_and_so_has_the_longest(months: float, bucket: str) -> None:
    assert value(lifecycle.tenure_bucket, tenure_months=float(months)) == bucket


def test_dual_fuel_is_some_of_both_and_names_the_portfolio() -> None:  # S21
    use = {"total_elec_kwh_2024": 1.0, "total_gas_m3_2024": 0.0}
    assert value(lifecycle.is_dual_fuel, **use) is False
    assert value(lifecycle.is_dual_fuel, **use | {"total_gas_m3_2024": 0.5}) is True
    assert value(lifecycle.portfolio_type, segment="SME", is_dual_fuel=1) == "SME_DualFuel"


@pytest.mark.parametrize(
    ("count", "three", "one"), [(-1, 0, 0), (0, 1, 1), (30, 1, 1), (31, 1, 0), (90, 1, 0), (91, 0, 0)]
)
def test_interaction_timing_uses_the_same_thirty_day_months(count: int, three: int, one: int) -> None:  # S22
    row = {"interaction_date": AS_OF, "next_renewal_date": days(count)}
    assert value(behaviour.interaction_within_3m_of_renewal, **row) == bool(three)
    assert value(behaviour.is_interaction_within_30d_of_renewal, **row) == bool(one)


@pytest.mark.parametrize(
    ("intent", "score"),
    [
        ("Cancellation / Switch", 3),
        ("Complaint / Escalation", 2),
        ("Pricing Offers", 1),
        ("Contract Renewal", 0),
    ],
)
def test_severity_ranks_cancellation_over_complaint_over_pricing(intent: str, score: int) -> None:
    assert value(behaviour.intent_severity_score, customer_intent=intent) == score
    assert value(CUSTOMER["is_price_sensitive"], customer_intent=intent) is (score == 1)


def test_last_interaction_is_counted_in_days_and_changes_in_months() -> None:
    assert value(behaviour.last_interaction_days_ago, interaction_date=days(-46)) == 46
    assert value(behaviour.months_since_last_change, last_product_change_date=days(-45)) == 1.5
    assert value(behaviour.months_since_last_change, last_product_change_date=None) is None


def test_a_new_customer_close_to_renewal_is_high_risk() -> None:
    for renewal, tenure, flag in [
        ("expired", "0-6m", True),
        ("0-3m", "6-12m", True),
        ("3-6m", "0-6m", False),
        ("0-3m", "1-2y", False),
    ]:
        assert value(compound.is_high_risk_lifecycle, renewal_bucket=renewal, tenure_bucket=tenure) is flag


def test_crossed_strings_read_none_for_a_null_part_and_digits_for_flags() -> None:
    nothing = pa.scalar(None, pa.string())
    assert (
        value(CUSTOMER["sentiment_x_renewal_bucket"], sentiment_label=nothing, renewal_bucket="0-3m")
        == "none_x_0-3m"
    )
    assert (
        value(CUSTOMER["has_interaction_x_renewal_bucket"], has_interaction=0, renewal_bucket="12m+")
        == "0_x_12m+"
    )
    crossed = CUSTOMER["competition_x_intent"]
    both = {"is_high_competition_province": 1, "customer_intent": "Pricing Offers"}
    assert value(crossed, **both) == "1_x_Pricing Offers"


def test_prices_that_move_by_more_than_a_tenth_of_a_cent_are_updates() -> None:
    months = pd.DataFrame(
        {"raw_price_tier1_eur_kwh": [0.1, 0.102, 0.1025], "previous_price": [None, 0.1, 0.102]}
    )
    assert over(market.price_update_count, months) == 1
