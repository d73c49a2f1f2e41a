"""Supply points: several a customer, moving between customers, readings of a time when nobody held them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import yaml

from spanishgas.errors import ContractError
from spanishgas.etl.build import EtlReport, build
from spanishgas.etl.quality import markdown
from spanishgas.etl.source import open_source
from spanishgas.etl.validate import validate
from spanishgas.lake import Lake
from spanishgas.lifecycle import erasure
from tests.dialects import cups
from tests.raw_builder import hour, hours_of, write_raw

AS_OF = date(2024, 12, 31)
HOURS, POINTS = "consumption_hourly_2024", "supply_points"
MADRID = ZoneInfo("Europe/Madrid")
Holding = dict[str, Any]


def holding(customer: str, point: str, begin: str = "", last: str = "") -> Holding:
    return {"customer_id": customer, "supply_point": point, "from": begin, "to": last}


HELD = [
    holding("C1", "E1", "2019-05-01", "2024-03-31"),  # moved on the night after the clock went forward
    holding("C2", "E1", "2024-04-01"),
    holding("C1", "E2"),
    holding("C1", "G1", "2024-02-11"),
    holding("C2", "E3", "", "2024-10-26"),  # of nobody on the day of 25 hours
    holding("C3", "E3", "2024-10-28", "9999-12-31"),
    holding("gone", "E4", "2020-01-01", "2024-07-14"),  # of somebody who is not in the extract
    holding("C3", "E4", "2024-07-15"),
]
"""Dual fuel, a move in mid-month, gaps, open ends, and an owner who is not in the extract."""


def oracle_owner(point: str, day: date) -> str | None:
    """Who of the extract held a supply point on a local day; ISO days compare as texts."""
    for row in HELD:
        if row["supply_point"] == point and row["from"] <= f"{day}" <= (row["to"] or "9999-12-31"):
            return row["customer_id"] if row["customer_id"] != "gone" else None
    return None


@dataclass(frozen=True)
class Written:
    """How the readings are written: minutes, stamps in UTC or local, by their end or not."""

    step: int
    clock: str | None
    end: bool

    def readings(self, seed: int) -> Iterator[tuple[str, datetime, datetime, float]]:
        """Supply point, local begin, stamp and reading, for every interval of 2024."""
        rng, step = np.random.default_rng(seed), timedelta(minutes=self.step)
        local, shown = MADRID if self.clock else UTC, ZoneInfo(self.clock or "UTC")
        for point in ("E1", "E2", "E3", "E4", "G1"):
            at = datetime(2024, 1, 1, tzinfo=local).astimezone(UTC)
            while at < datetime(2025, 1, 1, tzinfo=local).astimezone(UTC):
                stamp = (at + step if self.end else at).astimezone(shown).replace(tzinfo=None)
                yield point, at.astimezone(local), stamp, float(rng.integers(0, 9_000)) / 1_000
                at += step


@pytest.mark.parametrize(
    "how",
    [
        Written(60, None, False),
        Written(60, "Europe/Madrid", True),
        pytest.param(Written(30, "UTC", False), marks=pytest.mark.slow),
        pytest.param(Written(15, "UTC", True), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_months_by_customer_are_those_of_a_walk_over_the_readings(tmp_path: Path, how: Written) -> None:
    """The oracle walks the instants with zoneinfo and plain Python, and asks for each who held the supply point."""
    months: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: {"elec": 0.0, "gas": 0.0})
    unowned, rows = {"elec": [0, 0.0], "gas": [0, 0.0]}, []
    for point, local, stamp, reading in how.readings(seed=11):
        fuel = "gas" if point == "G1" else "elec"
        rows.append(
            hour(point, stamp, reading, None) if fuel == "elec" else hour(point, stamp, None, reading)
        )
        if owner := oracle_owner(point, local.date()):
            months[owner, f"{local:%Y-%m}"][fuel] += reading
        else:
            unowned[fuel][0] += 1
            unowned[fuel][1] += reading
    frame = pd.DataFrame(rows).sample(frac=1, random_state=3)
    raw = write_raw(tmp_path / "raw", **{HOURS: frame})
    pd.DataFrame(HELD).to_csv(raw / f"{POINTS}.csv", index=False)
    form: dict[str, Any] = {"stamp": "end" if how.end else "start"} | (
        {"clock": how.clock} if how.clock else {}
    )
    (raw / "mapping.yaml").write_text(yaml.safe_dump({HOURS: form}))
    report = build(raw, Lake(tmp_path / "lake"), AS_OF)
    built = report.snapshots["bronze_customer_month"].pandas()
    assert {*zip(built["customer_id"], built["month"], strict=True)} == {*months}
    for row in built.to_dict("records"):
        expected = months[row["customer_id"], row["month"]]
        assert row["monthly_elec_kwh"] == pytest.approx(expected["elec"], rel=1e-9)
        assert row["monthly_gas_m3"] == pytest.approx(expected["gas"], rel=1e-9)
    counts = report.quality[HOURS]
    assert counts["rows_in"] == counts["kept"] == len(rows)
    assert counts["unused.of_no_customer_then"] == sum(number for number, _ in unowned.values())
    assert counts["minutes_of_a_reading"] == how.step
    for name, fuel in (("elec_kwh", "elec"), ("gas_m3", "gas")):
        apart = counts[f"energy.{name}.of_no_customer_then"]
        assert apart == pytest.approx(unowned[fuel][1], rel=1e-9)
        assert counts[f"energy.{name}.kept"] + apart == pytest.approx(counts[f"energy.{name}.in"], rel=1e-12)
    points = report.quality[POINTS]
    assert (points["points.all"], points["points.moved_between_customers"]) == (5, 3)
    assert points["points.customers_with_several"] == 3
    page = markdown(report.quality)
    assert f"| {POINTS} | supply points | moved_between_customers | 3 |" in page


def built(folder: Path, held: list[Holding], hours: list[Any], mapping: Any = None) -> EtlReport:
    raw = write_raw(folder / "raw", **{HOURS: hours})
    pd.DataFrame(held).to_csv(raw / f"{POINTS}.csv", index=False)
    (raw / "mapping.yaml").write_text(yaml.safe_dump(mapping or {}))
    return build(raw, Lake(folder / "lake"), AS_OF)


def kwh(report: EtlReport) -> dict[str, float]:
    months = report.snapshots["bronze_customer_month"].pandas()
    return {
        str(name): float(sum_)
        for name, sum_ in months.groupby("customer_id")["monthly_elec_kwh"].sum().items()
    }


def test_readings_of_datadis_go_to_who_held_the_cups_which_the_table_may_name_with_its_suffix(
    tmp_path: Path,
) -> None:
    one, two = cups(1), cups(2)
    raw = write_raw(tmp_path / "raw", omit=[HOURS])
    lines = [
        f"{code}0F;2024/{day};{h:02d}:00;{kwh},5;Real"
        for code, kwh in ((one, 1), (two, 2))
        for day in ("10/26", "10/27", "10/28")
        for h in range(1, 26 if day == "10/27" else 25)
    ]
    (raw / f"{HOURS}.csv").write_text("CUPS;Fecha;Hora;Consumo_kWh;Metodo_obtencion\n" + "\n".join(lines))
    held = [
        holding("C1", f"{one}0F", "", "2024-10-27"),
        holding("C2", one, "2024-10-28"),
        holding("C1", two.lower()),
    ]
    pd.DataFrame(held).to_csv(raw / f"{POINTS}.csv", index=False)
    (raw / "mapping.yaml").write_text(yaml.safe_dump({HOURS: {"preset": "datadis"}}))
    report = build(raw, Lake(tmp_path / "lake"), AS_OF)
    assert kwh(report) == {"C1": (24 + 25) * 1.5 + 73 * 2.5, "C2": 24 * 1.5}
    assert report.quality[POINTS]["points.moved_between_customers"] == 1


def test_two_meters_of_a_customer_are_no_copies_but_copies_within_one_are(tmp_path: Path) -> None:
    hours = [hour("E1", elec=1.0), hour("E2", elec=1.0), hour("E2", elec=1.0), hour("C3", elec=4.0)]
    report = built(tmp_path, [holding("C1", "E1"), holding("C1", "E2")], hours)
    assert kwh(report) == {"C1": 2.0, "C3": 4.0}  # an id of no supply point is the customer's own
    assert report.quality[HOURS]["repaired.copies_of_an_hour"] == 1


def test_who_holds_a_supply_point_at_the_same_time_is_named_and_nothing_is_published(tmp_path: Path) -> None:
    held = [holding("C1", "E1", "", "2024-06-30"), holding("C2", "E1", "2024-06-30"), holding("C3", "E1")]
    with pytest.raises(ContractError) as fault:
        built(tmp_path, held, [hour("E1")])
    assert "supply_points.csv breaks its contract" in str(fault.value)
    assert "'E1' is held by 'C2' from 2024-06-30 on, and by 'C3' until 9999-12-31" in str(fault.value)
    assert not list((tmp_path / "lake").rglob("*.parquet"))


def test_rows_that_say_the_same_count_once_and_those_that_cannot_be_are_set_apart(tmp_path: Path) -> None:
    held = [holding("C1", f"E{number}") for number in range(60)]
    bad = [holding("C2", "E1", "2024-05-01", "2024-04-01"), holding("C2", "E2", "May"), holding("C2", "")]
    report = built(tmp_path, [*held, held[0], *bad], [hour("E1", elec=3.0)])
    counts = report.quality[POINTS]
    assert (counts["rows_in"], counts["collapsed"], counts["quarantined"], counts["kept"]) == (64, 1, 3, 60)
    rules = {name for name in counts if name.startswith("quarantined.") and counts[name]}
    assert rules == {
        f"quarantined.{rule}" for rule in ("backwards", "unreadable.from", "missing.supply_point")
    }
    assert kwh(report) == {"C1": 3.0}


def test_readings_without_a_time_are_set_apart_as_unreadable_of_a_customer(tmp_path: Path) -> None:
    rows = [hour("E1", stamp, 1.0) for stamp in pd.date_range("2024-01-01", periods=40, freq="h")]
    held = [holding("C1", "E1", "", "2024-06-30"), holding("C2", "E1", "2024-07-01")]
    report = built(tmp_path, held, [*rows, hour("E1", None, 1.0)])
    assert report.quality[HOURS]["quarantined.unreadable.timestamp"] == 1
    apart = report.snapshots["quarantine"].pandas()
    assert list(apart["customer_id"]) == ["C1"]


@pytest.mark.usefixtures("strict")
def test_supply_points_that_the_table_does_not_know_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="of customers that stand in neither labels nor attributes"):
        built(tmp_path, [holding("C1", "E1")], [hour("E1"), hour("E9")])


def test_more_readings_of_nobody_than_of_customers_stop_the_run(tmp_path: Path) -> None:
    stamps = pd.date_range("2024-01-01", "2024-12-30", freq="D")
    with pytest.raises(ContractError, match=r"of_no_customer_then': more than 50%"):
        built(tmp_path, [holding("C1", "E1", "2024-12-01")], [hour("E1", stamp) for stamp in stamps])


def test_the_table_may_have_names_and_dates_of_its_own_and_validate_tells_what_it_found(
    tmp_path: Path,
) -> None:
    raw = write_raw(tmp_path / "raw", **{HOURS: hours_of("E1")})
    (raw / "suministros.csv").write_text(
        "CLIENTE;CUPS;ALTA;BAJA\nC1;E1;01/01/2020;31/05/2024\nC2;E1;01/06/2024;\n"
    )
    columns = {"customer_id": "CLIENTE", "supply_point": "CUPS", "from": "ALTA", "to": "BAJA"}
    form = {"file": "suministros.csv", "columns": columns, "dates": "%d/%m/%Y"}
    (raw / "mapping.yaml").write_text(yaml.safe_dump({POINTS: form}))
    seen = validate(open_source(raw), AS_OF)
    assert seen.faults == []
    assert "suministros.csv: 2 rows, 2 kept" in seen.report
    report = build(raw, Lake(tmp_path / "lake"), AS_OF)
    assert kwh(report) == {"C1": 15.0, "C2": 21.0}
    months = report.snapshots["bronze_customer_month"]
    assert "raw/supply_points" in months.manifest.built_from


def test_an_erasure_leaves_and_names_a_table_of_supply_points_since_their_readings_name_nobody(
    tmp_path: Path,
) -> None:
    raw = write_raw(tmp_path / "raw", **{HOURS: hours_of("E1")})
    pd.DataFrame([holding("C1", "E1"), holding("C2", "E2")]).to_csv(raw / f"{POINTS}.csv", index=False)
    before = (raw / f"{POINTS}.csv").read_bytes()
    lake = Lake(tmp_path / "lake")
    erased = erasure.erase("C1", lake, reason="asked for", raw=raw)
    [left] = erased.left
    assert f"{POINTS}.csv names supply points of the customer" in left
    assert (raw / f"{POINTS}.csv").read_bytes() == before
    assert not [place for place in erased.rows if POINTS in place]
    assert erasure.erase("C3", lake, reason="asked for", raw=raw).left == []
