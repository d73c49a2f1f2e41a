"""Contracts: every difference is named, and what keeps the contract passes untouched."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import ibis
import pandas as pd
import pytest

from spanishgas import contracts
from spanishgas.config.policy import ACTIONS, RISK_TIERS, TIMINGS
from spanishgas.config.tiers import read_tiers
from spanishgas.contracts.tables import CHANNELS, DERIVED, LARGEST_READING, RAW
from spanishgas.errors import ContractError, UsageError
from spanishgas.lake import LAYERS, RAW_FILES


def scores(**columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "customer_id": ["C1", "C2"],
            "churn_probability": [0.1, 0.9],
            "churn_flag": [0, 1],
            "risk_tier": ["Low", "Critical"],
            "expected_monthly_loss": [0.0, 3.5],
            "in_training": [True, False],
            "model_version": ["3", "3"],
            "as_of": [date(2024, 12, 31)] * 2,
        }
    )
    return frame.assign(**columns)


def recommendations(**columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "customer_id": ["C1"],
            "risk_score": [0.7],
            "risk_tier": ["High"],
            "segment": ["SME"],
            "action": ["offer_small"],
            "timing_window": ["immediate"],
            "offer_budget": [2.0],
            "expected_margin_impact": [1.0],
            "reason_codes": [["months to renewal"]],
            "model_version": ["3"],
            "as_of": [date(2024, 12, 31)],
            "expected_monthly_loss": [3.5],
            "probability_low": [0.6],
            "probability_high": [0.8],
        }
    )
    return frame.assign(**columns)


def faults(table: str, frame: pd.DataFrame) -> str:
    with pytest.raises(ContractError) as broken:
        contracts.check_pandas(table, frame)
    return str(broken.value)


def test_every_table_of_the_design_has_a_contract() -> None:
    assert set(RAW) == set(RAW_FILES)
    assert {*DERIVED, "gold_master"} == set(LAYERS)
    assert len(contracts.contract("gold_master").fields) == 70


def test_an_unknown_table_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="Did you mean 'gold_master'"):
        contracts.contract("gold_masters")


def test_tables_that_keep_their_contract_come_back_unchanged() -> None:
    for table, frame in {"scores": scores(), "recommendations": recommendations()}.items():
        pd.testing.assert_frame_equal(contracts.check_pandas(table, frame.copy()), frame)


def test_columns_missing_unexpected_and_of_another_type_are_listed_together() -> None:
    frame = scores(churn_flag=["a", "b"], note=1).drop(columns="risk_tier")
    message = faults("scores", frame)
    assert "scores breaks its contract:" in message
    assert "missing column 'risk_tier'" in message
    assert "unexpected column 'note'" in message
    assert "column 'churn_flag' is string, expected int64" in message


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("churn_probability", [0.2, 1.5], "1 rows above 1 in column 'churn_probability', for example 1.5"),
        ("churn_probability", [-0.5, -0.1], "2 rows below 0 in column 'churn_probability', for example -0.5"),
        ("churn_probability", [0.5, None], "1 rows without a value in column 'churn_probability'"),
        ("churn_flag", [0, 2], "1 rows above 1 in column 'churn_flag', for example 2"),
        (
            "risk_tier",
            ["Low", "low"],
            f"1 rows not one of {', '.join(RISK_TIERS)} in column 'risk_tier', for example 'low'",
        ),
        ("customer_id", ["C1", "C1"], "1 rows repeat another row's (customer_id)"),
    ],
)
def test_rows_outside_what_is_allowed_are_counted_with_an_example(
    column: str, values: Any, words: str
) -> None:
    assert words in faults("scores", scores(**{column: values}))


def test_an_unknown_action_is_named() -> None:
    assert f"not one of {', '.join(ACTIONS)}" in faults("recommendations", recommendations(action="gift"))


def test_a_column_without_any_value_breaks_no_limit() -> None:
    contracts.check_pandas("scores", scores(expected_monthly_loss=pd.Series([None, None], dtype="float64")))


def test_a_raw_table_may_have_columns_of_its_own() -> None:
    frame = pd.DataFrame({"customer_id": ["C1"], "churn": [1], "note": ["x"]})
    contracts.check("churn_label", ibis.memtable(frame))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A: {title: t, features: {x: {kind: odd, words: w, definition: d}}}", "A.features.x.kind"),
        ("A: {title: t, features: {x: {kind: flag, words: w, definition: d, hue: 1}}}", "A.features.x.hue"),
        ("A: {title: t, features: {x: {kind: flag, words: w, definition: d, low: 1}}}", "A.features.x"),
        ("A: {title: t, features: {}, extra: 1}", "A.extra"),
        ("A: {title: t, features: {}}\nA: {title: u, features: {}}", "'A' stands twice"),
        ("A: [", "is not YAML"),
    ],
)
def test_a_wrong_key_of_the_data_dictionary_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "tiers.yaml").write_text(text)
    with pytest.raises(UsageError) as refused:
        read_tiers(tmp_path / "tiers.yaml")
    assert words in str(refused.value)


def test_a_feature_stands_in_one_tier_only(tmp_path: Path) -> None:
    row = "{kind: flag, words: w, definition: d}"
    (tmp_path / "t.yaml").write_text(
        f"A: {{title: t, features: {{x: {row}}}}}\nB: {{title: t, features: {{x: {row}}}}}"
    )
    with pytest.raises(UsageError, match="more than one tier: x"):
        read_tiers(tmp_path / "t.yaml")


def test_values_that_the_policy_names_are_those_that_the_tables_may_hold() -> None:
    treatments, recommended = (contracts.contract(name).fields for name in ("treatments", "recommendations"))
    assert recommended["action"].values == ACTIONS
    assert treatments["offer"].values == ACTIONS
    assert recommended["timing_window"].values == treatments["timing_window"].values == TIMINGS
    assert (
        recommended["risk_tier"].values
        == contracts.contract("scores").fields["risk_tier"].values
        == RISK_TIERS
    )


def test_channels_and_readings_are_declared_as_the_tables_hold_them() -> None:
    channels = contracts.contract("silver_customer").fields["sales_channel"].values
    assert channels == tuple(dict.fromkeys(CHANNELS.values()))
    readings = contracts.contract("consumption_hourly_2024").fields
    highest = {readings[name].high for name in ("consumption_elec_kwh", "consumption_gas_m3")}
    assert highest == {LARGEST_READING} == {2**63 / 1e12}


def test_every_column_of_a_raw_file_has_a_meaning_and_every_table_has_one() -> None:
    assert all(table.meaning for table in (*RAW.values(), *DERIVED.values()))
    assert all(field.meaning for table in RAW.values() for field in table.fields.values())
