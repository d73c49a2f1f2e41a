"""Archives and workbooks: what can be doubted in them, or not read, is named; corrections say what they replace."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from spanishgas.etl.build import build
from spanishgas.etl.source import open_source
from spanishgas.etl.validate import validate
from spanishgas.lake import Lake
from spanishgas.lifecycle import erasure
from tests.raw_builder import hour, hours_of, label, write_raw

HOURS = "consumption_hourly_2024"
LABELS = pd.DataFrame([label("C1"), label("C2", 1)])


def two_sheets(file: Path) -> None:
    with pd.ExcelWriter(file, engine="openpyxl") as book:
        LABELS.to_excel(book, sheet_name="2023", index=False)
        LABELS.to_excel(book, sheet_name="2024", index=False)


def locked(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("churn.csv", LABELS.to_csv(index=False))
    data = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1  # as encrypted
    file.write_bytes(data)


def empty(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("_notes.csv", "x")


@pytest.mark.parametrize(
    ("name", "write", "more", "words"),
    [
        ("labels.xlsx", two_sheets, "", "several sheets hold rows: say 'sheet', one of 2023, 2024"),
        ("labels.xlsx", two_sheets, "sheet: Churn", "it has no sheet 'Churn', but 2023, 2024"),
        ("labels.xlsx", two_sheets, "sheet: '2024'", ""),
        ("labels.xlsx", lambda file: file.write_bytes(b"PK no book"), "", "labels.xlsx breaks its contract"),
        ("labels.ods", lambda file: file.write_bytes(b""), "", "labels.ods breaks its contract"),
        ("labels.zip", locked, "", "is encrypted, password required"),
        ("labels.zip", empty, "", "the archive holds no .csv file"),
        ("labels.zip", lambda file: file.write_bytes(b"PK\x03\x04"), "", "File is not a zip file"),
        (
            "labels.csv.zst",
            lambda file: file.write_bytes(b"no frame"),
            "",
            "labels.csv.zst breaks its contract",
        ),
    ],
)
def test_what_cannot_be_read_or_could_be_read_in_two_ways_is_named(
    tmp_path: Path, name: str, write: Callable[[Path], None], more: str, words: str
) -> None:
    raw = write_raw(tmp_path / "raw", omit=["churn_label"])
    write(raw / name)
    (raw / "mapping.yaml").write_text(f"churn_label:\n  file: {name}\n  {more}\n")
    faults = "\n".join(validate(open_source(raw), date(2024, 12, 31)).faults)
    assert words in faults
    assert bool(words) == bool(faults)


def test_a_correction_replaces_the_readings_it_names_and_the_report_says_how_many(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", omit=[HOURS])
    (raw / "horas").mkdir()
    pd.DataFrame(hours_of("C1", elec=5.0)).to_csv(raw / "horas" / "2024.csv", index=False)
    mended = [hour("C1", "2024-01-10 10:00", 1.0), hour("C1", "2024-01-10 11:00", 2.0)]
    pd.DataFrame(mended).to_csv(raw / "horas" / "corrected.csv", index=False)
    (raw / "mapping.yaml").write_text(f"{HOURS}: {{file: horas, corrections: corr*}}\n")
    report = build(raw, Lake(tmp_path / "lake"), date(2024, 12, 31))
    counts = report.quality[HOURS]
    assert (counts["rows_in"], counts["kept"], counts["replaced.by_corrections"]) == (38, 37, 1)
    energy = [counts[f"energy.elec_kwh.{part}"] for part in ("in", "kept", "replaced")]
    assert energy == [36 * 5 + 3, 35 * 5 + 3, 5]
    months = report.snapshots["bronze_customer_month"].pandas().set_index("month")
    assert months.loc["2024-01", "monthly_elec_kwh"] == 2 * 5 + 3


@pytest.mark.parametrize("pattern", ["*", "korrektur*"])
def test_a_pattern_of_all_files_or_of_none_is_refused(tmp_path: Path, pattern: str) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / HOURS).mkdir()
    (raw / f"{HOURS}.parquet").rename(raw / HOURS / "2024.parquet")
    (raw / "mapping.yaml").write_text(f"{HOURS}: {{corrections: '{pattern}'}}\n")
    [fault] = validate(open_source(raw), date(2024, 12, 31)).faults
    assert f"of its files is one of corrections ('{pattern}')" in fault


def test_an_archive_is_named_as_what_erasing_does_not_look_into(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    with zipfile.ZipFile(raw / "labels.zip", "w") as book:
        book.writestr("churn.csv", "customer_id,churn\nC1,1\n")
    erased = erasure.erase("C1", Lake(tmp_path / "lake"), reason="asked for", raw=raw, dry=True)
    assert [line for line in erased.left if "labels.zip" in line and "not looked into" in line]
