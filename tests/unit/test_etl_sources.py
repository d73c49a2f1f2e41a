"""Inputs as they come: each form of the same rows gives the same gold, and what is wrong is named."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from spanishgas.errors import ContractError, SpanishGasError, UsageError
from spanishgas.etl.build import build
from spanishgas.etl.engine import duckdb
from spanishgas.etl.hours import open_hours, reading
from spanishgas.etl.source import open_source
from spanishgas.lake import Lake
from tests.raw_builder import write_raw

AS_OF = date(2024, 12, 31)
HOURS, CONTACTS = "consumption_hourly_2024", "customer_interactions"
SMALL = (
    "churn_label",
    "customer_attributes",
    "customer_contracts",
    "price_history",
    "costs_by_province_month",
)


def gold(raw: Path, lake: Path, mapping: Path | None = None) -> str:
    return build(raw, Lake(lake), AS_OF, mapping=mapping).snapshots["gold_master"].manifest.digest


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The canonical seven files and the digest of their gold."""
    home = tmp_path_factory.mktemp("plain")
    return home / "raw", gold(write_raw(home / "raw"), home / "lake")


def hours(raw: Path) -> pd.DataFrame:
    file = raw / f"{HOURS}.parquet"
    frame = pd.read_parquet(file)
    file.unlink()
    return frame


def hours_as_csv(raw: Path) -> None:
    hours(raw).iloc[:, ::-1].assign(note='a, "b"\nc').to_csv(raw / f"{HOURS}.csv", index=False)


