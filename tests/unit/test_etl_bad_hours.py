"""Hours that cannot be used: counted by rule to the last one, shown by example, and nothing else is touched by them."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pandas as pd

from spanishgas.etl.bronze import EXAMPLES
from spanishgas.etl.build import EtlReport, build
from spanishgas.lake import Lake
from tests.raw_builder import assert_accounted, hour, hours_of, write_raw

HOURS = "consumption_hourly_2024"
PLAIN = pd.DataFrame(hours_of("C1"))
RULES = (
    *("missing.customer_id", "orphan", "unreadable.timestamp"),
    *("out_of_range.consumption_elec_kwh", "out_of_range.consumption_gas_m3"),
)


def built(folder: Path, hours: pd.DataFrame) -> EtlReport:
    """A build of these hours, their times as text."""
    raw = write_raw(folder / "raw")
    hours.to_parquet(raw / f"{HOURS}.parquet", index=False)
    return build(raw, Lake(folder / "lake"), date(2024, 12, 31))


def spoilt() -> pd.DataFrame:
    """The hours of C1 with one of each fault behind them."""
    odd = [
        hour(None, "2024-02-01 00:00:00"),
        hour("C9", "2024-02-01 01:00:00"),
        hour("C1", "2024-02-01 02:00:00", elec=float("inf")),
        hour("C1", "2024-02-01 03:00:00", gas=1e9),
        hour("C1", "yesterday"),
    ]
    return pd.concat([PLAIN, pd.DataFrame(odd)], ignore_index=True)


def test_each_rule_counts_its_hours_and_shows_them_as_they_were_written(tmp_path: Path) -> None:
    report = built(tmp_path, spoilt())
    counts = report.quality[HOURS]
    assert {rule: counts[f"quarantined.{rule}"] for rule in RULES} == dict.fromkeys(RULES, 1)
    assert_accounted(counts)
    apart = report.snapshots["quarantine"].pandas()
    apart = apart[apart["source_table"] == HOURS]
    assert sorted(apart["rule"]) == ["missing", "orphan", "out_of_range", "out_of_range", "unreadable"]
    lost = json.loads(apart.set_index("rule").loc["unreadable", "row"])
    assert lost["timestamp"] == "yesterday"


def test_hours_that_can_be_used_add_up_as_if_the_others_were_not_there(tmp_path: Path) -> None:
    clean, dirty = built(tmp_path / "clean", PLAIN), built(tmp_path / "dirty", spoilt())
    for table in ("bronze_customer_month", "gold_master"):
        assert dirty.snapshots[table].manifest.digest == clean.snapshots[table].manifest.digest


def test_all_bad_hours_are_counted_and_a_thousand_are_shown(tmp_path: Path) -> None:
    orphans = pd.concat([PLAIN.assign(customer_id=f"X{n}") for n in range(30)], ignore_index=True)
    assert len(orphans) > EXAMPLES
    report = built(tmp_path, pd.concat([PLAIN, orphans], ignore_index=True))
    assert report.quality[HOURS]["quarantined.orphan"] == len(orphans)
    shown = report.snapshots["quarantine"].pandas()
    assert (shown["source_table"] == HOURS).sum() == EXAMPLES


def test_the_largest_reading_is_judged_alike_whatever_else_the_file_holds(tmp_path: Path) -> None:
    large = pd.concat([PLAIN, pd.DataFrame([hour("C1", "2024-02-01 04:00:00", elec=9.22e6)])])
    endless = pd.DataFrame([hour("C1", "2024-02-01 05:00:00", elec=float("inf"))])
    alone = built(tmp_path / "alone", large)
    beside = built(tmp_path / "beside", pd.concat([large, endless]))
    digests = {r.snapshots["bronze_customer_month"].manifest.digest for r in (alone, beside)}
    assert len(digests) == 1
    assert beside.quality[HOURS]["quarantined.out_of_range.consumption_elec_kwh"] == 1
