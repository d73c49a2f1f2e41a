"""Quarantine: a row that cannot be used is set apart with its rule, the run goes on, and the accounts are exact."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from spanishgas import contracts
from spanishgas.contracts.tables import RAW
from spanishgas.errors import ContractError
from spanishgas.etl.build import build
from spanishgas.etl.quality import Quality, markdown, metrics
from spanishgas.lake import Lake
from spanishgas.lifecycle import data
from spanishgas.settings import settings as installed
from tests.raw_builder import (
    Built,
    assert_accounted,
    attributes,
    build_raw,
    contact,
    contract,
    cost,
    hours_of,
    label,
    price,
    rows,
    write_raw,
)

AS_OF = date(2024, 12, 31)


def spoilt() -> dict[str, list[dict[str, Any]]]:
    """A bad row for every rule, beside the default rows."""
    raw = rows()
    raw["churn_label"] += [label("bad_label", 2), label("odd_label", "maybe"), label(" ", 1)]
    raw["churn_label"] += [label("torn", 0), label("torn", 1), label("no_label", None)]
    raw["customer_attributes"] += [
        attributes("bad_power", contracted_power_kw="a lot"),
        attributes("negative_power", contracted_power_kw=-1),
        attributes("C1", region="elsewhere"),
    ]
    raw["customer_contracts"] += [contract("orphan"), contract("bad_label", next_renewal_date="soon")]
    raw["price_history"] += [price("C1", "2024-02-09", elec_fixed_fee_eur_month=-5.0), price("C1", "someday")]
    raw["costs_by_province_month"] += [
        cost(None),
        cost("Madrid"),
        cost(28, "2024-14"),
        cost(28, "2024-03", gas_var_cost_eur_m3="?"),
    ]
    raw["customer_interactions"] += [contact("C2", None), contact("C2", "someday")]
    return raw


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_raw(tmp_path_factory.mktemp("quarantine"), **spoilt())


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The limit that the settings have where nobody set one."""
    monkeypatch.delenv("SPANISHGAS_MAX_QUARANTINED")
    installed.cache_clear()
    yield monkeypatch
    installed.cache_clear()


def test_each_unusable_row_stands_in_quarantine_under_its_rule(built: Built) -> None:
    apart = built.tables["quarantine"].astype(object).where(lambda t: t.notna(), None)
    found = set(zip(apart["source_table"], apart["rule"], apart["column"], apart["customer_id"], strict=True))
    assert found == {
        ("churn_label", "out_of_range", "churn", "bad_label"),
        ("churn_label", "unreadable", "churn", "odd_label"),
        ("churn_label", "missing", "customer_id", " "),
        ("churn_label", "conflicting_label", None, "torn"),
        ("churn_label", "missing", "churn", "no_label"),
        ("customer_attributes", "unreadable", "contracted_power_kw", "bad_power"),
        ("customer_attributes", "out_of_range", "contracted_power_kw", "negative_power"),
        ("customer_attributes", "conflicting_copy", None, "C1"),
        ("customer_contracts", "orphan", None, "orphan"),
        ("price_history", "out_of_range", "elec_fixed_fee_eur_month", "C1"),
        ("price_history", "unreadable", "pricing_date", "C1"),
        ("costs_by_province_month", "missing", "province", None),
        ("costs_by_province_month", "unreadable", "province", None),
        ("costs_by_province_month", "unreadable", "month", None),
        ("costs_by_province_month", "unreadable", "gas_var_cost_eur_m3", None),
        ("customer_interactions", "missing", "date", "C2"),
        ("customer_interactions", "unreadable", "date", "C2"),
    }


def test_a_quarantined_row_shows_its_texts_as_they_were_written(built: Built) -> None:
    apart = built.tables["quarantine"]
    row = apart[apart["customer_id"] == "bad_power"]["row"].item()
    assert json.loads(row)["contracted_power_kw"] == "a lot"
    assert json.loads(row)["region"] == "Madrid"


def test_a_customer_whose_row_is_in_quarantine_is_scored_without_it(built: Built) -> None:
    for customer in ("bad_label", "odd_label", "torn", "no_label"):
        assert pd.isna(built.gold(customer)["churn"])
    assert pd.isna(built.customer("bad_power")["contracted_power_kw"])
    assert "orphan" not in set(built.tables["gold_master"]["customer_id"])


