"""The Spark engine itself: hours in every type that the contract takes, sessions, and what is said without Spark."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from spanishgas.errors import ContractError, SpanishGasError
from spanishgas.etl import calendar, engine_spark, rollup
from spanishgas.etl.engine import duckdb
from spanishgas.etl.engines import Engine, connect
from spanishgas.etl.hours import open_hours
from spanishgas.etl.rollup import hours_of
from spanishgas.etl.source import open_source

AS_OF = date(2024, 12, 31)
HOURS = calendar.hours(AS_OF)["hour"]

spark = pytest.mark.spark


def table(hours: pd.Series, **columns: Any) -> pa.Table:
    count = len(hours)
    given = {
        "customer_id": ["C1"] * count,
        "timestamp": hours.to_numpy("datetime64[us]"),
        "consumption_elec_kwh": np.random.default_rng(1).lognormal(0, 2, count),
        "consumption_gas_m3": np.random.default_rng(2).lognormal(-4, 2, count),
    }
    return pa.table(given | columns)


def put(folder: Path, *parts: pa.Table) -> Path:
    """A raw folder that holds these parts of the hours."""
    home = folder / "consumption_hourly_2024"
    home.mkdir(parents=True)
    for i, part in enumerate(parts):
        pq.write_table(part, home / f"{i}.parquet")
    return folder


def on_duckdb(raw: Path) -> list[pd.DataFrame]:
    with duckdb() as engine:
        hours = open_hours(open_source(raw), engine)
        return frames(rollup.roll_up(hours, AS_OF, engine), engine)


def on_spark(raw: Path) -> list[pd.DataFrame]:
    with engine_spark.spark() as engine:
        return frames(hours_of(open_source(raw), AS_OF, engine), engine)


def frames(rolled: rollup.RollUp, engine: Engine) -> list[pd.DataFrame]:
    """Customer-months and counts."""
    tables = rollup.customer_months(rolled.slots, AS_OF), rolled.counts
    both = [engine.fetch(table).to_pandas() for table in tables]
    return [f.sort_values(list(f.columns), ignore_index=True)[sorted(f.columns)] for f in both]


def assert_same(raw: Path) -> None:
    for ours, theirs in zip(on_spark(raw), on_duckdb(raw), strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True, check_dtype=False)


@spark
def test_hours_roll_up_to_the_same_bits_whatever_is_odd_about_them(session: Any, tmp_path: Path) -> None:
    clean = table(HOURS)
    few = HOURS[:6]
    odd = [
        table(
            few, customer_id=["C1"] * 6, consumption_elec_kwh=[9e5, -1.0, None, 0.1, 0.2, 0.3]
        ),  # copies of C1's
        table(few, customer_id=["C2", "C2", None, "", " ", "C3"]),
        table(few + pd.Timedelta(minutes=30), customer_id=["C2"] * 6),  # between two hours
        table(few - pd.Timedelta(days=400), customer_id=["C4"] * 6),  # outside the window
        table(few, customer_id=["C5"] * 6, timestamp=pa.nulls(6, pa.timestamp("us"))),
    ]
    assert_same(put(tmp_path, clean, clean.set_column(0, "customer_id", [["C6"] * len(HOURS)]), *odd))


@spark
@pytest.mark.parametrize(
    "columns",
    [
        {"timestamp": pa.array(HOURS[:5].to_numpy("datetime64[ns]"))},
        {"timestamp": pa.array(HOURS[:5].to_numpy("datetime64[ms]"))},
        {"consumption_elec_kwh": pa.array([1, 2, 3, 4, None], pa.int32())},
        {"consumption_gas_m3": pa.array([1.5, 2.25, 0, 4, None], pa.float32())},
        {"consumption_gas_m3": pa.array([1, 2, 0, 4, None], pa.int64()).cast(pa.decimal128(22, 3))},
        {"customer_id": pa.array(["C1", "C1", "C2", "C2", None]).dictionary_encode()},
        {
            "timestamp": pa.array(
                ["2024-01-10 10:00:00", "2024-01-10T11:00", " 2024-3-4 1:00:00.5 ", "2024-05", "no time"]
            )
        },
    ],
    ids=["nanoseconds", "milliseconds", "integers", "float32", "decimals", "dictionary", "text"],
)
def test_hours_of_every_type_that_the_contract_takes_are_read_alike(
    session: Any, tmp_path: Path, columns: dict[str, pa.Array]
) -> None:
    assert_same(put(tmp_path, table(HOURS[5:9]), table(HOURS[:5], **columns)))


@spark
def test_hours_as_csv_and_under_other_names_are_read_alike(session: Any, tmp_path: Path) -> None:
    frame = table(HOURS[:9]).to_pandas().astype(object)
    frame.loc[[1, 4], "consumption_elec_kwh"] = ["1d", "none"]  # the first is a number to Spark alone
    frame.loc[2, "timestamp"] = "2024"  # and this a time
    frame.to_csv(tmp_path / "consumption_hourly_2024.csv", index=False)
    assert_same(tmp_path)
    renamed = table(HOURS[:9]).rename_columns({"timestamp": "Fecha `y` hora", "customer_id": "id cliente"})
    raw = put(tmp_path / "renamed", renamed)
    columns = {"timestamp": "Fecha `y` hora", "customer_id": "id cliente"}
    (raw / "mapping.yaml").write_text(yaml.safe_dump({"consumption_hourly_2024": {"columns": columns}}))
    assert_same(raw)


@spark
def test_a_page_that_cannot_be_decoded_is_a_contract_error_that_names_the_file(
    session: Any, tmp_path: Path
) -> None:
    raw = put(tmp_path, table(HOURS))
    file = next(raw.rglob("*.parquet"))
    whole = bytearray(file.read_bytes())
    whole[1000:60000] = b"\xff" * 59000
    file.write_bytes(whole)
    with pytest.raises(ContractError, match="cannot be read as Parquet"), engine_spark.reading(file):
        on_spark(raw)


@spark
def test_a_table_of_many_rows_is_written_in_parts_in_the_order_of_its_key(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_spark, "ROWS_PER_PART", 300)
    frame = pd.DataFrame({"customer_id": [f"C{i:04d}" for i in range(1000)], "month": "2024-01", "x": 0.5})
    with engine_spark.spark() as engine:
        given = pa.Table.from_pandas(frame.sample(frac=1, random_state=1), preserve_index=False)
        taken = engine.import_table("given", given)
        engine.write(engine.materialize("held", taken, by=["customer_id", "month"]), tmp_path)
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == [f"part-{i:05d}.parquet" for i in range(4)]
    assert all(0 < pq.read_metadata(part).num_rows < 600 for part in parts)
    pd.testing.assert_frame_equal(pd.concat([pd.read_parquet(p) for p in parts], ignore_index=True), frame)


@spark
def test_a_session_that_was_there_stays_open_and_keeps_its_own_settings_and_views(session: Any) -> None:
    session.conf.set("spark.sql.session.timeZone", "Europe/Madrid")
    with engine_spark.spark() as engine:
        engine.import_table("mine", pa.table({"x": [1]}))
        assert engine.session.conf.get("spark.sql.session.timeZone") == "UTC"
    assert session.conf.get("spark.sql.session.timeZone") == "Europe/Madrid"
    assert not session.catalog.tableExists("mine")
    assert session.sql("SELECT 1").count() == 1


def test_without_pyspark_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(SpanishGasError, match="not installed: install Java 17 and the extra 'spark'"),
        connect("spark"),
    ):
        pass


@spark
def test_without_java_the_message_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "bash").symlink_to(shutil.which("bash") or "/bin/bash")
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    script = """
from spanishgas.errors import SpanishGasError
from spanishgas.etl.engines import connect
try:
    connect("spark").__enter__()
except SpanishGasError as fault:
    print(fault)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment | {"PATH": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("Spark does not start"), done.stderr
    assert "install Java 17 and the extra 'spark'" in done.stdout
