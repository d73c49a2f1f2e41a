"""Exports in the dialects of utilities: what Spark makes of them is what DuckDB makes of them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spanishgas.etl.build import build
from spanishgas.lake import Lake
from tests import dialects
from tests.raw_builder import write_raw

pytestmark = pytest.mark.spark


@pytest.mark.parametrize(
    "name",
    ["spanish_csv", "quarter_hours", "utc", "winter_time_all_year_in_watt_hours", "corrections_in_a_folder"],
)
def test_a_dialect_gives_the_same_months_and_the_same_report_on_both_engines(
    tmp_path: Path, session: Any, name: str
) -> None:
    frames = dialects.read_plain(write_raw(tmp_path / "plain"))
    stamps = pd.date_range("2024-03-01", periods=24 * 60, freq="h").as_unit("us")
    readings = {dialects.ELEC: [n % 97 / 8 for n in range(len(stamps))], dialects.GAS: 0.5}
    frames[dialects.HOURS] = pd.DataFrame({"customer_id": "C1", "timestamp": stamps, **readings})
    raw = dialects.write(name, frames, tmp_path / "raw")
    spark, duckdb = (
        build(raw, Lake(tmp_path / engine), date(2024, 12, 31), engine=engine)
        for engine in ("spark", "duckdb")
    )
    digests = [r.snapshots["bronze_customer_month"].manifest.digest for r in (spark, duckdb)]
    assert digests[0] == digests[1]
    assert spark.quality[dialects.HOURS] == duckdb.quality[dialects.HOURS]