def test_contract_dates_that_do_not_parse_are_null_and_their_row_is_kept(built: Built) -> None:
    counts = built.quality["customer_contracts"]
    assert counts["repaired.unreadable.next_renewal_date"] == 1
    assert (counts["rows_in"], counts["kept"]) == (5, 4)


def test_the_quarantine_names_the_run_that_set_its_rows_apart(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", churn_label=[label("C1", 7)])
    made = build(raw, Lake(tmp_path / "lake"), AS_OF, run_id="run-7").snapshots["quarantine"]
    assert list(made.pandas()["run_id"]) == ["run-7"]
    assert made.manifest.built_from.keys() == {f"raw/{table}" for table in RAW}


NUMBERS = st.sampled_from(["", "1", "0", "2", "-1", "x", "1e999", "7.5", " 1 "])
IDS = st.sampled_from(["C1", "C2", "C3", "C4", "", " ", "orphan"])
DAYS = st.sampled_from(["2024-01-01", "2024-01-02", "2025-02-01", "2023-01-01", "", "soon", "2024-02-30"])


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    labels=st.lists(st.tuples(IDS, NUMBERS), max_size=9),
    people=st.lists(st.tuples(IDS, NUMBERS), max_size=9),
    dates=st.lists(st.tuples(IDS, DAYS), max_size=9),
)
def test_rows_in_are_rows_kept_quarantined_and_collapsed(
    tmp_path_factory: pytest.TempPathFactory,
    labels: list[tuple[str, str]],
    people: list[tuple[str, str]],
    dates: list[tuple[str, str]],
) -> None:
    built = build_raw(
        tmp_path_factory.mktemp("accounts"),
        churn_label=[label(i, value) for i, value in labels],
        customer_attributes=[attributes(i, contracted_power_kw=value) for i, value in people],
        customer_contracts=[contract(i) for i, _ in dates],
        price_history=[price(i, day, gas_fixed_cost_eur_year=1) for i, day in dates],
        customer_interactions=[contact(i, day) for i, day in dates],
    )
    written = {
        "churn_label": labels,
        "customer_attributes": people,
        "price_history": dates,
        "customer_interactions": dates,
    }
    for table in RAW:
        assert_accounted(built.quality[table])
        assert built.quality[table]["rows_in"] == len(
            written.get(table, range(int(built.quality[table]["rows_in"])))
        )
    apart = built.tables["quarantine"].groupby("source_table").size()
    for table in written:
        assert built.quality[table]["quarantined"] == apart.get(table, 0)


@pytest.mark.usefixtures("limit")
def test_more_than_five_percent_in_quarantine_stops_the_run_and_names_rules_and_setting(
    tmp_path: Path,
) -> None:
    people = [attributes(f"C{n}", contracted_power_kw="many" if n < 3 else 4.6) for n in range(20)]
    quality = Quality()
    with pytest.raises(ContractError) as refused:
        build(
            write_raw(tmp_path / "raw", customer_attributes=people),
            Lake(tmp_path / "lake"),
            AS_OF,
            quality=quality,
        )
    message = str(refused.value)
    assert "customer_attributes.csv breaks its contract" in message
    assert "3 of 20 rows (15.0%) cannot be used: more than 5.0%" in message
    assert "3 rows in column 'contracted_power_kw' are not a number, for example 'many'" in message
    assert "SPANISHGAS_MAX_QUARANTINED" in message
    assert quality.report["customer_attributes"]["quarantined.unreadable.contracted_power_kw"] == 3
    assert not list(tmp_path.rglob("quarantine"))


def test_exactly_the_allowed_share_goes_on_and_the_setting_moves_it(
    tmp_path: Path, limit: pytest.MonkeyPatch
) -> None:
    people = [attributes(f"C{n}", contracted_power_kw="many" if n < 1 else 4.6) for n in range(20)]
    raw, lake = write_raw(tmp_path / "raw", customer_attributes=people), Lake(tmp_path / "lake")
    assert build(raw, lake, AS_OF).quality["customer_attributes"]["quarantined"] == 1
    limit.setenv("SPANISHGAS_MAX_QUARANTINED", "0.01")
    installed.cache_clear()
    with pytest.raises(ContractError, match="1 of 20 rows"):
        build(raw, lake, AS_OF)


