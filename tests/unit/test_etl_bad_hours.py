"""Hours that cannot be used: counted by rule to the last one, shown by example, and nothing else is touched by them."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from spanishgas.etl.bronze import EXAMPLES
from spanishgas.etl.build import EtlReport, build
from spanishgas.etl.source import open_source
from spanishgas.etl.validate import validate
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


# --- repairs that are no dirt


def refusal_of(folder: Path, hours: pd.DataFrame) -> str:
    """What would stop a build of these hours."""
    raw = write_raw(folder / "raw")
    hours.to_parquet(raw / f"{HOURS}.parquet", index=False)
    return "\n".join(validate(open_source(raw), date(2024, 12, 31)).faults)


def spread(minutes: int, times: int, step: int = 60) -> pd.DataFrame:
    """Fifty days of C1 from February on, `times` readings at so many minutes after each `step` minutes."""
    whole = pd.date_range("2024-02-01", periods=1200, freq=f"{step}min")
    stamps = [at + pd.Timedelta(minutes=minutes * n) for at in whole for n in range(times)]
    return pd.DataFrame(hour("C1", f"{stamp:%Y-%m-%d %H:%M:%S}", elec=0.25) for stamp in stamps)


@pytest.mark.parametrize(("minutes", "times"), [(15, 4), (30, 2)])
def test_readings_of_half_and_quarter_hours_are_recognised_and_summed(
    tmp_path: Path, minutes: int, times: int
) -> None:
    report = built(tmp_path, spread(minutes, times))
    counts = report.quality[HOURS]
    assert (counts["minutes_of_a_reading"], counts["kept"]) == (minutes, 1200 * times)
    assert counts["energy.elec_kwh.kept"] == counts["energy.elec_kwh.in"] == 0.25 * 1200 * times
    months = report.snapshots["bronze_customer_month"].pandas()
    assert months["monthly_elec_kwh"].sum() == 0.25 * 1200 * times


def test_several_readings_of_most_hours_stop_the_run_instead_of_losing_all_but_one(tmp_path: Path) -> None:
    message = refusal_of(tmp_path, spread(0, 2))
    assert "1200 of 2400 rows (50.0%) fall under 'repaired.copies_of_an_hour': more than 10%" in message
    assert "give one reading per full hour" in message


def test_one_customer_of_quarter_hours_among_many_of_hours_stops_the_run(tmp_path: Path) -> None:
    others = [spread(0, 1).assign(customer_id=f"C{n}") for n in (2, 3)] * 20
    quarters = spread(15, 4).head(480)
    message = refusal_of(tmp_path, pd.concat([*others, quarters], ignore_index=True).drop_duplicates())
    assert "1 customers, C1 for one, have more than a tenth of their readings between two stamps" in message
    assert "'resolution' (hour, half_hour, quarter_hour)" in message


def test_different_readings_for_many_hours_of_one_customer_stop_the_run_and_equal_ones_do_not(
    tmp_path: Path,
) -> None:
    hours = pd.concat([spread(0, 1).assign(customer_id=i) for i in ("C1", "C2", "C3")], ignore_index=True)
    again = hours.head(150)
    assert built(tmp_path / "equal", pd.concat([hours, again])).quality[HOURS]["collapsed"] == 150
    message = refusal_of(tmp_path, pd.concat([hours, again.assign(consumption_elec_kwh=0.5)]))
    assert "1 customers, C1 for one, have several different readings for more than a tenth" in message


def test_an_hour_that_a_local_clock_shows_twice_stops_the_run_if_nothing_says_how_it_is_meant(
    tmp_path: Path,
) -> None:
    stamps = pd.date_range("2024-10-25", periods=100, freq="h", tz="Europe/Madrid").tz_localize(None)
    rows = [hour("C1", str(stamp), elec=1.0 + n / 100) for n, stamp in enumerate(stamps)]
    message = refusal_of(tmp_path, pd.DataFrame(rows))
    assert "1 of 1 customers, C1 for one, have several readings for the hour that the local clock" in message
    assert "say 'clock: Europe/Madrid' in mapping.yaml" in message


def test_readings_off_the_files_own_grid_stop_the_run(tmp_path: Path) -> None:
    assert "'repaired.between_hours': more than 10%" in refusal_of(tmp_path, spread(0, 1, step=90))


def test_readings_that_all_lie_as_far_behind_the_hour_are_hours(tmp_path: Path) -> None:
    frame = spread(0, 1)
    late = frame.assign(timestamp=pd.to_datetime(frame["timestamp"]) + pd.Timedelta(minutes=59, seconds=59))
    report = built(tmp_path, late)
    assert report.quality[HOURS]["repaired.between_hours"] == 0
    assert report.quality[HOURS]["kept"] == len(late)


def test_a_few_copies_are_dirt_and_collapse(tmp_path: Path) -> None:
    frame = spread(0, 1)
    report = built(tmp_path, pd.concat([frame, frame.head(100)]))
    assert report.quality[HOURS]["collapsed"] == report.quality[HOURS]["repaired.copies_of_an_hour"] == 100


@pytest.mark.parametrize(
    ("share", "value", "rule"), [(0.2, -1.0, "repaired.negative_elec"), (0.6, None, "repaired.missing_elec")]
)
def test_readings_below_zero_or_missing_beyond_a_share_stop_the_run(
    tmp_path: Path, share: float, value: float | None, rule: str
) -> None:
    frame, few = spread(0, 1), int(1200 * share)
    frame.loc[: few - 1, "consumption_elec_kwh"] = value
    assert f"{few} of 1200 rows ({share:.1%}) fall under '{rule}'" in refusal_of(tmp_path, frame)


def test_a_commodity_that_a_customer_does_not_take_is_nothing_missing(tmp_path: Path) -> None:
    report = built(tmp_path, spread(0, 1).assign(consumption_gas_m3=float("nan")))
    assert report.quality[HOURS]["repaired.missing_gas"] == 0
    assert report.quality[HOURS]["missing_as_0.gas"] == 1200


def test_a_small_file_pasted_three_times_stops_the_run(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    text = (raw / "price_history.csv").read_text()
    rest = "".join(f"{line}\n" for line in text.splitlines()[1:])
    (raw / "price_history.csv").write_text(text + rest * 3)
    [fault] = validate(open_source(raw), date(2024, 12, 31)).faults
    assert "108 of 144 rows (75.0%) fall under 'collapsed': more than 50%" in fault