def hours_as_odd_gzip(raw: Path) -> None:
    text = hours(raw).to_csv(index=False, sep=";", lineterminator="\r\n")
    (raw / f"{HOURS}.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text.encode()))


def hours_as_text_parquet(raw: Path) -> None:
    folder = raw / f"{HOURS}.parquet"
    frame = hours(raw)
    folder.mkdir()
    frame.iloc[:40].to_parquet(folder / "0.parquet", index=False)
    frame.iloc[40:].astype(str).to_parquet(folder / "1.parquet", index=False)


def small_as(write: Callable[[pd.DataFrame, Path], None], *, text: bool) -> Callable[[Path], None]:
    def apply(raw: Path) -> None:
        for name in SMALL:
            file = raw / f"{name}.csv"
            write(pd.read_csv(file, dtype=str if text else None), raw / name)
            file.unlink()

    return apply


def small_as_parquet(frame: pd.DataFrame, stem: Path) -> None:
    dates = [c for c in frame if "date" in c and frame[c].notna().any()]
    typed = frame.assign(**{c: pd.to_datetime(frame[c]) for c in dates})
    if "is_urban" in typed:
        typed = typed.assign(is_urban=typed["is_urban"] == 1)
    typed.to_parquet(stem.with_suffix(".parquet"), index=False)


def small_as_gzip(frame: pd.DataFrame, stem: Path) -> None:
    frame.to_csv(stem.with_suffix(".csv.gz"), index=False, sep=";")


def as_lines(records: list[dict[str, str]]) -> str:
    return "".join(json.dumps(record) + "\r\n" for record in records) + "\n"


def write(name: str, content: Callable[[list[dict[str, str]]], bytes]) -> Callable[[Path], None]:
    """Contacts in another file."""

    def apply(raw: Path) -> None:
        file = raw / f"{CONTACTS}.json"
        records = json.loads(file.read_text())
        file.unlink()
        (raw / f"{CONTACTS}{name}").write_bytes(content(records))

    return apply


# Several at once, since a build takes seconds.
FORMS: dict[str, list[Callable[[Path], None]]] = {
    "CSV hours, Parquet tables, JSON lines": [
        hours_as_csv,
        small_as(small_as_parquet, text=False),
        write(".jsonl", lambda records: as_lines(records).encode()),
    ],
    "gzip and semicolons": [
        hours_as_odd_gzip,
        small_as(small_as_gzip, text=True),
        write(".json.gz", lambda records: gzip.compress(json.dumps(records).encode())),
    ],
    "parts of text, lines called json": [
        hours_as_text_parquet,
        write(".json", lambda records: as_lines(records).encode()),
    ],
    "contacts as CSV": [write(".csv", lambda records: pd.DataFrame(records).to_csv(index=False).encode())],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_file_changes_no_byte_of_gold(
    plain: tuple[Path, str], tmp_path: Path, form: str
) -> None:
    raw = shutil.copytree(plain[0], tmp_path / "raw")
    for change in FORMS[form]:
        change(raw)
    assert gold(raw, tmp_path / "lake") == plain[1]


THEIRS = {"customer_id": "Cliente Nº", "timestamp": "FECHA", "consumption_elec_kwh": "kWh"}


def renamed(raw: Path) -> str:
    """Rename files and columns of the raw folder; gives the mapping that says so."""
    frame = pd.read_csv(raw / "customer_attributes.csv").rename(
        columns={"customer_id": "ID", "is_urban": "urbano"}
    )
    # A column of our name that is not meant.
    frame.assign(customer_id="wrong").to_csv(raw / "clientes.csv", index=False)
    (raw / "customer_attributes.csv").unlink()
    hours(raw).rename(columns=THEIRS).to_parquet(raw / f"{HOURS}.parquet", index=False)
    columns = "".join(f"    {ours}: {theirs}\n" for ours, theirs in THEIRS.items())
    return (
        "customer_attributes:\n  file: clientes.csv\n  columns: {customer_id: ID, is_urban: urbano}\n"
        f"{HOURS}:\n  columns:\n{columns}"
    )


@pytest.mark.parametrize("beside", [True, False])
def test_a_mapping_reads_files_and_columns_by_their_own_names(
    plain: tuple[Path, str], tmp_path: Path, beside: bool
) -> None:
    raw = shutil.copytree(plain[0], tmp_path / "raw")
    file = raw / "mapping.yaml" if beside else tmp_path / "ours.yaml"
    file.write_text(renamed(raw), encoding="utf-8")
    assert gold(raw, tmp_path / "lake", None if beside else file) == plain[1]


def test_a_mapping_reads_hours_in_csv_too(plain: tuple[Path, str], tmp_path: Path) -> None:
    raw = shutil.copytree(plain[0], tmp_path / "raw")
    text = renamed(raw)
    hours(raw).to_csv(raw / "horas.csv.gz", index=False)
    (raw / "mapping.yaml").write_text(text + "  file: horas.csv.gz\n", encoding="utf-8")
    assert gold(raw, tmp_path / "lake") == plain[1]


def test_another_mapping_is_a_reason_to_build_again(tmp_path: Path) -> None:
    raw, lake = write_raw(tmp_path / "raw"), Lake(tmp_path / "lake")
    frame = pd.read_csv(raw / "customer_attributes.csv")
    frame.assign(power=2.5).to_csv(raw / "customer_attributes.csv", index=False)
    build(raw, lake, AS_OF)
    (raw / "mapping.yaml").write_text("customer_attributes: {columns: {contracted_power_kw: power}}")
    again = build(raw, lake, AS_OF)
    assert not again.reused
    assert set(again.snapshots["bronze_customer"].pandas()["contracted_power_kw"]) == {2.5}


WRONG_MAPPINGS = {
    "customer_atributes: {}": "Did you mean 'customer_attributes'?",
    "churn_label: {colums: {}}": "Did you mean 'columns'?",
    "churn_label: {columns: {churned: x}}": "Did you mean 'churn'?",
    "churn_label: {columns: {churn: 7}}": "churn_label.columns.churn: Input should be a valid string",
    "churn_label: {file: ../secret.csv}": "must lie in the raw folder, but got '../secret.csv'",
    "churn_label: {file: labels.docx}": "ending is none of .csv, .csv.gz, .parquet",
    "churn_label: {}\nchurn_label: {}": "'churn_label' stands twice",
    "[1, 2]": "must name tables",
    "a: [": "is not YAML that can be read",
}


@pytest.mark.parametrize("text", WRONG_MAPPINGS)
def test_a_wrong_mapping_is_the_callers_fault_and_named(tmp_path: Path, text: str) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / "mapping.yaml").write_text(text)
    with pytest.raises(UsageError) as refused:
        open_source(raw)
    assert WRONG_MAPPINGS[text] in str(refused.value)


def test_a_mapping_or_mapped_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    with pytest.raises(UsageError, match=r"mapping 'none\.yaml' does not exist"):
        open_source(raw, Path("none.yaml"))
    (raw / "mapping.yaml").write_text("price_history: {file: tarifas.csv}")
    with pytest.raises(ContractError, match=r"tarifas\.csv breaks its contract:\n  - the file is missing"):
        open_source(raw).text("price_history")


def test_a_table_in_two_forms_is_refused_with_both_names(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / "churn_label.csv.gz").write_bytes(b"")
    with pytest.raises(
        ContractError, match=r"stands there twice, as churn_label\.csv and churn_label\.csv\.gz"
    ):
        open_source(raw)


TEXT = "customer_id,timestamp,consumption_elec_kwh,consumption_gas_m3\n"
BROKEN_HOURS = {
    "more cells than columns": (TEXT + "C1,2024-01-10 10:00,1,2,3,4\n").encode(),
    "an open quote": (TEXT + 'C1,"2024-01-10 10:00,1,2\n').encode(),
    "no UTF-8": TEXT.encode() + b"C\xff,2024-01-10 10:00,1,2\n",
    "nothing": b"",
    "another column": TEXT.replace("timestamp", "hour").encode(),
}


@pytest.mark.parametrize("fault", BROKEN_HOURS)
def test_a_broken_csv_of_hours_is_a_contract_error(tmp_path: Path, fault: str) -> None:
    raw = write_raw(tmp_path / "raw", omit=[HOURS])
    (raw / f"{HOURS}.csv").write_bytes(BROKEN_HOURS[fault])
    refused = pytest.raises(ContractError, match=rf"{HOURS}\.csv breaks its contract")
    with duckdb() as engine, refused, reading(raw / f"{HOURS}.csv"):
        engine.fetch(open_hours(open_source(raw), engine))


@pytest.mark.parametrize("name", [f"{HOURS}.csv.gz", "customer_attributes.csv.gz", f"{CONTACTS}.json.gz"])
def test_a_gzip_that_was_cut_is_a_contract_error(tmp_path: Path, name: str) -> None:
    raw = write_raw(tmp_path / "raw", omit=[name.partition(".")[0]])
    text = TEXT + "C1,2024-01-10 10:00,1,2\n" * 1000
    (raw / name).write_bytes(gzip.compress(text.encode())[:-20])
    with pytest.raises(SpanishGasError, match=rf"{name} breaks its contract"):
        build(raw, Lake(tmp_path / "lake"), AS_OF)


def test_an_hour_with_a_reading_that_does_not_parse_goes_to_quarantine(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    frame = hours(raw).astype(str)
    frame.loc[0, "consumption_gas_m3"] = "n/a"
    frame.to_csv(raw / f"{HOURS}.csv", index=False)
    report = build(raw, Lake(tmp_path / "lake"), AS_OF)
    assert report.quality[HOURS]["quarantined.out_of_range.consumption_gas_m3"] == 1
    months = report.snapshots["bronze_customer_month"].pandas()
    first = months.set_index(["customer_id", "month"]).loc[("C1", "2024-01")]
    assert first["monthly_elec_kwh"] == 2.0


def test_json_nested_too_deep_is_a_contract_error(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / f"{CONTACTS}.json").write_text("[" * 100_000)
    with pytest.raises(ContractError, match=f"{CONTACTS}.json breaks its contract:\n  - cannot be read"):
        open_source(raw).text(CONTACTS)
