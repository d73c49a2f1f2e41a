"""The time machine's parts: which days, what was known on one, and arguments that make no backtest."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from spanishgas.backtest.replay import Replay
from spanishgas.backtest.report import picture
from spanishgas.backtest.run import ARGUMENTS, backtest, steps
from spanishgas.backtest.view import KNOWN_AT, View, as_known
from spanishgas.config.policy import Policy, load_policy
from spanishgas.config.reading import read
from spanishgas.errors import DataError, UsageError
from spanishgas.etl.source import open_source
from spanishgas.lake import Lake
from spanishgas.settings import PROJECT, settings
from tests.raw_builder import write_raw

FIRST, SECOND = date(2024, 12, 31), date(2025, 1, 31)
HOW: Any = {"trials": 1, "seed": 7, "say": lambda words: None}


def labels(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["customer_id", "churn", KNOWN_AT])


@pytest.mark.parametrize(
    ("first", "every", "days"),
    [
        ("2024-12-31", "1M", ["2024-12-31", "2025-01-31", "2025-02-28", "2025-03-31", "2025-04-30"]),
        ("2025-01-30", "1M", ["2025-01-30", "2025-02-28", "2025-03-30", "2025-04-30"]),
        ("2025-02-28", "2M", ["2025-02-28", "2025-04-30"]),
        ("2025-04-01", "14D", ["2025-04-01", "2025-04-15", "2025-04-29"]),
        ("2025-04-30", "3M", ["2025-04-30"]),
    ],
)
def test_steps_are_months_or_days_apart_and_month_ends_stay_month_ends(
    first: str, every: str, days: list[str]
) -> None:
    assert list(map(str, steps(date.fromisoformat(first), date(2025, 4, 30), every))) == days


@pytest.mark.parametrize("every", ["1", "M", "0M", "1Y", "1.5M", "-1M", "1M ", "monthly", ""])
def test_a_step_that_is_no_months_or_days_is_echoed(every: str) -> None:
    with pytest.raises(UsageError, match=f"such as 1M or 14D, but got '{every}'"):
        steps(FIRST, SECOND, every)


def test_days_in_the_wrong_order_are_named() -> None:
    with pytest.raises(UsageError, match="--from 2025-01-31 lies after --to 2024-12-31: swap them"):
        steps(SECOND, FIRST, "1M")


def test_a_late_row_is_not_there_before_it_was_known_and_a_correction_takes_its_place_then() -> None:
    rows = labels(("A", "0", "2025-01-10"), ("B", "1", "2025-03-01"), ("A", "1", "2025-02-10"))
    days = map(date.fromisoformat, ("2025-01-10", "2025-02-10", "2025-03-01"))
    at = [as_known(rows, "churn_label", FIRST, day) for day in days]
    assert [sorted(shown.itertuples(index=False, name=None)) for shown in at] == [
        [("A", "0")],
        [("A", "1")],
        [("A", "1"), ("B", "1")],
    ]


def test_labels_that_name_no_day_are_known_when_they_are_complete() -> None:
    rows = labels(("A", "0", ""), ("B", "1", "2025-01-01"))
    complete = date(2025, 12, 31)
    assert list(as_known(rows, "churn_label", complete, date(2025, 12, 30))["customer_id"]) == ["B"]
    assert list(as_known(rows, "churn_label", complete, complete)["customer_id"]) == ["A", "B"]


def test_who_leaves_later_has_not_left_yet_and_nobody_was_observed_longer_than_to_the_day() -> None:
    rows = pd.DataFrame(
        {
            "customer_id": ["A", "B", "C"],
            "churn": ["1", "1", "0"],
            "churn_date": ["2025-02-01", "2025-06-01", ""],
            "observed_until": ["2026-01-01"] * 3,
        }
    )
    then = as_known(rows, "churn_label", FIRST, date(2025, 3, 1))
    assert then.values.tolist() == [
        ["A", "1", "2025-02-01", "2025-03-01"],
        ["B", "0", "", "2025-03-01"],
        ["C", "0", "", "2025-03-01"],
    ]


def test_a_day_that_is_none_is_named() -> None:
    with pytest.raises(DataError, match="'soon' in column 'known_at' is no date: write it as 2025-03-31"):
        as_known(labels(("A", "0", "soon")), "churn_label", FIRST, SECOND)


@pytest.mark.parametrize("seed", range(20))
def test_rows_known_later_change_nothing_of_what_was_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    day = FIRST + timedelta(int(rng.integers(0, 60)))
    count = int(rng.integers(2, 40))
    days = [str(FIRST + timedelta(int(d))) for d in rng.integers(0, 90, count)]
    rows = pd.DataFrame(
        {
            "customer_id": rng.choice(list("ABCDE"), count),
            "pricing_date": rng.choice(["2024-11-01", "2024-12-01"], count),
            "price": rng.random(count),
            KNOWN_AT: days,
        }
    )
    then = rows[rows[KNOWN_AT] <= str(day)]
    for table in ("price_history", "customer_interactions", "customer_contracts"):
        shown = [as_known(part, table, FIRST, day).reset_index(drop=True) for part in (rows, then)]
        pd.testing.assert_frame_equal(*shown)


@pytest.fixture
def source(tmp_path: Path) -> Lake:
    source = Lake(tmp_path / "source")
    for as_of in (FIRST, SECOND):
        write_raw(Path(str(source.raw(as_of))))
    return source


def shown(view: View, as_of: date, day: date) -> tuple[str, dict[str, bytes]]:
    digest = view.show(as_of, day)
    folder = Path(str(view.lake.raw(as_of)))
    return digest, {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_a_view_holds_the_extracts_and_labels_of_the_day_and_no_others(source: Lake, tmp_path: Path) -> None:
    view = View(source, Lake(tmp_path / "view"), horizon_months=2)
    assert (view.extracts(FIRST), view.extracts()) == ([FIRST], [FIRST, SECOND])
    before, after = (shown(view, FIRST, day) for day in (date(2025, 2, 27), date(2025, 2, 28)))
    assert "churn_label.csv" not in before[1]
    assert "churn_label.csv" in after[1]
    assert before[0] != after[0]
    assert {k: v for k, v in after[1].items() if k != "churn_label.csv"} == before[1]


def test_what_becomes_known_later_changes_no_byte_of_an_earlier_view_in_any_form(
    source: Lake, tmp_path: Path
) -> None:
    folder, day = Path(str(source.raw(FIRST))), date(2025, 1, 15)
    contacts = json.loads((folder / "customer_interactions.json").read_text())
    prices = pd.read_csv(folder / "price_history.csv", dtype="str", keep_default_na=False)
    hours = pd.read_parquet(folder / "consumption_hourly_2024.parquet")

    def put(known: list[str]) -> tuple[str, dict[str, bytes]]:
        more = [{**contacts[0], "interaction_summary": when, KNOWN_AT: when} for when in known]
        (folder / "customer_interactions.json").write_text(json.dumps([*contacts, *more]))
        late = [prices.head(1).assign(**{KNOWN_AT: when, "gas_variable_price_eur_m3": "9"}) for when in known]
        pd.concat([prices.assign(**{KNOWN_AT: ""}), *late]).to_csv(folder / "price_history.csv", index=False)
        more_hours = [hours.head(1).assign(**{KNOWN_AT: when, "consumption_elec_kwh": 7.0}) for when in known]
        pd.concat([hours.assign(**{KNOWN_AT: None}), *more_hours]).to_parquet(
            folder / "consumption_hourly_2024.parquet", index=False
        )
        return shown(View(source, Lake(tmp_path / "view"), 12), FIRST, day)

    early = put(["2025-01-10"])
    assert put(["2025-01-10", "2025-01-16", "2025-06-01"]) == early
    earlier = put(["2025-01-16"])[1]
    changed = {name for name in earlier if earlier[name] != early[1][name]}
    assert changed == {"consumption_hourly_2024.parquet", "customer_interactions.json", "price_history.csv"}
    corrected = pd.read_csv(
        Path(str(View(source, Lake(tmp_path / "view"), 12).lake.raw(FIRST))) / "price_history.csv"
    )
    assert (len(corrected), KNOWN_AT in corrected) == (len(prices), False)


def test_a_file_with_its_own_names_and_delimiter_keeps_them(source: Lake, tmp_path: Path) -> None:
    folder = Path(str(source.raw(FIRST)))
    prices = pd.read_csv(folder / "price_history.csv", dtype="str", keep_default_na=False)
    theirs = prices.rename(columns={"customer_id": "Kunde"}).assign(**{KNOWN_AT: "2025-01-02"})
    theirs.to_csv(folder / "price_history.csv", index=False, sep=";", encoding="cp1252")
    mapping = {"price_history": {"columns": {"customer_id": "Kunde"}, "delimiter": ";", "encoding": "cp1252"}}
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    view = View(source, Lake(tmp_path / "view"), 12)
    shown(view, FIRST, SECOND)
    read_again = open_source(view.lake.raw(FIRST)).text("price_history").to_pandas()
    assert read_again.equals(open_source(source.raw(FIRST)).text("price_history").to_pandas())


def test_a_range_without_an_extract_names_those_that_are_there(source: Lake, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="no extract from 2026-01-31 to 2026-03-31; there are 2024-12-31, 2025"
    ):
        backtest(date(2026, 1, 31), date(2026, 3, 31), "1M", lake=source, out=tmp_path / "out", **HOW)
    with pytest.raises(UsageError, match="there are none: run `spanishgas simulate`"):
        backtest(FIRST, SECOND, "1M", lake=Lake(tmp_path / "none"), out=tmp_path / "other", **HOW)


def test_an_unknown_key_of_a_policy_is_named_with_its_file(source: Lake, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text((PROJECT / "experiments" / "policy.yaml").read_text() + "\nholdouts: 1\n")
    with pytest.raises(
        UsageError, match=r"mine\.yaml is not valid:\n  - unknown key 'holdouts'.*Did you mean 'holdout'"
    ):
        backtest(FIRST, SECOND, "1M", lake=source, out=tmp_path / "out", policies=[file], **HOW)
    with pytest.raises(UsageError, match=r"nowhere\.yaml does not exist: name a policy file"):
        backtest(
            FIRST,
            SECOND,
            "1M",
            lake=source,
            out=tmp_path / "out",
            policies=[tmp_path / "nowhere.yaml"],
            **HOW,
        )


def test_policies_of_one_name_are_refused(source: Lake, tmp_path: Path) -> None:
    files = [tmp_path / name / "policy.yaml" for name in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text((PROJECT / "experiments" / "policy.yaml").read_text())
    with pytest.raises(UsageError, match="two policies have one file name"):
        backtest(FIRST, SECOND, "1M", lake=source, out=tmp_path / "out", policies=files, **HOW)


def begin(source: Lake, out: Path, *policies: Path) -> None:
    """Begin a place, and stop before the first step."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replay, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            backtest(FIRST, SECOND, "1M", lake=source, out=out, policies=policies, **HOW)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("every", "3M", r"another every \(3M, now 1M\): name another place with --out"),
        ("seed", "8", r"another seed \(8, now 7\)"),
        ("lake", "/elsewhere", r"another lake \(/elsewhere, now "),
        ("policy policy", "0", r"another policy policy \(0, now "),
        ("policy other", "0", r"another policy other \(0, now none\)"),
    ],
)
def test_a_place_that_holds_another_backtest_is_refused(
    source: Lake, tmp_path: Path, key: str, value: str, words: str
) -> None:
    out = tmp_path / "out"
    begin(source, out)
    begun = yaml.safe_load((out / ARGUMENTS).read_text())
    (out / ARGUMENTS).write_text(yaml.safe_dump(begun | {key: value}))
    with pytest.raises(UsageError, match=f"out holds a backtest of {words}"):
        backtest(FIRST, SECOND, "1M", lake=source, out=out, **HOW)


