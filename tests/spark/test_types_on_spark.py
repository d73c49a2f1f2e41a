"""What the schema rule lets through is read on Spark as on DuckDB, in every type and layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from spanishgas.etl import engine_spark
from spanishgas.etl.engines import connect
from spanishgas.etl.source import open_source
from tests import parquet_types as types
from tests.unit.test_etl_types import FITTING, HOURS, ROWS, hours_with

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("session")]
SOUND = {name: layout for name, layout in types.LAYOUTS.items() if name != "brotli"}
"""Spark ships no Brotli."""


def as_read(folder: Path) -> pd.DataFrame:
    with connect("spark") as engine:
        hours: Any = engine_spark.open_hours(open_source(folder), engine)  # type: ignore[arg-type]
        found: pd.DataFrame = engine.fetch(hours.select("customer_id", "hour", "elec", "gas")).to_pandas()
    return found


@pytest.mark.parametrize("column", FITTING)
def test_each_type_that_fits_is_read_right_on_spark(tmp_path: Path, column: str) -> None:
    for name, make in FITTING[column].items():
        found = as_read(hours_with(tmp_path / name.replace(" ", "_"), **{column: make(ROWS)}))
        assert set(found["customer_id"]) == {"1"}, name
        assert set(found["elec"]) == {1.0}, name
        assert set(found["hour"]) == {pd.Timestamp(types.MOMENT)}, name


def test_each_layout_is_read_right_on_spark(tmp_path: Path) -> None:
    for name, layout in SOUND.items():
        raw = hours_with(tmp_path / name.replace(" ", "_"))
        table = pq.read_table(raw / f"{HOURS}.parquet")
        pq.write_table(table, raw / f"{HOURS}.parquet", **layout)
        assert len(as_read(raw)) == ROWS, name
