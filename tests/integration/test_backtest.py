"""Whole replays of a small utility: what they leave, what the future cannot change, and what a kill does not undo."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from mlflow.tracking import MlflowClient

from benchmarks import year
from spanishgas.backtest import replay as replays
from spanishgas.backtest.report import Replayed, compared, picture
from spanishgas.backtest.run import PAGE, PICTURE, backtest
from spanishgas.config.search import XGBOOST
from spanishgas.evaluation.inference import total
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.lake import Lake
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.compare import reproduce
from spanishgas.lifecycle.evaluation import evaluate
from spanishgas.lifecycle.experiments import experiment_inputs, run_experiment, training_rows
from spanishgas.lifecycle.lineage import lineage
from tests.cheap_experiments import cheap_search, lenient
from tests.gold_frames import gold_frame, publish_gold
from tests.tracked import forget, own_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]

MONTHS, CUSTOMERS = 2, 500
LAST = year.month_end(MONTHS)
HOW: Any = {
    "trials": 1,
    "seed": 7,
    "override": "it is watched, whatever its gate says",
    "say": lambda words: None,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("backtest")
    with own_store(root) as patch:
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(lenient(cheap_search(root / "experiments"))))
        forget()
        yield root
    forget()


@pytest.fixture(scope="module")
def source(root: Path) -> Lake:
    """Two months after the base date; in the second one prices have risen, and the labels of the first are there."""
    utility = year.Utility(root, CUSTOMERS, year.SEED)
    for number, shift, known in ((0, "none", 0), (1, "none", 2), (2, "prices", 4)):
        utility.extract(year.month_end(number), shift, year.month_end(known))
    return utility.lake


def played(lake: Lake, out: Path, *policies: Path) -> list[Replayed]:
    return backtest(year.BASE, LAST, "1M", lake=lake, out=out, policies=policies, **HOW)


@pytest.fixture(scope="module")
def both(root: Path, source: Lake) -> list[Replayed]:
    """Two policies: as the files have it, and one that retrains at the first alarm and whose large offer is cheap."""
    policy = yaml.safe_load((root / "experiments" / "policy.yaml").read_text())
    policy["drift"]["windows"] = {"k": 1, "of": 1}
    policy["offers"]["menu"]["offer_large"]["cost_eur"] = 5.0
    (root / "cheap.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))
    return played(source, root / "both", root / "experiments" / "policy.yaml", root / "cheap.yaml")


def left(one: Replayed) -> dict[str, bytes]:
    """Bytes of what the steps of a replay left: their records, and what was scored and recommended."""
    files = {f"steps/{file.name}": file.read_bytes() for file in (one.replay.place / "steps").iterdir()}
    lake = one.replay.view.lake
    for table in ("scores", "recommendations", "treatments"):
        for day in lake.dates(table):
            manifest = (snapshot := lake.current(table, day)).manifest
            files |= {
                f"{table}/{day}/{part}": (snapshot.folder / part).read_bytes() for part in manifest.parts
            }
            files |= {f"{table}/{day}/gold": manifest.built_from.get("gold_master", "").encode()}
    return files


def test_each_step_has_its_row_and_the_labels_that_came_their_measure(both: list[Replayed]) -> None:
    for one in both:
        assert [step["day"] for step in one.steps] == [str(year.BASE), "2025-01-31", "2025-02-28"]
        assert [step["champion"] for step in one.steps] == ["1", "1", "1"]
        assert list(one.steps[0]["judged"]) == ["1"]
        assert set(one.figures) == {"2025-01-31", "2025-02-28"}
        rows = one.table().splitlines()[2:]
        assert len(rows) == 3
        assert all(step["day"] in row for step, row in zip(one.steps, rows, strict=True))


def test_a_replay_does_what_its_own_policy_says_about_an_alarm(both: list[Replayed]) -> None:
    patient, eager = both
    assert [step["alarm"] for step in patient.steps] == [step["alarm"] for step in eager.steps]
    assert patient.steps[-1]["alarm"]
    assert [step["retrain"] for step in patient.steps] == ["", "", ""]
    assert [step["retrain"] for step in eager.steps] == ["", "", "done"]
    assert [list(step["judged"]) for step in eager.steps] == [["1"], [], ["2"]]
    with eager.replay.installed():
        assert registry.resolve("2").record.chosen.as_of == year.month_end(1)


def test_offers_are_worth_what_the_labels_and_the_terms_make_of_them(both: list[Replayed]) -> None:
    one = both[0]
    lake, terms = one.replay.view.lake, one.replay.policy.offers
    for day, rows in one.cohorts.items():
        as_of = date.fromisoformat(day)
        advice = lake.current("recommendations", as_of).pandas().set_index("customer_id").loc[rows.index]
        labels = pd.read_csv(Path(str(one.replay.source.raw(as_of))) / "churn_label.csv", dtype="str")
        left_us = labels.set_index("customer_id")["churn"].loc[rows.index].astype(int)
        margin = rows["avg_monthly_margin"].clip(lower=0)
        for name, offer in terms.menu.items():
            of = advice["action"] == name
            kept = left_us[of] * offer.uplift * terms.horizon_months * margin[of]
            assert list(rows["value"][of]) == pytest.approx(list(offer.acceptance * (kept - offer.cost_eur)))
        assert (rows["value"][advice["action"] == NO_OFFER] == 0).all()


def test_two_policies_are_compared_on_the_same_customers_by_a_paired_interval(both: list[Replayed]) -> None:
    ours, theirs = both
    words = compared(ours, theirs)
    common = pd.concat([theirs.cohorts[d]["value"] - ours.cohorts[d]["value"] for d in ours.cohorts])
    summed = common.groupby(level=0).sum() / len(ours.cohorts)
    ends = [1000 * end / len(summed) for end in (summed.sum(), *total(summed.to_numpy()))]
    assert "{:,.0f} EUR per 1,000 customers and campaign ({:,.0f} to {:,.0f})".format(*ends) in words
    assert "Each by its own terms of offer_large" in words
    assert "assumptions" not in compared(ours, ours)


def test_page_and_picture_lie_in_the_place_and_in_each_run_with_a_child_per_step(
    root: Path, both: list[Replayed]
) -> None:
    assert (root / "both" / PICTURE).stat().st_size > 10_000
    assert all(f"## {one.replay.place.name}" in (root / "both" / PAGE).read_text() for one in both)
    assert len(picture(both).axes) == 3
    for one in both:
        with one.replay.installed():
            [run] = runs.find({"stage": "backtest"})
            children = runs.find({"stage": "step", "mlflow.parentRunId": run.info.run_id})
            files = {file.path for file in MlflowClient().list_artifacts(run.info.run_id)}
        assert sorted(child.data.params["day"] for child in children) == [s["day"] for s in one.steps]
        assert {PAGE, PICTURE} <= files


def test_the_real_experiment_and_model_are_left_alone(both: list[Replayed]) -> None:
    assert registry.aliases() == {}
    assert runs.find({}) == []
    names = [dict(one.replay.names) for one in both]
    assert len({tuple(name.values()) for name in names}) == 2


def test_what_is_dated_or_known_after_a_step_changes_no_byte_that_it_left(
    root: Path, source: Lake, both: list[Replayed]
) -> None:
    later = Lake(root / "later")
    shutil.copytree(str(source.root), str(later.root))
    year.Utility(root / "more", CUSTOMERS, year.SEED).extract(year.month_end(3), "prices", LAST)
    shutil.move(root / "more" / "source" / "raw" / "2025-03-31", Path(str(later.raw(year.month_end(3)))))
    for as_of in (year.BASE, year.month_end(1), LAST):
        folder = Path(str(later.raw(as_of)))
        contacts = json.loads((folder / "customer_interactions.json").read_text())
        cancelled = [
            {**one, "interaction_summary": "wants to cancel", **late}
            for one in contacts
            for late in ({"date": "2025-03-15"}, {"known_at": "2025-03-01"})
        ]
        (folder / "customer_interactions.json").write_text(json.dumps([*contacts, *cancelled]))
        prices = pd.read_csv(folder / "price_history.csv", dtype="str", keep_default_na=False)
        dear = prices.assign(pricing_date="2025-03-15", variable_price_tier1_eur_kwh="0.9")
        corrected = prices.assign(known_at="2025-03-01", variable_price_tier1_eur_kwh="0.8")
        pd.concat([prices, dear, corrected]).to_csv(folder / "price_history.csv", index=False)
        labels = pd.read_csv(folder / "churn_label.csv", dtype="str")
        turned = labels.assign(churn=labels["churn"].map({"0": "1", "1": "0"}), known_at="2025-03-01")
        pd.concat([labels, turned]).to_csv(folder / "churn_label.csv", index=False)
        (file,) = folder.glob("consumption_hourly_*.parquet")
        hours = pd.read_parquet(file)
        later_hours = hours.tail(40).assign(timestamp=pd.Timestamp("2025-03-15 10:00"))
        recounted = hours.tail(40).assign(consumption_elec_kwh=900.0, known_at="2025-03-01")
        pd.concat([hours, later_hours, recounted], ignore_index=True).to_parquet(file, index=False)
    [other] = played(later, root / "from-later")
    before, after = left(both[0]), left(other)
    assert len(before) > 15
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    assert other.figures != both[0].figures  # what was settled after the last step saw the turned labels


def test_a_replay_that_is_killed_after_a_retrain_goes_on_as_if_undisturbed_and_does_no_step_again(
    root: Path, source: Lake, both: list[Replayed]
) -> None:
    out = root / "killed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replays, "windows", _cut_short(replays.windows, 3))
        with pytest.raises(KeyboardInterrupt):
            played(source, out, root / "cheap.yaml")
    steps = {file: file.stat().st_mtime_ns for file in (out / "cheap" / "steps").iterdir()}
    assert len(steps) == 2
    [one] = played(source, out, root / "cheap.yaml")
    assert {file: file.stat().st_mtime_ns for file in steps} == steps
    undisturbed, resumed = left(both[1]), left(one)
    last = [json.loads(files.pop(f"steps/{LAST}.json")) for files in (undisturbed, resumed)]
    assert resumed == undisturbed
    assert [{**step, "words": []} for step in last[:1]] == [{**step, "words": []} for step in last[1:]]
    with one.replay.installed():
        [run] = runs.find({"stage": "backtest"})
        assert {r.info.run_id for r in runs.find({"stage": "backtest"}, finished=False)} == {run.info.run_id}
        assert len(runs.find({"stage": "experiment"})) == 2
        assert len(runs.find({"stage": "step"})) == 3


def _cut_short(real: Any, last: int) -> Any:
    """The function, which is killed when it is called for the `last` time."""
    calls = list[int]()

    def cut() -> Any:
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt
        return real()

    return cut


def test_an_experiment_with_a_holdout_by_time_is_judged_later_and_reports_both_figures(root: Path) -> None:
    lake, folder = Lake(root / "by-time"), root / "by-time-experiments"
    days = [date(2024, 6, 30), date(2024, 9, 30), date(2024, 12, 31)]
    for number, day in enumerate(days):
        publish_gold(lake, gold_frame(900, seed=number, first_id=1 + 30 * number), day)
    shutil.copytree(root / "experiments", folder)
    policy = yaml.safe_load((folder / "policy.yaml").read_text())
    policy["holdout"] |= {"by": "time", "embargo_months": 0, "half_life_months": 6.0}
    policy["label_horizon_months"] = 3
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(folder))
        patch.setenv("SPANISHGAS_REGISTERED_MODEL", "by-time")
        patch.setenv("SPANISHGAS_EXPERIMENT_NAME", "by-time")
        forget()
        inputs = experiment_inputs("E5", XGBOOST, trials=1, seed=7, lake=lake)
        run_id = run_experiment(inputs)
        version = evaluate(run_id, lake=lake)
        chosen = version.record.chosen
        assert [day.manifest.as_of for day in inputs.earlier] == days[:2]
        experiment = MlflowClient().get_run(run_id).data
        assert experiment.params["fresh_folds"].endswith("forward in time")
        told = lake.current("out_of_fold", days[2]).pandas()
        newest = training_rows(inputs.earlier[1].pandas(), inputs.protocol.holdout)
        assert {*told["customer_id"]} == {*newest["customer_id"]}
        assert f"of {len(newest):,} customers" in experiment.tags["mlflow.note.content"]
        assert (chosen.as_of, len(chosen.earlier)) == (days[2], 2)
        assert {"holdout.average_precision", "same_day.average_precision"} <= {*version.metrics}
        assert "than all days that it learned\nfrom" in (version.entity.description or "")
        table = version.training_table(lake)
        assert not {*table.held_out()["customer_id"]} & table.customers
        again = reproduce(version.number, lake)
        assert (again.equal, [d for d in again.differs if "customers" in d]) == (True, [])
        traced = lineage(version.number, lake)
        assert sum(link.what == "gold_master" for link in traced.sources) == 3
    forget()
