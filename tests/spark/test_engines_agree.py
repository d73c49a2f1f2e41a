"""The ETL on Spark beside DuckDB and beside an independent computation: every column of every table, on dirty files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spanishgas import contracts
from spanishgas.etl.build import EtlReport, build
from spanishgas.lake import LAYERS, Lake
from tests.oracle import gold as oracle
from tests.oracle.comparison import assert_equal_columns
from tests.oracle.dirty import write_dirty_raw

pytestmark = pytest.mark.spark

TABLES = [name for name, layer in LAYERS.items() if layer not in ("scored", "experiments")]
CASES = [(1, date(2024, 12, 31)), (3, date(2025, 3, 15))]


@dataclass(frozen=True)
class Both:
    raw: Path
    as_of: date
    spark: EtlReport
    duckdb: EtlReport


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"seed {case[0]}, {case[1]}")
def both(request: pytest.FixtureRequest, session: Any, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """One build of dirty files on each engine."""
    (seed, as_of), folder = request.param, tmp_path_factory.mktemp("both")
    raw = folder / "raw"
    write_dirty_raw(raw, customers=80, seed=seed, as_of=as_of)
    reports = [build(raw, Lake(folder / name), as_of, engine=name) for name in ("spark", "duckdb")]
    return Both(raw, as_of, *reports)


def test_every_table_has_the_same_columns_of_the_same_types_in_the_same_order(both: Both) -> None:
    for name in TABLES:
        ours, theirs = both.spark.snapshots[name].manifest, both.duckdb.snapshots[name].manifest
        assert list(ours.columns.items()) == list(theirs.columns.items()), name
        assert ours.rows == theirs.rows > 0


def test_every_column_of_every_table_is_the_same_row_by_row_nulls_included(both: Both) -> None:
    for name in TABLES:  # in the order in which they are written: it is the same too
        assert_equal_columns(both.spark.snapshots[name].pandas(), both.duckdb.snapshots[name].pandas())


def test_up_to_silver_the_tables_are_the_same_to_the_last_bit(both: Both) -> None:
    same = [
        n
        for n in TABLES
        if both.spark.snapshots[n].manifest.digest == both.duckdb.snapshots[n].manifest.digest
    ]
    assert [name for name in TABLES if name not in same] in ([], ["gold_master"])


def test_gold_and_silver_agree_with_an_independent_computation_of_the_dictionary(both: Both) -> None:
    gold, expected = both.spark.snapshots["gold_master"].pandas(), oracle.gold(both.raw, both.as_of)
    assert list(gold["customer_id"]) == list(expected["customer_id"])
    assert_equal_columns(gold, expected)
    months = both.spark.snapshots["silver_customer_month"].pandas()
    expected = oracle.silver_customer_month(both.raw, both.as_of)
    assert list(months["month"]) == list(expected["month"])
    common = [c for c in expected.columns if c in months.columns]
    assert len(common) > 30
    assert_equal_columns(months, expected[common])


def test_the_quality_reports_are_the_same(both: Both) -> None:
    assert set(both.spark.quality) == set(both.duckdb.quality)
    for table, counts in both.duckdb.quality.items():
        ours = both.spark.quality[table]
        assert set(ours) == set(counts), table
        for name, value in counts.items():  # a count, a share, or an end of a range of numbers or dates
            assert ours[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9)), name


def test_the_same_rows_in_another_order_and_in_parts_give_the_same_digests(
    both: Both, tmp_path: Path
) -> None:
    raw, hours = tmp_path / "raw", "consumption_hourly_2024.parquet"
    raw.mkdir()
    for file in both.raw.iterdir():
        if file.suffix == ".csv":
            rows = pd.read_csv(file, dtype=str, keep_default_na=False).sample(frac=1, random_state=5)
            rows.to_csv(raw / file.name, index=False)
        elif file.suffix == ".json":
            (raw / file.name).write_bytes(file.read_bytes())
    shuffled = pd.read_parquet(both.raw / hours).sample(frac=1, random_state=5)
    (raw / "consumption_hourly_2024").mkdir()
    for part in range(3):
        shuffled.iloc[part::3].to_parquet(raw / "consumption_hourly_2024" / f"{part}.parquet", index=False)
    again = build(raw, Lake(tmp_path / "lake"), both.as_of, engine="spark")
    digests = [{n: s.manifest.digest for n, s in r.snapshots.items()} for r in (again, both.spark)]
    assert digests[0] == digests[1]


def test_tables_are_whole_parts_sorted_by_key(both: Both) -> None:
    for name in TABLES:
        snapshot = both.spark.snapshots[name]
        assert [file.name[:11] for file in snapshot.folder.glob("*.parquet")] == ["part-00000-"]
        frame = snapshot.pandas()
        key = list(contracts.contract(name).key) or list(frame.columns)
        pd.testing.assert_frame_equal(frame, frame.sort_values(key, ignore_index=True))
