"""Spoilt files of every sort: the build ends with tables or with a message for the user, and no row vanishes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spanishgas.contracts.tables import RAW
from spanishgas.errors import SpanishGasError
from spanishgas.etl.build import build
from spanishgas.etl.quality import Quality
from spanishgas.lake import RAW_FILES, Lake
from tests import parquet_types
from tests.raw_builder import (
    MONTHS,
    assert_accounted,
    attributes,
    contact,
    contract,
    cost,
    hours_of,
    label,
    price,
    write_raw,
)

AS_OF = date(2024, 12, 31)
IDS = [f"C{number:02d}" for number in range(20)]
CASES = 400
"""Case n spoils 1 + n % 4 files: 1,000 in all."""
QUICK = 24
Spoil = Callable[[np.random.Generator, Path], None]
JUNK: Sequence[str] = (
    *(
        "",
        " ",
        "NaN",
        "nan",
        "inf",
        "-inf",
        "null",
        "None",
        "-1",
        "-0.0",
        "2",
        "0.5",
        "1e308",
        "-1e308",
        "1e-320",
    ),
    *(
        "9" * 25,
        "1e400",
        "0x1F",
        "1,5",
        "1_000",
        "1.2.3",
        "+",
        "\u0661\u0662",
        "1d",
        "true",
        "\ufeff1",
        "\u00a0 7",
    ),
    *(
        "2024-02-30",
        "0000-00-00",
        "0001-01-01",
        "9999-12-31",
        "2024-13",
        "2024-1-5",
        "2024-06",
        "infinity",
        "epoch",
    ),
    *(
        "2024-06-01T25:00",
        "2024-06-01 10:00",
        "2024-06-01x",
        "\x00",
        "a\x00b",
        '"',
        '""',
        "'; DROP TABLE x; --",
    ),
    *("Cataluña", "\U0001f600", "a\nb", "a,b", "C01", "C99", " C02", "x" * 10_000),
)
TYPED: Sequence[Any] = (1, -1.5, True, None, [], ["a"], {}, {"a": None}, 1e300, "\ud800", 2**70)
NUMBERS = (np.nan, np.inf, -np.inf, -5.0, 1e308, -1e308, 1e7, 1e-320, 0.0, 9.2e6)


def write_small(folder: Path) -> Path:
    """Twenty customers, two months."""
    months, number = MONTHS[5:7], range(len(IDS))
    return write_raw(
        folder,
        churn_label=[label(i, n % 5 == 0) for n, i in enumerate(IDS)],
        customer_attributes=[attributes(i, is_industrial=n % 2) for n, i in enumerate(IDS)],
        customer_contracts=[contract(i) for i in IDS],
        consumption_hourly_2024=[
            r for n, i in zip(number, IDS, strict=True) for r in hours_of(i, months, 1.5, n % 2)
        ],
        price_history=[price(i, month) for i in IDS for month in months],
        costs_by_province_month=[cost(28, month) for month in MONTHS],
        customer_interactions=[contact(i, "2024-11-15", "cancel; unhappy") for i in IDS[:9]],
    )


def spoil_bytes(rng: np.random.Generator, file: Path) -> None:
    """Break the file below the level of its format."""
    data = bytearray(file.read_bytes())
    at = int(rng.integers(len(data) + 1))
    match rng.integers(8):
        case 0:
            for place in rng.integers(len(data), size=int(rng.integers(1, 20))):
                data[place] = int(rng.integers(256))
        case 1:
            data = data[:at]
        case 2:
            data[at:at] = bytes(int(rng.integers(1, 9)))
        case 3:
            data = bytearray()
        case 4:
            data[at:at] = data[: int(rng.integers(1, 400))]
        case 5:
            data[at:at] = b'"'
        case 6:
            text = data.decode("latin-1") + "ñ"
            data = bytearray(
                text.encode(str(rng.choice(["utf-16", "latin-1", "utf-32", "cp1252"])), "replace")
            )
        case _:
            data = bytearray(rng.bytes(int(rng.integers(1, 3000))))
    file.write_bytes(data)


def spoil_columns(rng: np.random.Generator, frame: pd.DataFrame) -> pd.DataFrame:
    """Drop, repeat, rename, empty or refill a column."""
    name = str(rng.choice(frame.columns))
    match rng.integers(6):
        case 0:
            return frame.drop(columns=name)
        case 1:
            return pd.concat([frame, frame[[name]]], axis=1)
        case 2:
            return frame.rename(columns={name: f" {name}" if rng.random() < 0.5 else name.upper()})
        case 3:
            return frame.assign(**{name: None})
        case 4:
            return frame.assign(**{name: str(rng.choice(JUNK))})
        case _:
            return frame[list(rng.permutation(frame.columns))].assign(note="x")


def spoil_rows(rng: np.random.Generator, frame: pd.DataFrame, junk: Sequence[Any]) -> pd.DataFrame:
    """Repeat, drop and shuffle rows, and replace cells."""
    frame = frame.sample(
        frac=float(rng.uniform(0.3, 1.6)), replace=True, random_state=int(rng.integers(2**31))
    )
    frame = frame.astype(object).reset_index(drop=True)
    for _ in range(int(rng.integers(1, 12))):
        row, column = int(rng.integers(len(frame))), int(rng.integers(frame.shape[1]))
        frame.iat[row, column] = junk[int(rng.integers(len(junk)))]
    return frame


def spoil_csv(rng: np.random.Generator, file: Path) -> None:
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    frame = spoil_columns(rng, frame) if rng.random() < 0.2 else spoil_rows(rng, frame, JUNK)
    ends = {
        "lineterminator": str(rng.choice(["\n", "\r\n"])),
        "encoding": str(rng.choice(["utf-8", "utf-8-sig"])),
    }
    frame.to_csv(file, index=False, **ends)


def spoil_json(rng: np.random.Generator, file: Path) -> None:
    frame = pd.DataFrame(json.loads(file.read_text()))
    text = rng.random() < 0.7
    frame = (
        spoil_columns(rng, frame) if rng.random() < 0.1 else spoil_rows(rng, frame, JUNK if text else TYPED)
    )
    records = [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]
    if rng.random() < 0.1:
        records[0] = records[0].get("date")  # no record
    text_ = json.dumps(records) if rng.random() < 0.9 else "[" * int(rng.integers(1, 100_000))
    file.write_text(text_, encoding="utf-8", errors="surrogatepass")


def spoil_parquet(rng: np.random.Generator, file: Path) -> None:
    frame = pd.read_parquet(file)
    frame = frame.sample(
        frac=float(rng.uniform(0.3, 1.6)), replace=True, random_state=int(rng.integers(2**31))
    )
    size = len(frame)
    some = rng.random(size) < 0.1
    elec, gas = (frame[c].where(~some, rng.choice(NUMBERS, size)) for c in frame.columns[2:])
    ids = frame["customer_id"].where(
        rng.random(size) > 0.05, pd.Series(rng.choice([None, "", " ", "C99"], size), frame.index)
    )
    stamps = frame["timestamp"].where(rng.random(size) > 0.05, pd.Timestamp("2262-04-11"))
    stamps = stamps.where(rng.random(size) > 0.05, pd.NaT)
    frame = frame.assign(customer_id=ids, timestamp=stamps, consumption_elec_kwh=elec, consumption_gas_m3=gas)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    if rng.random() < 0.4:
        place = int(rng.integers(4))
        make = parquet_types.TYPES[str(rng.choice(list(parquet_types.TYPES)))]
        typed = make(size)
        values = (
            pa.nulls(size, typed.type)
            if rng.random() < 0.3
            else typed
            if rng.random() < 0.7
            else pa.array(rng.choice(JUNK, size).tolist())
        )
        table = table.set_column(place, table.column_names[place], values)
    if rng.random() < 0.1:
        table = table.drop_columns(table.column_names[int(rng.integers(4))])
    pq.write_table(table, file, **parquet_types.LAYOUTS[str(rng.choice(list(parquet_types.LAYOUTS)))])


def spoil(rng: np.random.Generator, folder: Path, files: int) -> list[str]:
    """Spoil so many files of the folder; a single one often below the level of its format."""
    names = [str(name) for name in rng.choice(list(RAW_FILES.values()), files, replace=False)]
    kinds: dict[str, Spoil] = {".csv": spoil_csv, ".json": spoil_json, ".parquet": spoil_parquet}
    for name in names:
        change = spoil_bytes if files == 1 and rng.random() < 0.6 else kinds[Path(name).suffix]
        change(rng, folder / name)
    return names


FORMATS: Sequence[str] = (
    "{decimal: ','}",
    "{decimal: ',', thousands: '.'}",
    "{delimiter: ';'}",
    "{delimiter: '|', encoding: latin-1}",
    "{encoding: utf-16}",
    "{encoding: cp1252, header_row: 2}",
    "{dates: '%d/%m/%Y'}",
    "{dates: '%Y-%m-%d %H:%M:%S', nulls: ['0']}",
    "{nulls: ['C01', '28', '1.0']}",
    "{ids: cups}",
    "{clock: offset}",
    "{clock: Europe/Madrid, stamp: end, resolution: half_hour}",
    "{clock: UTC, resolution: quarter_hour}",
    "{preset: datadis}",
    "{'yes': ['1'], 'no': ['0']}",
    "{yes: ['1'], no: ['0']}",
)


def other_format(rng: np.random.Generator, folder: Path) -> None:
    """Say of a table that its file is in a format in which it is not."""
    table, form = str(rng.choice(list(RAW_FILES))), str(rng.choice(FORMATS))
    (folder / "mapping.yaml").write_text(f"{table}: {form}\n")


def check(folder: Path, case: int) -> None:
    """The claim of this module for one case; every third is read in another format."""
    raw, quality = write_small(folder / "raw"), Quality()
    rng = np.random.default_rng(case)
    spoil(rng, raw, 1 + case % 4)
    if case % 3 == 2:
        other_format(rng, raw)
    message = ""
    try:
        build(raw, Lake(folder / "lake"), AS_OF, quality=quality)
    except SpanishGasError as refused:
        message = str(refused)
    if message:
        assert "breaks its contract" in message or "mapping.yaml is not" in message
        assert not list((folder / "lake").rglob("*.parquet"))
    else:
        assert all("kept" in quality.report[table] for table in RAW)
    for table in RAW:
        if "kept" in (counts := quality.report.get(table, {})):
            assert_accounted(counts)


@pytest.mark.parametrize("case", range(QUICK))
def test_spoilt_files_end_in_tables_or_in_a_message_and_no_row_vanishes(tmp_path: Path, case: int) -> None:
    check(tmp_path, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(QUICK, CASES))
def test_a_thousand_spoilt_files_end_in_tables_or_in_a_message(tmp_path: Path, case: int) -> None:
    check(tmp_path, case)
