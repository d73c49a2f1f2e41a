"""`sniff` proposes what reads the files, tells what it doubts with both readings, and decides nothing at load."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from spanishgas.errors import DataError, UsageError
from spanishgas.etl import sniff
from spanishgas.etl.source import open_source
from spanishgas.etl.validate import validate
from spanishgas.settings import settings
from tests import dialects
from tests.raw_builder import write_raw

HOURS = "consumption_hourly_2024"
BY_HAND: dict[str, dict[str, Any]] = {
    "winter_time_all_year_in_watt_hours": {"clock": "+01:00"},
    "corrections_in_a_folder": {"corrections": "correccion_*"},
}
"""The one decision that a dialect's hours leave to a person."""
QUICK = ("spanish_csv", "wide_by_day", "datadis", "utc")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dialects.Frames:
    """The tables of three customers with a reading every hour."""
    raw = write_raw(tmp_path_factory.mktemp("plain") / "raw")
    tables = dialects.read_plain(raw)
    stamps = pd.date_range("2024-01-01", "2024-12-31 23:00", freq="h").as_unit("us")
    columns = {dialects.ELEC: [0.25 + n % 97 / 8 for n in range(len(stamps))], dialects.GAS: 0.5}
    hours = [pd.DataFrame({"customer_id": f"C{n}", "timestamp": stamps, **columns}) for n in (1, 2, 3)]
    return {**tables, HOURS: pd.concat(hours, ignore_index=True)}


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in dialects.DIALECTS]
)
def test_what_is_proposed_reads_all_of_a_dialect_with_one_decision_by_hand_at_most(
    tmp_path: Path, frames: dialects.Frames, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANISHGAS_MAX_QUARANTINED", "0")
    settings.cache_clear()
    raw = dialects.write(name, frames, tmp_path / "raw")
    expected = validate(open_source(raw), date(2024, 12, 31))
    (raw / "mapping.yaml").unlink()
    proposed = yaml.safe_load(sniff.proposal(raw)) or {}
    assert len(BY_HAND.get(name, {})) <= 1
    if name in BY_HAND:
        proposed[HOURS] = proposed.get(HOURS, {}) | BY_HAND[name]
    (raw / "mapping.yaml").write_text(yaml.safe_dump(proposed, allow_unicode=True))
    checked = validate(open_source(raw), date(2024, 12, 31))
    assert checked.faults == expected.faults == []
    assert checked.report == expected.report


def test_a_date_that_may_be_of_two_orders_is_told_with_both_readings(tmp_path: Path) -> None:
    text = "customer_id;date;channel;interaction_summary\nC1;03/04/2024;web;hello\n"
    (tmp_path / "customer_interactions.csv").write_text(text)
    proposed = sniff.proposal(tmp_path)
    both = "2024-04-03 (%d/%m/%Y) or 2024-03-04 (%m/%d/%Y)? The first is proposed"
    assert f"# ? date: is '03/04/2024' {both}" in proposed


@pytest.mark.parametrize(
    ("rows", "doubt", "keys"),
    [
        (["1.234", "2.345"], "is '1.234' 1.234 or 1234? The first is proposed", {}),
        (["1.234,5", "2,5"], "", {"decimal": ",", "thousands": "."}),
        (["1,5", "1.5"], "no pair of signs for decimals and thousands reads all numbers, such as '1,5'", {}),
    ],
)
def test_a_number_that_may_be_read_in_two_ways_is_told(
    tmp_path: Path, rows: list[str], doubt: str, keys: dict[str, str]
) -> None:
    lines = [f"28;2024-0{n};{value};{value};{value}" for n, value in enumerate(rows, 1)]
    header = "province;month;elec_var_cost_eur_kwh;gas_var_cost_eur_m3;peaje_elec_eur_kwh"
    (tmp_path / "costs_by_province_month.csv").write_text("\n".join([header, *lines]))
    proposed = sniff.proposal(tmp_path)
    assert doubt in proposed
    entry = (yaml.safe_load(proposed) or {}).get("costs_by_province_month", {})
    assert {key: value for key, value in entry.items() if key != "units"} == keys


@pytest.mark.parametrize(
    ("header", "unit"), [("ACTIVA_WH", "Wh"), ("Energía activa (MWh)", "MWh"), ("Strom_kWh", None)]
)
def test_a_header_with_a_unit_behind_the_name_is_that_column_in_that_unit(
    tmp_path: Path, header: str, unit: str | None
) -> None:
    text = f"ID_CLIENTE;FECHA_HORA;{header}\nC1;2024-01-01 00:00;1\nC1;2024-01-01 01:00;2\n"
    (tmp_path / "curvas.csv").write_text(text)
    entry = yaml.safe_load(sniff.proposal(tmp_path))[HOURS]
    assert entry["columns"]["consumption_elec_kwh"] == header
    assert entry.get("units", {}).get("consumption_elec_kwh") == unit


def test_a_file_that_cannot_be_read_and_a_column_that_is_missing_are_told(tmp_path: Path) -> None:
    (tmp_path / "customer_attributes.zip").write_bytes(b"PK no archive")
    (tmp_path / "churn_label.csv").write_text("customer_id,abandonado_el\nC1,2024-01-01\n")
    proposed = sniff.proposal(tmp_path)
    assert "# ? no column for churn: 1 if the customer left. Not used: abandonado_el" in proposed
    assert "# ? customer_attributes: no file looks like it" in proposed


def test_a_mapping_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    assert sniff.write(raw, "{}\n") == raw / "mapping.yaml"
    with pytest.raises(DataError, match=r"mapping\.yaml exists"):
        sniff.write(raw, "{}\n")


def test_a_preset_and_a_folder_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown preset 'datadi'"):
        sniff.proposal(tmp_path, "datadi")
    with pytest.raises(UsageError, match="does not exist"):
        sniff.proposal(tmp_path / "nowhere")
