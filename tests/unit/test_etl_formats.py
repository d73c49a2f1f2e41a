"""A format is read strictly, and each of its keys reads what it says and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from spanishgas.contracts.fields import Field, Kind
from spanishgas.errors import ContractError, UsageError
from spanishgas.etl import values
from spanishgas.etl.engine import DuckEngine, duckdb
from spanishgas.etl.formats import Format
from spanishgas.etl.hours import parts_of
from spanishgas.etl.mapping import read_mapping
from spanishgas.etl.source import open_source
from spanishgas.etl.validate import validate
from tests.raw_builder import hours_of, write_raw

HOURS = "consumption_hourly_2024"
ELEC = "consumption_elec_kwh"


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    with duckdb() as opened:
        yield opened


def made_of(engine: DuckEngine, texts: list[str | None], read: Any) -> list[Any]:
    """What an expression makes of texts."""
    table = engine.import_table("texts", pa.table({"text": pa.array(texts, pa.string())}))
    return engine.fetch(table.select(value=read(table.text)))["value"].to_pylist()


@pytest.mark.parametrize(
    ("how", "texts", "numbers"),
    [
        ({"decimal": ","}, ["1,5", "-0,25", "1.5", "1,5,0", ",5", "7"], [1.5, -0.25, None, None, 0.5, 7]),
        (
            {"decimal": ",", "thousands": "."},
            ["1.234,5", "1234,5", "12.34,5", "1.5", "1.234.567", "1,234"],
            [1234.5, 1234.5, None, None, 1234567, 1.234],
        ),
        ({"thousands": " "}, ["1 234.5", "12 34", " 7 "], [1234.5, None, 7]),
        ({"thousands": "'"}, ["1'234.5", "1,5"], [1234.5, None]),
    ],
)
def test_a_number_is_read_by_its_signs_and_no_other(
    engine: DuckEngine, how: dict[str, Any], texts: list[str | None], numbers: list[float | None]
) -> None:
    assert made_of(engine, texts, lambda text: values.number(text, Format(**how))) == numbers


def test_a_date_is_read_in_its_one_order(engine: DuckEngine) -> None:
    texts: list[str | None] = [
        "03/04/2024",
        "31/12/2024",
        "12/31/2024",
        "2024-04-03",
        "3/4/24",
        "03/04/2024 x",
    ]
    day, month = date(2024, 4, 3), date(2024, 12, 31)
    read = {form: Format(dates=form) for form in ("%d/%m/%Y", "%m/%d/%Y")}
    field = Field(Kind.DAY)
    ours = made_of(engine, texts, lambda text: values.parse(text, "date", field, read["%d/%m/%Y"]))
    assert ours == [day, month, None, None, None, None]
    theirs = made_of(engine, texts, lambda text: values.parse(text, "date", field, read["%m/%d/%Y"]))
    assert theirs == [date(2024, 3, 4), None, month, None, None, None]


@pytest.mark.parametrize(
    ("how", "text", "stamp"),
    [
        ({}, "2024-10-27T02:00:00+02:00", None),
        ({"clock": "offset"}, "2024-10-27T02:00:00+02:00", datetime(2024, 10, 27, 0)),
        ({"clock": "offset"}, "2024-10-27T02:00:00Z", datetime(2024, 10, 27, 2)),
        ({"clock": "offset"}, "2024-10-27T02:00:00", None),
        (
            {"clock": "offset", "dates": "%d/%m/%Y %H:%M%z"},
            "27/10/2024 02:00+01:00",
            datetime(2024, 10, 27, 1),
        ),
        ({"stamp": "end"}, "2024-10-27 24:00", datetime(2024, 10, 28)),
        ({}, "2024-10-27 24:00", datetime(2024, 10, 28)),
        ({}, "2024-10-27 25:00", None),
        ({"stamp": "end", "dates": "%d/%m/%Y %H:%M"}, "31/12/2024 24:00", datetime(2025, 1, 1)),
    ],
)
def test_a_stamp_is_read_by_its_clock(
    engine: DuckEngine, how: dict[str, Any], text: str, stamp: datetime | None
) -> None:
    assert made_of(engine, [text], lambda t: values.time(t, Format(**how))) == [stamp]


@pytest.mark.parametrize(
    ("how", "texts", "places"),
    [
        ({}, ["1", "07", "24:00", "25", "0", "x"], [0, 6, 23, None, None, None]),
        ({"clock": "Europe/Madrid"}, ["24", "25", "26"], [23, 24, None]),
        ({"first_position": 0}, ["0", "23:00", "24"], [0, 23, None]),
        (
            {"resolution": "quarter_hour", "clock": "Europe/Madrid"},
            ["1", "100", "00:15", "101"],
            [0, 99, 0, None],
        ),
    ],
)
def test_a_place_in_a_day_is_one_that_the_longest_day_has(
    engine: DuckEngine, how: dict[str, Any], texts: list[str | None], places: list[int | None]
) -> None:
    form = Format(**{"position": "hora", "resolution": "hour", **how})
    assert made_of(engine, texts, lambda text: values.place(text, form)) == places


def test_a_supply_points_check_characters_must_be_those_of_its_digits(engine: DuckEngine) -> None:
    texts: list[str | None] = ["ES1234123456789012JY", "es1234123456789012jy1f", "ES1234123456789012JZ"]
    texts += ["ES1234123456789013JY", "ES123412345678901JY", "", None]
    right = "ES1234123456789012JY"
    assert made_of(engine, texts, values.cups) == [right, right, None, None, None, None, None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("decimal: ';'", f"  - {HOURS}.decimal: Input should be '.' or ','"),
        ("thousands: '.'", "must differ from the decimal sign, but got '.' (line 2)"),
        ("dates: '%d/%m'", "dates: must write day, month and year, as %d/%m/%Y does"),
        (
            f"units: {{{ELEC}: GWh}}",
            "unknown unit of consumption_elec_kwh 'GWh': expected one of MWh, Wh, kWh",
        ),
        ("units: {customer_id: 2}", "is no column of numbers"),
        ("units: {consumption_gas_m3: 0.0}", "must not be 0"),
        (
            f"wide: {{{ELEC}: 'H{{1..25}}'}}\n  resolution: hour",
            "wide: must name at most 24 columns (clock: None)",
        ),
        ("preset: datadi", "unknown preset 'datadi': expected one of cch, datadis. Did you mean 'datadis'?"),
        ("resolucion: hour", "unknown key"),
        ("dates: '%d/%m/%Y%z'", "must hold %z with clock: offset, and only then"),
        ("position: hora", "resolution: must be named where a day's readings are numbered"),
        (
            "clock: Madrid",
            "clock: must be local, '+01:00', offset or a time zone, such as Europe/Madrid, but got 'Madrid'",
        ),
        ("columns: {timestamp: null}", "must be there: rows need it"),
        ("wide: {customer_id: 'H{1..24}'}\n  resolution: hour", "unknown reading 'customer_id'"),
    ],
)
def test_a_format_that_cannot_be_is_refused_with_its_file_and_line(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text(f"{HOURS}:\n  {text}\n")
    with pytest.raises(UsageError) as refused:
        read_mapping(file)
    assert words in str(refused.value)
    assert str(file) in str(refused.value)
    assert "(line " in str(refused.value)


def test_what_is_of_hours_alone_is_refused_for_another_table(tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text("price_history: {clock: UTC}\n")
    with pytest.raises(UsageError, match=f"clock: is for {HOURS} alone"):
        read_mapping(tmp_path / "mapping.yaml")


def faults_of(raw: Path) -> str:
    return "\n".join(validate(open_source(raw), date(2024, 12, 31)).faults)


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ({ELEC: "1,5"}, "in column 'consumption_elec_kwh' are not between"),
        ({"timestamp": "03/04/2024 10:00"}, "in column 'timestamp' are not a time (YYYY-MM-DD HH:MM)"),
        (
            {"timestamp": "2024-04-03T10:00:00+02:00"},
            "in column 'timestamp' are not a time (YYYY-MM-DD HH:MM)",
        ),
    ],
)
@pytest.mark.usefixtures("strict")
def test_without_a_setting_what_could_be_read_in_two_ways_stops_the_run(
    tmp_path: Path, written: dict[str, str], fault: str
) -> None:
    raw = write_raw(tmp_path / "raw", omit=[HOURS])
    pd.DataFrame(hours_of("C1")).astype(object).assign(**written).to_csv(raw / f"{HOURS}.csv", index=False)
    assert fault in faults_of(raw)


def test_a_column_that_the_file_does_not_have_is_without_values(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", omit=[HOURS])
    hours = pd.DataFrame(hours_of("C1")).drop(columns="consumption_gas_m3")
    hours["timestamp"] = pd.to_datetime(hours["timestamp"])
    hours.to_parquet(raw / f"{HOURS}.parquet", index=False)
    assert "missing column 'consumption_gas_m3'" in faults_of(raw)
    (raw / "mapping.yaml").write_text(f"{HOURS}: {{columns: {{consumption_gas_m3: null}}}}\n")
    assert faults_of(raw) == ""


@pytest.mark.usefixtures("strict")
def test_an_id_that_is_no_supply_point_is_set_apart_and_what_stands_beside_a_preset_wins(
    tmp_path: Path,
) -> None:
    raw = write_raw(tmp_path / "raw", omit=[HOURS])
    rows = ["CUPS;Fecha;Hora;AE_kWh", *(f"C1;31/01/2024;{hour};1,5" for hour in range(1, 25))]
    (raw / f"{HOURS}.csv").write_text("\n".join(rows))
    columns = "columns: {consumption_elec_kwh: AE_kWh}"
    (raw / "mapping.yaml").write_text(f"{HOURS}: {{preset: datadis, {columns}, dates: '%d/%m/%Y'}}\n")
    assert "24 rows without a value in column 'customer_id'" in faults_of(raw)
    (raw / "mapping.yaml").write_text(f"{HOURS}: {{preset: cch}}\nchurn_label: {{ids: cups}}\n")
    assert "in column 'customer_id' are not codes of supply points (CUPS)" in faults_of(raw)


def test_a_file_that_is_not_in_the_encoding_named_is_refused_by_name(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / "mapping.yaml").write_text("customer_attributes: {encoding: utf-16}\n")
    assert "customer_attributes.csv breaks its contract" in faults_of(raw)


def test_a_folder_of_two_kinds_of_files_is_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / HOURS).mkdir()
    (raw / f"{HOURS}.parquet").rename(raw / HOURS / "2024-01.parquet")
    (raw / HOURS / "2024-02.csv").write_text("customer_id\n")
    source = open_source(raw)
    with pytest.raises(ContractError, match=r"holds \.parquet files beside \.csv ones"):
        parts_of(source)
