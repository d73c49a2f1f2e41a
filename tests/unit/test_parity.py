"""The ETL against an independent computation of the feature dictionary, column by column, on dirty files."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from spanishgas.etl.build import build
from spanishgas.lake import Lake
from tests.oracle import gold as oracle
from tests.oracle.comparison import assert_equal_columns
from tests.oracle.dirty import write_dirty_raw


@pytest.mark.parametrize(
    ("seed", "as_of"),
    [
        pytest.param(1, date(2024, 12, 31), marks=pytest.mark.slow),
        pytest.param(2, date(2024, 12, 31), marks=pytest.mark.slow),
        (3, date(2025, 3, 15)),
    ],
)
def test_gold_and_silver_agree_with_an_independent_computation_of_the_dictionary(
    tmp_path: Path, seed: int, as_of: date
) -> None:
    raw = tmp_path / "raw"
    write_dirty_raw(raw, customers=80, seed=seed, as_of=as_of)
    built = build(raw, Lake(tmp_path / "lake"), as_of).snapshots
    gold = built["gold_master"].pandas().sort_values("customer_id", ignore_index=True)
    expected = oracle.gold(raw, as_of)
    assert list(gold["customer_id"]) == list(expected["customer_id"])
    assert_equal_columns(gold, expected)
    months = built["silver_customer_month"].pandas().sort_values(["customer_id", "month"], ignore_index=True)
    expected_months = oracle.silver_customer_month(raw, as_of)
    assert list(months["month"]) == list(expected_months["month"])
    both = [c for c in expected_months.columns if c in months.columns]
    assert len(both) > 30
    assert_equal_columns(months, expected_months[both])
