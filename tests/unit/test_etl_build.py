"""The build as a whole: as-of, determinism, reuse, lineage, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path

import ibis
import pandas as pd
import pytest

from spanishgas import contracts
from spanishgas.errors import ContractError
from spanishgas.etl import build as building
from spanishgas.etl.build import EtlReport, build
from spanishgas.lake import Lake, file_digest
from tests.raw_builder import (
    MONTHS,
    attributes,
    build_raw,
    contact,
    contract,
    cost,
    hour,
    hours_of,
    label,
    price,
    rows,
    write_raw,
)

AS_OF = date(2024, 12, 31)
TABLES = [
    "quarantine",
    *(f"{layer}_{part}" for layer in ("bronze", "silver") for part in ("customer", "customer_month")),
    "gold_master",
]


def parts(report: EtlReport) -> Mapping[str, list[bytes]]:
    """The bytes of every table."""
    return {
        name: [part.read_bytes() for part in sorted(snapshot.folder.glob("*.parquet"))]
        for name, snapshot in report.snapshots.items()
    }


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def dirty() -> dict[str, list[dict[str, object]]]:
    """Rows that meet every rule about order: copies, conflicts, ties, incomplete months."""
    raw = rows()
    raw["churn_label"] += [label("C4", 0), label("C4", 1), label("C1", 0)]
    raw["customer_attributes"] += [
        attributes("C4"),
        attributes("C4", region="Aragon"),
        attributes("C4", is_urban=None),
    ]
    raw["customer_contracts"] += [
        contract("C1", contract_start_date="2024-03-01", next_renewal_date="2025-02-01")
    ]
    raw["customer_interactions"] += [
        contact("C1", "2024-11-15", "zzz"),
        contact("C1", "2024-11-15", "better deal"),
    ]
    raw["consumption_hourly_2024"] += [
        hour("C2", "2024-05-08 10:00", 3.3, 0.1),
        *hours_of("C4", MONTHS[:7], 0.1, 0.7),
    ]
    raw["price_history"] += [price("C2", "2024-05", gas_fixed_cost_eur_year=0.1)]
    raw["costs_by_province_month"] += [cost(28, "2024-05", peaje_elec_eur_kwh=0.3)]
    return raw


@dataclass(frozen=True)
class Made:
    raw: Path
    lake: Path
    report: EtlReport
    said: list[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One build of the dirty rows, to look at."""
    folder, said = tmp_path_factory.mktemp("made"), []
    raw = write_raw(folder / "raw", **dirty())
    report = build(raw, Lake(folder / "lake"), AS_OF, run_id="run-1", progress=said.append)
    return Made(raw, folder / "lake", report, said)


def test_any_order_of_rows_gives_the_same_bytes_in_every_table(made: Made, tmp_path: Path) -> None:
    shuffled = {name: pd.DataFrame(lines).sample(frac=1, random_state=5) for name, lines in dirty().items()}
    raw = write_raw(tmp_path / "raw", **shuffled)
    again = build(raw, Lake(tmp_path / "lake"), AS_OF, run_id="run-1")
    assert not again.reused
    assert parts(again) == parts(made.report)


@pytest.mark.slow
def test_rows_dated_after_as_of_change_no_byte_of_gold(tmp_path: Path) -> None:  # D2, D5
    as_of = date(2024, 9, 15)
    raw, later = dirty(), dirty()
    for name, column in (
        ("customer_contracts", "contract_start_date"),
        ("price_history", "pricing_date"),
        ("costs_by_province_month", "month"),
        ("customer_interactions", "date"),
        ("consumption_hourly_2024", "timestamp"),
    ):
        raw[name] = [row for row in raw[name] if str(row[column]) <= "2024-09-15"]
    later["customer_contracts"] += [
        contract("C4", contract_start_date="2024-10-01"),
        contract("C2", contract_start_date="2024-09-16"),
    ]
    without = build(write_raw(tmp_path / "raw0", **raw), Lake(tmp_path / "lake0"), as_of)
    with_later = build(write_raw(tmp_path / "raw1", **later), Lake(tmp_path / "lake1"), as_of)
    assert parts(with_later)["gold_master"] == parts(without)["gold_master"]
    assert without.snapshots["gold_master"].pandas()["active_months_count"].max() == 8  # January to August


def test_elapsed_time_is_measured_from_as_of_not_from_today(tmp_path: Path) -> None:  # D2
    built = build_raw(tmp_path, as_of=date(2025, 3, 31))
    row = built.gold("C1")
    assert row["months_to_renewal"] == -1.0
    assert row["is_expired_contract"] == 1
    assert row["is_within_3m_of_renewal"] == 0  # D4
    assert row["last_interaction_days_ago"] == 136
    assert row["active_months_count"] == 9


def test_an_unchanged_build_is_reused_and_touches_no_file(tmp_path: Path) -> None:
    raw, lake = write_raw(tmp_path / "raw"), Lake(tmp_path / "lake")
    first = build(raw, lake, AS_OF, run_id="run-1")
    before = files(tmp_path / "lake")
    again = build(raw, lake, AS_OF, run_id="run-2")
    assert (first.reused, again.reused) == (False, True)
    assert again.quality == first.quality
    assert {n: s.manifest for n, s in again.snapshots.items()} == {
        n: s.manifest for n, s in first.snapshots.items()
    }
    assert files(tmp_path / "lake") == before


