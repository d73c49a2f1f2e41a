"""`validate` says what etl would; `template` gives what etl takes."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import pytest

from spanishgas import cli
from spanishgas.errors import UsageError
from spanishgas.etl.source import open_source
from spanishgas.etl.template import write_template
from spanishgas.etl.validate import validate
from tests.raw_builder import IDS, MONTHS, price, write_raw

AS_OF = date(2024, 12, 31)


def test_a_row_for_quarantine_is_told_with_its_rule_and_an_example(tmp_path: Path) -> None:
    prices = [price(i, month) for i in IDS for month in MONTHS]
    prices[5]["gas_variable_price_eur_m3"] = "cheap"
    found = validate(open_source(write_raw(tmp_path / "raw", price_history=prices)), AS_OF)
    assert found.faults == []
    assert "price_history.csv: 36 rows, 35 kept\n" in found.report
    words = "quarantine: 1 rows in column 'gas_variable_price_eur_m3' are not a number, for example 'cheap'"
    assert words in found.report
    assert "consumption_hourly_2024.parquet: 108 rows, 108 kept" in found.report


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", omit=["price_history"])
    (raw / "customer_attributes.csv").write_text("customer_id\nC1\n")
    (raw / "consumption_hourly_2024.parquet").write_text("no")
    faults = validate(open_source(raw), AS_OF).faults
    assert [fault.partition(" ")[0] for fault in faults] == [
        "customer_attributes.csv",
        "consumption_hourly_2024.parquet",
        "price_history.csv",
    ]


@pytest.mark.usefixtures("strict")
def test_too_many_rows_for_quarantine_end_the_verb_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = [price(i, month, gas_variable_price_eur_m3="cheap") for i in IDS for month in MONTHS]
    raw = write_raw(tmp_path / "raw", price_history=prices)
    monkeypatch.setattr(sys, "argv", ["spanishgas", "validate", "--raw", str(raw)])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 1
    assert "36 of 36 rows (100.0%) cannot be used" in capsys.readouterr().err


def test_the_template_keeps_its_own_contracts_and_explains_every_column(tmp_path: Path) -> None:
    write_template(tmp_path / "t")
    source = open_source(tmp_path / "t")
    found = validate(source, AS_OF)
    assert (found.faults, len(source.found)) == ([], 7)
    readme = (tmp_path / "t" / "README.md").read_text()
    assert all(f"| {column} | " in readme for table in source.found for column in source.columns(table))
    with pytest.raises(UsageError, match="is not an empty folder"):
        write_template(tmp_path / "t")
