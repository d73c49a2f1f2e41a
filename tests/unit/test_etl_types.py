"""Every Parquet type and layout is read right, by DuckDB as by Arrow, or refused by file, column and type."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spanishgas.contracts import contract
from spanishgas.contracts.fields import Kind
from spanishgas.errors import ContractError
from spanishgas.etl.build import build
from spanishgas.etl.engine import DuckEngine, duckdb
from spanishgas.etl.hours import open_hours, parts_of
from spanishgas.etl.parquet import fits
from spanishgas.etl.quality import Audit, Quality
from spanishgas.etl.raw import read
from spanishgas.etl.source import open_source, read_text
from spanishgas.lake import Lake
from spanishgas.raw_files import HOURS
from tests import parquet_types as types
from tests.raw_builder import write_raw

ROWS = 20
FITTING = {
    "customer_id": {**types.TEXTS, **types.INTEGERS},
    "timestamp": types.MOMENTS,
    "consumption_elec_kwh": {**types.NUMBERS, **types.TEXTS},
}
PLAIN = {
    "customer_id": types.TEXTS["string"],
    "timestamp": types.MOMENTS["timestamp[us]"],
    "consumption_elec_kwh": types.FLOATS["float64"],
    "consumption_gas_m3": types.FLOATS["float64"],
}
HOUR_CASES = [(column, name) for column in FITTING for name in types.TYPES]


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    with duckdb() as opened:
        yield opened


def hours_with(folder: Path, **columns: pa.Array) -> Path:
    folder.mkdir(exist_ok=True)
    table = pa.table({name: make(ROWS) for name, make in PLAIN.items()} | columns)
    pq.write_table(table, folder / f"{HOURS}.parquet")
    return folder


def as_read(folder: Path, engine: DuckEngine) -> pd.DataFrame:
    hours = open_hours(open_source(folder), engine)
    frame: pd.DataFrame = engine.fetch(hours.select("customer_id", "hour", "elec", "gas")).to_pandas()
    return frame


@pytest.mark.parametrize(("column", "name"), HOUR_CASES)
def test_a_type_of_the_hours_is_read_right_or_refused_by_name(
    tmp_path: Path, engine: DuckEngine, column: str, name: str
) -> None:
    values = types.TYPES[name](ROWS)
    raw = hours_with(tmp_path / "raw", **{column: values})
    if name in FITTING[column] or (column == "timestamp" and name in types.TEXTS):
        found = as_read(raw, engine)
        assert set(found["customer_id"]) == {"1"}
        assert set(found["elec"]) == {1.0}
        assert set(found["hour"].dropna()) <= {pd.Timestamp(types.MOMENT)}
        assert found["hour"].isna().all() == (name in types.TEXTS and column == "timestamp")
    else:
        kind = pq.read_schema(raw / f"{HOURS}.parquet").field(column).type
        with pytest.raises(ContractError) as refused:
            as_read(raw, engine)
        assert f"{HOURS}.parquet breaks its contract:\n  - column '{column}' is {kind}, expected" in str(
            refused.value
        )


@pytest.mark.parametrize("layout", types.LAYOUTS)
def test_a_layout_of_the_hours_changes_nothing(tmp_path: Path, engine: DuckEngine, layout: str) -> None:
    raw = hours_with(tmp_path)
    table = pq.read_table(raw / f"{HOURS}.parquet")
    pq.write_table(table, raw / f"{HOURS}.parquet", **types.LAYOUTS[layout])
    pd.testing.assert_frame_equal(as_read(raw, engine), table.set_column(
        1, "hour", table["timestamp"]).rename_columns(["customer_id", "hour", "elec", "gas"]).to_pandas(),
        check_dtype=False)  # fmt: skip


def test_empty_row_groups_and_field_ids_change_nothing(tmp_path: Path, engine: DuckEngine) -> None:
    raw = hours_with(tmp_path)
    table = pq.read_table(raw / f"{HOURS}.parquet")
    numbered = [f.with_metadata({"PARQUET:field_id": str(7 - place)}) for place, f in enumerate(table.schema)]
    table = table.cast(pa.schema(numbered))
    with pq.ParquetWriter(raw / f"{HOURS}.parquet", table.schema) as writer:
        for rows in (0, 5, 0, ROWS - 5):
            writer.write_table(table.slice(0, rows))
    assert len(as_read(raw, engine)) == ROWS


@pytest.mark.parametrize("wide", types.WIDE)
def test_a_decimal_wider_than_an_engine_holds_is_refused_and_not_multiplied(
    tmp_path: Path, engine: DuckEngine, wide: str
) -> None:
    raw = hours_with(tmp_path, consumption_elec_kwh=types.WIDE[wide](ROWS))
    with pytest.raises(ContractError, match="decimals: of up to 38 digits"):
        as_read(raw, engine)


SMALL = {
    "customer_id": ("customer_attributes", {**types.TEXTS, **types.INTEGERS}),
    "contracted_power_kw": ("customer_attributes", {**types.TEXTS, **types.NUMBERS}),
    "province_code": ("customer_attributes", {**types.TEXTS, **types.NUMBERS}),
    "region": ("customer_attributes", {**types.TEXTS, **types.NUMBERS}),
    "is_urban": ("customer_attributes", {**types.TEXTS, **types.NUMBERS, **types.FLAGS}),
    "contract_start_date": ("customer_contracts", {**types.TEXTS, **types.DAYS, **types.MOMENTS}),
}


@pytest.mark.parametrize("column", SMALL)
def test_each_type_of_a_small_table_is_read_right_or_refused_by_name(tmp_path: Path, column: str) -> None:
    table, fitting = SMALL[column]
    field, file = contract(table).fields[column], tmp_path / f"{table}.parquet"
    for name, make in types.TYPES.items():
        pq.write_table(pa.table({column: make(ROWS)}), file)
        if name in fitting:
            [text] = set(read_text(file, [column], fields={column: field})[column].to_pylist())
            day = field.kind is Kind.DAY and name not in types.TEXTS
            assert text == str(types.DAY) if day else float(text) == 1, name
        else:
            with pytest.raises(ContractError) as refused:
                read_text(file, [column], fields={column: field})
            kind = pq.read_schema(file).field(column).type
            assert f"{file.name} breaks its contract:\n  - column '{column}' is {kind}" in str(refused.value)


@pytest.mark.parametrize("kind", [pa.null(), pa.float64(), pa.list_(pa.int8()), pa.timestamp("us", "UTC")])
def test_a_column_without_any_value_may_have_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    file, field = tmp_path / "x.parquet", contract("customer_attributes").fields["region"]
    pq.write_table(pa.table({"region": pa.nulls(ROWS, kind)}), file)
    assert set(read_text(file, ["region"], fields={"region": field})["region"].to_pylist()) == {None}


def test_every_type_of_the_table_has_its_say_for_every_kind_of_field() -> None:
    kinds = {name: make(1).type for name, make in types.TYPES.items()}
    fields = contract(HOURS).fields
    taken = {column: {n for n, kind in kinds.items() if fits(kind, fields[column])} for column in FITTING}
    assert taken["customer_id"] == set(FITTING["customer_id"])
    assert taken["timestamp"] == {*types.MOMENTS, *types.TEXTS}
    assert taken["consumption_elec_kwh"] == set(FITTING["consumption_elec_kwh"])


# --- files that are no parts

LEFT = (
    "~$part-0.parquet",
    "_temporary/0/task_1/part-0.parquet",
    ".part.parquet",
    "_SUCCESS",
    ".part-0.parquet.crc",
    "a/.b/c.parquet",
)


def test_what_a_killed_writer_left_is_no_part_and_changes_no_digest(
    tmp_path: Path, engine: DuckEngine
) -> None:
    raw, folder = tmp_path / "raw", tmp_path / "raw" / HOURS
    hours_with(raw)
    folder.mkdir()
    (raw / f"{HOURS}.parquet").rename(folder / "part-0.PARQUET")
    before = open_source(raw).digests
    for name in LEFT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((folder / "part-0.PARQUET").read_bytes() if "parquet" in name else b"")
    source = open_source(raw)
    assert parts_of(source) == [folder / "part-0.PARQUET"]
    assert len(as_read(raw, engine)) == ROWS
    assert source.digests == before


@pytest.mark.parametrize("name", ["churn_label.CSV", "churn_label.snappy.parquet", "Churn_label.csv"])
def test_a_file_beside_the_one_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / "churn_label.csv").rename(raw / name)
    with pytest.raises(ContractError) as refused:
        open_source(raw).present("churn_label")
    assert f"the file is missing, but {name} lies there" in str(refused.value)
    assert "churn_label.csv or churn_label.csv.gz or churn_label.parquet" in str(refused.value)


# --- texts


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2024-02-01 03:00", 3),
        ("2024-02-01T03:00:00", 3),
        ("2024-02-01 03:00:00.000", 3),
        ("2024-02-01", 0),
        ("2024-02-01T03:00:00Z", None),
        ("2024-02-01T03:00:00z", None),
        ("2024-02-01 03:00:00+01:00", None),
        ("2024-02-01 03:00:00 +0100", None),
        ("2024-02-01 03:00-05", None),
        ("2024-02-01 03:00 UTC", None),
        ("2024-02-01 03:00 Europe/Madrid", None),
    ],
)
def test_a_text_with_a_zone_is_no_time_of_a_reading(
    tmp_path: Path, engine: DuckEngine, text: str, hour: int | None
) -> None:
    raw = hours_with(tmp_path, timestamp=pa.array([text] * ROWS))
    found = as_read(raw, engine)["hour"]
    assert found.isna().all() if hour is None else set(found) == {pd.Timestamp(datetime(2024, 2, 1, hour))}


@pytest.mark.parametrize(
    "text", ["2024-11-15T23:30:00Z", "2024-11-15 23:30+02:00", "2024-11-15T23:30:00 UTC"]
)
def test_a_text_with_a_zone_is_no_day_of_a_contact(tmp_path: Path, engine: DuckEngine, text: str) -> None:
    raw = write_raw(tmp_path / "raw")
    file = raw / "customer_interactions.json"
    file.write_text(file.read_text().replace("2024-11-15", text))
    quality = Quality()
    read(open_source(raw), Audit(engine, quality))
    assert quality.count("customer_interactions", "quarantined.unreadable.date") == 1


@pytest.mark.parametrize(
    ("customer_id", "rule"),
    [
        *((word, "total") for word in ("TOTAL", "Total general", "SUM", "suma", "Gesamtsumme", "Grand total:")),
        ("customer_id", "repeated_header"),
        ("CUSTOMER_ID", "repeated_header"),
    ],
)  # fmt: skip
def test_a_row_of_no_customer_goes_to_quarantine_under_its_rule(
    tmp_path: Path, engine: DuckEngine, customer_id: str, rule: str
) -> None:
    raw, quality = write_raw(tmp_path / "raw"), Quality()
    for name, rest in (("churn_label", ",1"), ("customer_attributes", ",9.2,0,0,28,Madrid,1,1,oficina")):
        with (raw / f"{name}.csv").open("a") as file:
            file.write(f"{customer_id}{rest}\n")
    _, known = read(open_source(raw), Audit(engine, quality))
    assert sorted(engine.fetch(known)["customer_id"].to_pylist()) == ["C1", "C2", "C3"]
    assert quality.count("churn_label", f"quarantined.{rule}") == 1
    assert quality.count("customer_attributes", f"quarantined.{rule}") == 1


@pytest.mark.parametrize("customer_id", ["SUM-0001", "TOTAL1", "Sumner", "C1"])
def test_an_id_that_only_begins_like_a_total_stays_a_customer(
    tmp_path: Path, engine: DuckEngine, customer_id: str
) -> None:
    raw, quality = write_raw(tmp_path / "raw"), Quality()
    with (raw / "churn_label.csv").open("a") as file:
        file.write(f"{customer_id},0\n")
    _, known = read(open_source(raw), Audit(engine, quality))
    assert customer_id in engine.fetch(known)["customer_id"].to_pylist()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '{"a": 1}', '["a"]'])
def test_json_that_is_no_plain_value_is_refused(tmp_path: Path, value: str) -> None:
    raw = write_raw(tmp_path / "raw")
    file = raw / "customer_interactions.json"
    file.write_text(file.read_text().replace('"telefono"', value))
    with pytest.raises(
        ContractError, match=r"customer_interactions\.json breaks its contract:\n  - cannot be read: "
    ):
        open_source(raw).text("customer_interactions")


def test_no_byte_of_a_line_break_within_quotes_is_lost(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    header, row = (raw / "customer_attributes.csv").read_text().splitlines()[:2]
    regions = [f"{'x' * (number % 57)}\r\ny" for number in range(60_000)]
    lines = [row.replace("C1", f"C{n}").replace("Madrid", f'"{region}"') for n, region in enumerate(regions)]
    (raw / "customer_attributes.csv").write_bytes("\r\n".join([header, *lines, ""]).encode())
    assert open_source(raw).text("customer_attributes")["region"].to_pylist() == regions


@pytest.mark.usefixtures("strict")
def test_a_reading_that_is_no_number_is_shown_as_it_was_written(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    frame = pd.read_parquet(raw / f"{HOURS}.parquet")
    (raw / f"{HOURS}.parquet").unlink()
    frame.assign(consumption_elec_kwh="0,523").to_csv(raw / f"{HOURS}.csv", index=False)
    with pytest.raises(ContractError, match="for example '0,523'"):
        build(raw, Lake(tmp_path / "lake"), date(2024, 12, 31))