def flipped(file: Path) -> None:
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)


@pytest.mark.parametrize("fault", [Path.unlink, flipped])
def test_a_build_whose_files_are_gone_or_damaged_is_made_again(
    made: Made, tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    """Each kind of file in another table, so that one build has to mend them all."""
    lake = Lake(shutil.copytree(made.lake, tmp_path / "lake"))
    before = parts(made.report)
    for folder, name in (
        ("gold", "_quality.json"),
        ("silver/silver_customer", "part-*.parquet"),
        ("bronze/bronze_customer", "_current.json"),
        ("silver/silver_customer_month", "_manifest.json"),
    ):
        fault(next((tmp_path / "lake" / folder).rglob(name)))
    again = build(made.raw, lake, AS_OF, run_id="run-1")
    assert not again.reused
    assert parts(again) == before
    assert build(made.raw, lake, AS_OF, run_id="run-1").reused


@pytest.mark.parametrize("name", ["_quality.json", "part-*.parquet", "_current.json", "_manifest.json"])
def test_one_damaged_file_is_enough_to_build_again(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Computed(Exception):
        """The build went on to compute."""

    def computes(stage: object) -> None:
        raise Computed

    lake = Lake(shutil.copytree(made.lake, tmp_path / "lake"))
    monkeypatch.setattr(import_module("spanishgas.etl.build")._Build, "compute", computes)
    assert build(made.raw, lake, AS_OF).reused
    flipped(next((tmp_path / "lake" / "gold").rglob(name)))
    with pytest.raises(Computed):
        build(made.raw, lake, AS_OF)


def test_every_table_names_what_it_was_built_from(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    report = build(raw, Lake(tmp_path / "lake"), AS_OF, run_id="run-1")
    made = {name: snapshot.manifest for name, snapshot in report.snapshots.items()}
    assert list(made) == TABLES
    assert made["gold_master"].built_from == {
        n: made[n].digest for n in ("silver_customer", "silver_customer_month")
    }
    assert (
        made["silver_customer_month"].built_from["bronze_customer_month"]
        == made["bronze_customer_month"].digest
    )
    assert made["bronze_customer"].built_from["raw/churn_label"] == file_digest(raw / "churn_label.csv")
    assert {m.run_id for m in made.values()} == {"run-1"}
    assert len({m.fingerprint for m in made.values()}) == 1


def test_published_tables_have_their_columns_in_order_and_are_sorted(made: Made) -> None:
    for name, snapshot in made.report.snapshots.items():
        frame = snapshot.pandas()
        declared = contracts.contract(name)
        assert list(frame.columns) == list(declared.fields)
        key = list(declared.key or declared.fields)
        pd.testing.assert_frame_equal(frame, frame.sort_values(key, ignore_index=True))


def test_a_table_that_breaks_its_contract_at_the_end_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, lake = write_raw(tmp_path / "raw"), Lake(tmp_path / "lake")
    first = build(raw, lake, AS_OF)
    before = files(tmp_path / "lake")
    real = building.add_features
    monkeypatch.setattr(
        building,
        "add_features",
        lambda row, *rest: real(row, *rest).mutate(is_urban=ibis.literal(7, "int64")),
    )
    (raw / "churn_label.csv").write_text("customer_id,churn\nC1,1\n")
    with pytest.raises(ContractError, match="3 rows above 1 in column 'is_urban', for example 7"):
        build(raw, lake, AS_OF)
    assert files(tmp_path / "lake") == before
    assert lake.current("gold_master").manifest == first.snapshots["gold_master"].manifest


def test_a_kill_while_publishing_leaves_whole_tables_and_the_next_run_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, lake = write_raw(tmp_path / "raw"), Lake(tmp_path / "lake")
    real = Lake.publish

    def killed(self: Lake, table: str, *rest: object, **more: object) -> object:
        if table == "silver_customer":
            raise KeyboardInterrupt
        return real(self, table, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Lake, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        build(raw, lake, AS_OF)
    assert lake.find("gold_master", AS_OF) is None
    assert lake.find("bronze_customer", AS_OF) is not None
    monkeypatch.undo()
    report = build(raw, lake, AS_OF)
    assert not report.reused
    assert build(raw, lake, AS_OF).reused


def test_progress_names_each_table_and_ends_with_counts(made: Made) -> None:
    assert [line.split()[1] for line in made.said[:-1]] == [*TABLES[1:], "quarantine"]
    assert "4 customers, 43 customer-months built" in made.said[-1]


def test_the_quality_report_beside_the_tables_is_plain_json(made: Made) -> None:
    held = json.loads(next(made.lake.rglob("_quality.json")).read_text())
    assert held["quality"] == made.report.quality
    assert all(
        isinstance(v, int | float | str) for counts in made.report.quality.values() for v in counts.values()
    )
