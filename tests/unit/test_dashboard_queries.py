"""What the dashboard asks of published snapshots: the right customers, sums and files, or what is missing."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spanishgas.config.policy import load_policy
from spanishgas.dashboard import campaign, customer
from spanishgas.dashboard.campaign import Filters
from spanishgas.dashboard.tables import NothingYet, ScoredCustomers, scored
from spanishgas.errors import LakeError, UsageError
from spanishgas.lake import Lake
from spanishgas.scoring.campaign import ways
from spanishgas.scoring.recommend import at_risk, choose
from tests.dashboard_lake import CUSTOMERS, DAY, FORMULA, LATER, filled

ORDER = "churn probability"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(tmp_path_factory.mktemp("dashboard") / "lake")
    filled(made)
    filled(made, LATER, rows=20, seed=1)
    return made


@pytest.fixture(scope="module")
def found(lake: Lake) -> ScoredCustomers:
    return scored(lake, DAY)


@pytest.fixture(scope="module")
def everybody(found: ScoredCustomers) -> pd.DataFrame:
    """The same rows, joined by pandas."""
    gold = found.gold.pandas()[["customer_id", "avg_monthly_margin", "sales_channel"]]
    return found.scores.pandas().merge(found.recommendations.pandas().drop(columns="risk_tier")).merge(gold)


def test_a_lake_without_scores_says_which_command_makes_them(tmp_path: Path) -> None:
    with pytest.raises(NothingYet, match=r"holds no scores: run `spanishgas score`"):
        scored(Lake(tmp_path / "lake"))


def test_recommendations_of_other_scores_are_not_shown_beside_these(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    filled(lake)
    changed = lake.current("scores").pandas().assign(model_version="4")
    gold = {"gold_master": lake.current("gold_master").manifest.digest}
    lake.publish(
        "scores",
        DAY,
        lambda folder: changed.to_parquet(folder / "part-0.parquet", index=False),
        built_from=gold,
        fingerprint="again",
        code={},
    )
    with pytest.raises(NothingYet, match="no recommendations for the scores of 2024-12-31"):
        scored(lake)


def test_the_newest_date_is_shown_unless_one_is_chosen(lake: Lake) -> None:
    assert scored(lake).scores.manifest.as_of == LATER
    assert scored(lake, DAY).gold.manifest.as_of == DAY


def test_totals_count_all_customers_those_at_risk_and_their_loss(
    found: ScoredCustomers, everybody: pd.DataFrame
) -> None:
    total = campaign.totals(found.scores)
    assert (total.customers, total.at_risk) == (CUSTOMERS, int((everybody["risk_tier"] != "Low").sum()))
    assert total.flagged == int(everybody["churn_flag"].sum())
    assert total.expected_monthly_loss == pytest.approx(everybody["expected_monthly_loss"].sum())
    assert total.share == total.at_risk / CUSTOMERS


def test_the_trend_has_a_row_per_scored_date_oldest_first(lake: Lake) -> None:
    trend = campaign.trend(lake)
    assert list(trend["as_of"]) == [DAY, LATER]
    assert list(trend["customers"]) == [CUSTOMERS, 20]
    assert list(trend["model_version"]) == ["3", "3"]


def test_tiers_stand_in_their_order_and_sum_to_all_customers(found: ScoredCustomers) -> None:
    tiers = campaign.tiers(found.scores)
    assert list(tiers["risk_tier"]) == ["Low", "Medium", "High", "Critical"]
    assert tiers["customers"].sum() == CUSTOMERS
    assert tiers["customers"].min() > 0


def test_without_filters_the_campaign_is_everybody_in_the_order_asked_for(found: ScoredCustomers) -> None:
    rows = campaign.customers(found, Filters(), ORDER)
    assert len(rows) == CUSTOMERS
    assert rows["churn_probability"].is_monotonic_decreasing
    assert rows["reasons"][0] == "months to renewal: 2; sentiment of the last contact: negative"


@pytest.mark.parametrize(
    "filters",
    [
        Filters(risk_tier=("High", "Critical")),
        Filters(segment=("SME",)),
        Filters(sales_channel=("Office",)),
        Filters(action=("offer_small",)),
        Filters(timing_window=("immediate",)),
        Filters(least_loss=2.0),
        Filters(risk_tier=("Critical",), segment=("SME", "Corporate"), least_loss=0.5),
    ],
)
def test_a_filter_leaves_the_customers_that_pandas_would_leave(
    found: ScoredCustomers, everybody: pd.DataFrame, filters: Filters
) -> None:
    wanted = everybody[everybody["expected_monthly_loss"] >= filters.least_loss]
    for column in ("risk_tier", "segment", "sales_channel", "action", "timing_window"):
        if values := getattr(filters, column):
            wanted = wanted[wanted[column].isin(values)]
    rows = campaign.customers(found, filters, ORDER)
    assert set(rows["customer_id"]) == set(wanted["customer_id"])
    assert len(rows) > 0

    sums = campaign.cut(found, filters)
    assert (sums.customers, sums.offers) == (len(wanted), int((wanted["action"] != "no_offer").sum()))
    assert sums.offer_budget == pytest.approx(wanted["offer_budget"].sum())
    assert sums.expected_margin_impact == pytest.approx(wanted["expected_margin_impact"].sum())
    assert sums.expected_monthly_loss == pytest.approx(wanted["expected_monthly_loss"].sum())


def test_a_page_gets_no_more_rows_than_its_limit(found: ScoredCustomers) -> None:
    assert len(campaign.customers(found, Filters(), ORDER, limit=7)) == 7


def test_an_unknown_order_is_refused_by_name(found: ScoredCustomers) -> None:
    with pytest.raises(UsageError, match="unknown order 'customer_id; DROP'"):
        campaign.customers(found, Filters(), "customer_id; DROP")


def test_the_csv_holds_the_filtered_campaign_whole(found: ScoredCustomers) -> None:
    filters = Filters(risk_tier=("Low",))
    read = pd.read_csv(io.BytesIO(campaign.as_csv(found, filters, ORDER)))
    shown = campaign.customers(found, filters, ORDER)
    assert list(read["customer_id"]) == list(shown["customer_id"])
    assert list(read.columns) == list(shown.columns)


def test_the_workbook_holds_the_same_rows_as_the_csv(found: ScoredCustomers) -> None:
    filters = Filters(segment=("SME",))
    book = pd.read_excel(io.BytesIO(campaign.as_excel(found, filters, ORDER)))
    text = pd.read_csv(io.BytesIO(campaign.as_csv(found, filters, ORDER)))
    assert list(book["customer_id"]) == list(text["customer_id"])
    assert book["churn_probability"].to_numpy() == pytest.approx(text["churn_probability"].to_numpy())


def test_an_id_that_looks_like_a_formula_is_text_in_both_files(found: ScoredCustomers) -> None:
    csv = pd.read_csv(io.BytesIO(campaign.as_csv(found, Filters(), ORDER)))
    book = pd.read_excel(io.BytesIO(campaign.as_excel(found, Filters(), ORDER)))
    assert csv["customer_id"][0] == book["customer_id"][0] == f"'{FORMULA}"


def test_a_campaign_too_long_for_a_workbook_is_refused(
    found: ScoredCustomers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "EXCEL_ROWS", 5)
    with pytest.raises(UsageError, match="at most 5 customers"):
        campaign.as_excel(found, Filters(), ORDER)


def test_a_customer_is_found_by_id_first_and_by_how_it_begins(found: ScoredCustomers) -> None:
    assert customer.search(found, "C00003") == ["C00003"]
    assert customer.search(found, " c0000") == [f"C{i:05d}" for i in range(1, 10)]
    assert customer.search(found, "C") == [f"C{i:05d}" for i in range(1, customer.NEAR + 1)]


@pytest.mark.parametrize("text", ["", "  ", "C99999", "' OR 1=1 --", "%"])
def test_a_search_for_nobody_finds_nobody(found: ScoredCustomers, text: str) -> None:
    assert customer.search(found, text) == []


def test_a_customers_facts_are_its_own(found: ScoredCustomers, everybody: pd.DataFrame) -> None:
    facts = customer.facts(found, "C00005")
    row = everybody.set_index("customer_id").loc["C00005"]
    assert facts["churn_probability"] == row["churn_probability"]
    assert facts["avg_monthly_margin"] == row["avg_monthly_margin"]
    assert facts["reason_codes"] == list(row["reason_codes"])


def test_an_unknown_customer_is_named(found: ScoredCustomers) -> None:
    with pytest.raises(LakeError, match="no customer 'C99999' was scored as of 2024-12-31"):
        customer.facts(found, "C99999")


def test_months_come_in_order_and_of_one_customer(lake: Lake, found: ScoredCustomers) -> None:
    months = customer.months(lake, found, "C00005")
    assert list(months["month"]) == ["2024-01", "2024-02", "2024-03"]
    assert list(months["electricity_kwh"]) == [100, 200, 300]
    assert list(months["total_margin"]) == [10, 20, 30]


def test_contacts_are_empty_for_who_was_never_in_touch(lake: Lake, found: ScoredCustomers) -> None:
    assert list(customer.contacts(lake, found, "C00001")["intent"]) == ["Pricing Offers"]
    assert customer.contacts(lake, found, "C00002").empty


def test_the_lineage_names_the_digests_that_the_scores_were_made_from(found: ScoredCustomers) -> None:
    lines = customer.lineage(found).set_index("table")
    assert lines.loc["gold_master", "digest"] == found.scores.manifest.built_from["gold_master"][:16]
    assert lines.loc["scores", "digest"] == found.recommendations.manifest.built_from["scores"][:16]
    assert set(lines["code"]) == {"c0ffee"}


def test_actions_sum_to_all_customers_and_stand_in_the_order_of_tiers(found: ScoredCustomers) -> None:
    actions = campaign.actions(found)
    assert actions["customers"].sum() == CUSTOMERS
    assert list(dict.fromkeys(actions["risk_tier"])) == ["Low", "Medium", "High", "Critical"]
    assert (
        actions["offer_budget"].sum() == found.recommendations.pandas(["offer_budget"])["offer_budget"].sum()
    )


def test_the_recommendations_are_valued_beside_other_ways(found: ScoredCustomers) -> None:
    beside = ways(campaign.at_risk(found, load_policy().offers), load_policy().offers).set_index("way")
    made = found.recommendations.pandas()
    offered = made[(made["action"] == "offer_small") & (made["risk_tier"] != "Low")]
    assert beside.loc["these recommendations", "customers"] == len(offered)
    assert beside.loc["these recommendations", "cost"] == offered["offer_budget"].sum()
    assert list(beside.loc["nobody"]) == [0, 0.0, 0.0]


def test_an_offer_protects_the_margin_after_the_month_in_which_the_customer_would_leave(
    found: ScoredCustomers, tmp_path: Path
) -> None:
    offers = load_policy().offers
    flat = campaign.at_risk(found, offers)["margin"].to_numpy(dtype="float64")
    rows, manifest = found.scores.pandas(), found.scores.manifest

    def write(folder: Path) -> None:
        rows.assign(expected_month=offers.horizon_months / 4).to_parquet(folder / "part-0.parquet")

    later = Lake(tmp_path).publish(
        "scores", DAY, write, built_from=manifest.built_from, fingerprint="when", code={}
    )
    timed = campaign.at_risk(replace(found, scores=later), offers)["margin"].to_numpy(dtype="float64")
    np.testing.assert_allclose(timed, flat * 3 / 4)


def test_no_budget_chooses_what_recommend_would_choose(found: ScoredCustomers) -> None:
    policy = load_policy()
    gold = found.gold.pandas(["customer_id", "segment", "avg_monthly_margin", "months_to_renewal"])
    customers = found.scores.pandas().merge(gold, on="customer_id")
    chosen = choose(customers, policy.offers, at_risk(customers, policy.risk_tiers))
    allocated = campaign.allocation(campaign.at_risk(found, policy.offers), policy, None).set_index("offer")
    assert allocated["cost"].sum() == chosen["offer_cost"].sum()
    assert allocated["expected_value"].sum() == pytest.approx(chosen["expected_margin_impact"].sum())
    assert allocated["cost"].sum() > 0


def test_a_smaller_budget_is_kept_and_brings_less(found: ScoredCustomers) -> None:
    known, policy = campaign.at_risk(found, load_policy().offers), load_policy()
    everything = campaign.allocation(known, policy, None)
    half = everything["cost"].sum() / 2
    less = campaign.allocation(known, policy, half)
    assert 0 < less["cost"].sum() <= half
    assert 0 < less["expected_value"].sum() < everything["expected_value"].sum()
    assert less["customers"].sum() == everything["customers"].sum()


@pytest.mark.slow
def test_a_lake_on_s3_answers_as_one_in_a_folder_does(lake: Lake, bucket: str) -> None:
    there = Lake(f"s3://{bucket}/lake")
    filled(there)
    filled(there, LATER, rows=20, seed=1)
    assert campaign.trend(there).equals(campaign.trend(lake))
    for day in (DAY, LATER):
        near, far = scored(lake, day), scored(there, day)
        assert campaign.as_csv(far, Filters(), ORDER) == campaign.as_csv(near, Filters(), ORDER)
        assert customer.months(there, far, "C00005").equals(customer.months(lake, near, "C00005"))
        assert customer.contacts(there, far, "C00001").equals(customer.contacts(lake, near, "C00001"))
        assert campaign.actions(far).equals(campaign.actions(near))


def test_a_part_that_is_gone_is_named(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    filled(lake)
    found = scored(lake)
    next(found.scores.folder.glob("*.parquet")).unlink()
    with pytest.raises(LakeError, match="scores"):
        campaign.totals(found.scores)
