"""Bad input: each ends with one message that names file, column, rows and an example, and publishes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spanishgas.errors import ContractError, SpanishGasError, UsageError
from spanishgas.etl.build import build
from spanishgas.lake import RAW_FILES, Lake
from tests.raw_builder import attributes, contract, hour, price, rows, write_raw

AS_OF = date(2024, 12, 31)
HOURS = "consumption_hourly_2024.parquet"


def refusal(raw: Path, lake: Path) -> str:
    """The message of a build that must fail; nothing may stand in the lake afterwards."""
    with pytest.raises(SpanishGasError) as refused:
        build(raw, Lake(lake), AS_OF)
    assert not list(lake.rglob("*.parquet"))
    return str(refused.value)


def edit(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def apply(raw: Path) -> None:
        (raw / name).write_bytes(change((raw / name).read_text()).encode("utf-8"))

    return apply


def hours(frame: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def apply(raw: Path) -> None:
        frame(pd.read_parquet(raw / HOURS)).to_parquet(raw / HOURS, index=False)

    return apply


@pytest.mark.parametrize("table", [name for name in RAW_FILES if name != "churn_label"])
def test_a_missing_file_is_named(tmp_path: Path, table: str) -> None:
    message = refusal(write_raw(tmp_path / "raw", omit=[table]), tmp_path / "lake")
    assert f"{RAW_FILES[table]} breaks its contract:\n  - the file is missing" in message
    assert str(tmp_path / "raw") in message


def test_a_missing_folder_and_an_unknown_engine_are_the_callers_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'nowhere' does not exist"):
        build(Path("nowhere"), Lake(tmp_path), AS_OF)
    with pytest.raises(UsageError, match="Did you mean 'duckdb'"):
        build(tmp_path, Lake(tmp_path), AS_OF, engine="duckbd")


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing column": (
        edit("customer_attributes.csv", lambda t: t.replace("is_urban", "urban")),
        "missing column 'is_urban'",
    ),
    "column twice": (
        edit("churn_label.csv", lambda t: t.replace("customer_id,churn", "churn,churn")),
        "column 'churn' stands 2 times",
    ),
    "number": (
        edit("customer_attributes.csv", lambda t: t.replace("4.6", "a lot")),
        "1 rows in column 'contracted_power_kw' are not a number, for example 'a lot'",
    ),
    "infinite number": (
        edit("price_history.csv", lambda t: re.sub("C1,(2024-0.)-01,0.2,", r"C1,\1-01,inf,", t)),
        "9 rows in column 'variable_price_tier1_eur_kwh' are not a number, for example 'inf'",
    ),
    "negative price": (
        edit("price_history.csv", lambda t: re.sub("C1,(2024-0.)-01,0.2,", r"C1,\1-01,-0.2,", t)),
        "9 rows in column 'variable_price_tier1_eur_kwh' are not between 0 and 1e+09, for example '-0.2'",
    ),
    "flag out of range": (
        edit("churn_label.csv", lambda t: t.replace("C2,1", "C2,2")),
        "1 rows in column 'churn' are not between 0 and 1, for example '2'",
    ),
    "flag between": (
        edit("churn_label.csv", lambda t: t.replace("C2,1", "C2,0.4")),
        "1 rows in column 'churn' are not a flag (0 or 1), for example '0.4'",
    ),
    "province": (
        edit("customer_attributes.csv", lambda t: t.replace(",28,", ",Madrid,")),
        "3 rows in column 'province_code' are not a whole number, for example 'Madrid'",
    ),
    "month": (
        edit("costs_by_province_month.csv", lambda t: t.replace("2024-02", "2024-13")),
        "1 rows in column 'month' are not a month (YYYY-MM), for example '2024-13'",
    ),
    "price date": (
        edit("price_history.csv", lambda t: re.sub("C1,2024-0.-01", "C1,January", t)),
        "9 rows in column 'pricing_date' are not a date (YYYY-MM-DD), for example 'January'",
    ),
    "most dates": (
        edit("customer_contracts.csv", lambda t: t.replace("2025-03-01", "01.03.2025")),
        "3 rows in column 'next_renewal_date' are not a date (YYYY-MM-DD), for example '01.03.2025'",
    ),
    "ragged": (
        edit("churn_label.csv", lambda t: t + "C9,1,5\n"),
        "churn_label.csv breaks its contract:\n  - cannot be read",
    ),
    "empty": (edit("churn_label.csv", lambda t: ""), "missing column 'customer_id'"),
    "not utf-8": (
        lambda raw: (raw / "customer_attributes.csv").write_bytes(b"customer_id\xff\xfe"),
        "customer_attributes.csv breaks its contract:\n  - cannot be read",
    ),
    "not json": (
        edit("customer_interactions.json", lambda t: t[:-2]),
        "customer_interactions.json breaks its contract",
    ),
    "no list": (edit("customer_interactions.json", lambda t: '"a"'), "expected a list of records"),
    "no text": (
        edit("customer_interactions.json", lambda t: t.replace('"2024-11-15"', "1731628800000")),
        "1 rows in column 'date' are not a date (YYYY-MM-DD), for example '1731628800000'",
    ),
    "json column": (
        edit("customer_interactions.json", lambda t: t.replace("date", "day")),
        "missing column 'date'",
    ),
    "hours column": (
        hours(lambda f: f.drop(columns="consumption_gas_m3")),
        "missing column 'consumption_gas_m3'",
    ),
    "hours type": (
        hours(lambda f: f.astype({"consumption_gas_m3": bool})),
        "column 'consumption_gas_m3' is bool, expected a number",
    ),
    "time zone": (
        hours(lambda f: f.assign(timestamp=f["timestamp"].dt.tz_localize("UTC"))),
        "expected a timestamp without time zone",
    ),
    "infinite reading": (
        hours(lambda f: f.assign(consumption_elec_kwh=np.inf)),
        "rows in column 'consumption_elec_kwh' are not between any number and 9.22337e+06",
    ),
    "no times": (hours(lambda f: f.assign(timestamp="noon")), "rows in column 'timestamp' are not a time"),
    "no parquet": (lambda raw: (raw / HOURS).write_text("hello"), "cannot be read as Parquet"),
    "cut parquet": (
        lambda raw: (raw / HOURS).write_bytes((raw / HOURS).read_bytes()[:-9]),
        "cannot be read as Parquet",
    ),
}


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_breaks_its_contract_is_refused_in_words(tmp_path: Path, fault: str) -> None:
    spoil, words = FAULTS[fault]
    raw = write_raw(tmp_path / "raw")
    spoil(raw)
    assert words in refusal(raw, tmp_path / "lake")


def test_a_spoilt_page_in_the_middle_of_the_hours_is_a_contract_error(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    data = bytearray((raw / HOURS).read_bytes())
    data[60:400] = b"\xff" * 340
    (raw / HOURS).write_bytes(data)
    with pytest.raises(ContractError, match="cannot be read as Parquet"):
        build(raw, Lake(tmp_path / "lake"), AS_OF)


def test_layout_of_the_files_changes_nothing(tmp_path: Path) -> None:
    plain = build(write_raw(tmp_path / "plain"), Lake(tmp_path / "a"), AS_OF).snapshots["gold_master"]
    raw = write_raw(tmp_path / "odd")
    for file in raw.glob("*.csv"):
        frame = pd.read_csv(file, dtype=str, keep_default_na=False).assign(note="x, y")
        text = frame[frame.columns[::-1]].to_csv(index=False, lineterminator="\r\n")
        file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    records = json.loads((raw / "customer_interactions.json").read_text())
    text = json.dumps([dict(reversed({**record, "agent": 7}.items())) for record in records], indent=2)
    (raw / "customer_interactions.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    frame = pd.read_parquet(raw / HOURS)
    (raw / HOURS).unlink()
    (raw / "consumption_hourly_2024").mkdir()
    frame = frame.assign(timestamp=frame["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S"), site=1)
    frame.iloc[:50].to_parquet(raw / "consumption_hourly_2024" / "a.parquet", index=False)
    frame.iloc[50:, ::-1].to_parquet(raw / "consumption_hourly_2024" / "b.parquet", index=False)
    odd = build(raw, Lake(tmp_path / "b"), AS_OF).snapshots["gold_master"]
    assert odd.manifest.digest == plain.manifest.digest


def test_files_with_headers_alone_give_empty_tables(tmp_path: Path) -> None:
    empty = {name: pd.DataFrame(columns=list(example[0])) for name, example in rows().items()}
    empty["consumption_hourly_2024"] = pd.DataFrame([hour()]).iloc[:0]
    report = build(write_raw(tmp_path / "raw", **empty), Lake(tmp_path / "lake"), AS_OF)
    assert {s.manifest.rows for s in report.snapshots.values()} == {0}


def test_quoted_text_with_commas_and_line_breaks_stays_one_value(tmp_path: Path) -> None:
    people = [attributes("C1", region='Ciudad "Real",\nsur')]
    raw = write_raw(
        tmp_path / "raw", customer_attributes=people, customer_contracts=[contract()], price_history=[price()]
    )
    table = build(raw, Lake(tmp_path / "lake"), AS_OF).snapshots["bronze_customer"].pandas()
    assert table.set_index("customer_id").loc["C1", "region"] == 'Ciudad "Real",\nsur'