def test_a_place_where_another_backtest_is_at_work_is_refused_until_that_has_ended(
    source: Lake, tmp_path: Path
) -> None:
    out, words = tmp_path / "out", f"another backtest is at work in {tmp_path}/out: wait .* --out"

    def meanwhile(*_: object) -> None:
        begin(source, tmp_path / "elsewhere")
        backtest(FIRST, SECOND, "1M", lake=source, out=out, **HOW)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replay, "run", meanwhile)
        with pytest.raises(UsageError, match=words):
            backtest(FIRST, SECOND, "1M", lake=source, out=out, **HOW)
    begin(source, out)


def test_an_adopted_table_has_no_extracts_to_replay(source: Lake, tmp_path: Path) -> None:
    (own := tmp_path / "own").mkdir()
    (own / "table.yaml").write_text("id: customer\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(own))
        settings.cache_clear()
        with pytest.raises(UsageError, match=r"own is of an adopted table, .*by: time"):
            backtest(FIRST, SECOND, "1M", lake=source, out=tmp_path / "out", **HOW)
    settings.cache_clear()
    assert not (tmp_path / "out").exists()


def test_the_policy_that_a_replay_reads_is_the_one_that_was_named(source: Lake, tmp_path: Path) -> None:
    file = tmp_path / "careful.yaml"
    content = yaml.safe_load((settings().experiments / "policy.yaml").read_text())
    (tmp_path / "months").mkdir()
    content |= {"label_horizon_months": 3}
    content["drift"]["baseline"] = "months"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    begin(source, tmp_path / "out", file)
    copied = read(tmp_path / "out" / "careful" / "experiments" / "policy.yaml", Policy)
    assert copied == read(file, Policy)
    assert copied != load_policy()
    assert (tmp_path / "out" / "careful" / "experiments" / "tiers.yaml").exists()


def by_time(folder: Path, **holdout: object) -> Path:
    """A policy with a holdout by time, whose labels are complete after a month."""
    content = yaml.safe_load((settings().experiments / "policy.yaml").read_text()) | {
        "label_horizon_months": 1
    }
    content["holdout"] |= {"by": "time", **holdout}
    file = folder / "by-time.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def tables(out: Path) -> dict[str, bytes]:
    """Parts of gold that the steps of a replay built, and the records of the steps."""
    gold = {
        f"{file.parent.parent.name}/{file.name}": file
        for file in out.glob("*/lake/gold/gold_master/**/*.parquet")
    }
    return {
        name: f.read_bytes() for name, f in (gold | {f.name: f for f in out.glob("*/steps/*.json")}).items()
    }


@pytest.mark.slow
def test_label_windows_that_overlap_leave_nothing_to_train_and_every_step_says_so(
    source: Lake, tracking: Path
) -> None:
    policy, last, out = by_time(tracking, embargo_months=12), date(2025, 2, 28), tracking / "out"
    words = r"by-time: no champion came of it\. .*nothing may train: labels of 2024-12-31"
    with pytest.raises(DataError, match=words):
        backtest(FIRST, last, "2M", lake=source, out=out, policies=[policy], **HOW)
    steps = [json.loads(file.read_text()) for file in sorted(out.glob("by-time/steps/*.json"))]
    assert [step["extract"] for step in steps] == ["2024-12-31", "2025-01-31"]
    assert "holds no labelled gold table" in steps[0]["words"][0]
    assert "2025-01-31, which is to be judged on, looks back on 12" in steps[1]["words"][0]
    assert all(step["words"][-1] == "No champion, so nothing was scored." for step in steps)
    before = tables(out)
    with pytest.raises(DataError, match=words):
        backtest(FIRST, last, "2M", lake=source, out=out, policies=[policy], **HOW)
    assert tables(out) == before


def test_what_is_dated_after_the_steps_changes_no_byte_of_their_tables_and_records(tracking: Path) -> None:
    source, out = Lake(tracking / "source"), tracking / "out"

    def left() -> dict[str, bytes]:
        shutil.rmtree(out, ignore_errors=True)
        with pytest.raises(DataError, match="no champion"):
            backtest(FIRST, SECOND, "1M", lake=source, out=out, **HOW)
        return tables(out)

    for as_of in (FIRST, SECOND):
        write_raw(Path(str(source.raw(as_of))), omit=["churn_label"])
    before = left()
    write_raw(Path(str(source.raw(date(2025, 2, 28)))))
    for as_of in (FIRST, SECOND):
        folder = Path(str(source.raw(as_of)))
        contacts = json.loads((folder / "customer_interactions.json").read_text())
        later = [{**contacts[0], "date": "2025-02-15", "interaction_summary": "wants to cancel"}]
        (folder / "customer_interactions.json").write_text(json.dumps([*contacts, *later]))
        prices = pd.read_csv(folder / "price_history.csv", dtype="str", keep_default_na=False)
        dear = prices.head(1).assign(pricing_date="2025-02-01")
        pd.concat([prices, dear]).to_csv(folder / "price_history.csv", index=False)
        attributes = pd.read_csv(folder / "customer_attributes.csv", dtype="str", keep_default_na=False)
        corrected = attributes.assign(known_at="2025-02-15", contracted_power_kw="99")
        pd.concat([attributes, corrected]).to_csv(folder / "customer_attributes.csv", index=False)
    after = left()
    assert [name for name in before if after.get(name) != before[name]] == []
    assert sum(name.startswith("as_of=") for name in before) == 2


def test_steps_whose_labels_have_not_come_are_drawn_without_figures() -> None:
    step = {
        "extract": "2025-03-31",
        "statistic": 2.0,
        "threshold": 3.0,
        "alarm": False,
        "retrain": "",
        "offers": 3,
    }
    replay: Any = SimpleNamespace(steps=[step], figures={}, replay=SimpleNamespace(place=Path("as-it-is")))
    drawn = picture([replay])
    drawn.canvas.draw()
    assert [len(axis.lines[0].get_xdata()) for axis in drawn.axes] == [1, 0, 0]