def test_a_column_that_a_broken_join_left_empty_stops_the_run(tmp_path: Path) -> None:
    ids = [f"C{n}" for n in range(120)]
    people = [attributes(i, is_industrial=None if n else 1) for n, i in enumerate(ids)]
    raw = write_raw(tmp_path / "raw", customer_attributes=people)
    with pytest.raises(
        ContractError, match="119 rows without a value in column 'is_industrial', more than 95% of all"
    ):
        build(raw, Lake(tmp_path / "lake"), AS_OF)


def test_null_limits_let_pass_what_the_published_data_have() -> None:
    fields = contracts.contract("gold_master").fields
    published = {
        "gas_price_trend_12m": 0.819,
        "sentiment_label": 0.681,
        "customer_intent": 0.681,
        "last_interaction_days_ago": 0.681,
        "months_since_last_change": 0.303,
        "elec_price_trend_12m": 0.002,
    }
    assert all(fields[name].max_null > share for name, share in published.items())
    assert fields["months_to_renewal"].max_null < 1


def test_what_is_odd_but_usable_is_counted_and_kept(tmp_path: Path) -> None:
    raw = rows()
    raw["customer_attributes"][0] |= {"contracted_power_kw": 0.001, "sales_channel": "tienda"}
    raw["customer_contracts"][1] |= {"customer_first_activation_date": "2024-04-20"}
    raw["consumption_hourly_2024"] += hours_of("C1", ["2024-02"], elec=-1.0)
    built = build_raw(tmp_path, **raw)
    months = built.quality["bronze_customer_month"]
    assert months["odd.consumption_before_activation"] == 3  # D13: January to March
    assert months["odd.more_than_the_power_allows"] == 12
    assert built.quality["silver_customer"]["odd.unknown_channel_names"] == "tienda (1)"
    assert built.quality["consumption_hourly_2024"]["repaired.negative_elec"] == 3
    assert built.gold("C2")["active_months_count"] == 12


def test_the_report_has_shares_of_nulls_ranges_and_prices_filled_in(built: Built) -> None:
    counts = built.quality["customer_attributes"]
    assert (counts["min.contracted_power_kw"], counts["max.contracted_power_kw"]) == (4.6, 15.0)
    assert built.quality["customer_contracts"]["max.next_renewal_date"] == "2025-03-01"
    assert built.quality["customer_contracts"]["null_rate.last_product_change_date"] == 1.0
    assert "imputed.month_median" in built.quality["silver_customer_month"]


def test_the_page_and_the_metrics_hold_the_counts_and_no_customer(built: Built) -> None:
    page, numbers = markdown(built.quality), metrics(built.quality)
    assert "| churn_label | 9 | 3 | 6 | 0 |" in page
    assert "| customer_attributes | in quarantine | unreadable.contracted_power_kw | 1 |" in page
    assert "| customer_attributes | contracted_power_kw | 0.0% | 4.6 | 15 |" in page
    assert numbers["quality.churn_label.quarantined.conflicting_label"] == 2
    assert not any(name.split(".")[2] in ("min", "max") for name in numbers)
    assert len(numbers) < 1000  # what one batched call to MLflow takes
    assert not [name for name in ("bad_power", "torn", "orphan") if name in page.replace("| orphan |", "")]


def test_a_run_that_a_table_rule_stops_still_has_its_report_so_far(
    tracking: Path, limit: pytest.MonkeyPatch
) -> None:
    raw = write_raw(tracking / "raw", churn_label=[label("C1", 1), label("C2", "maybe")])
    with pytest.raises(ContractError, match="1 of 2 rows"):
        data.etl(raw, lake=Lake(tracking / "lake"), as_of=AS_OF)
    home = mlflow.get_experiment_by_name(installed().experiment_name)
    assert home is not None
    run = MlflowClient().search_runs([home.experiment_id])[0]
    assert run.info.status == "FAILED"
    assert run.data.metrics["quality.churn_label.quarantined.unreadable.churn"] == 1
    report = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/quality.json")
    assert report["churn_label"]["rows_in"] == 2
    page = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/quality.md")
    assert "| churn_label | in quarantine | unreadable.churn | 1 |" in page
    assert "C2" not in json.dumps(report) + page
