"""A new champion on probation: judged by newer labels on rows that both score, and what the policy does about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities.model_registry import ModelVersion
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from spanishgas.cli import app
from spanishgas.config.policy import ProbationRules, load_policy
from spanishgas.config.search import LOGISTIC
from spanishgas.errors import TrackingError
from spanishgas.evaluation.inference import Predictions, differences
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import history, promotion, registry, runs
from spanishgas.lifecycle.gate import predictions
from spanishgas.lifecycle.history import PROBATION
from spanishgas.lifecycle.version import ROLLED_BACK, Version
from spanishgas.monitoring import outcomes as stage
from spanishgas.monitoring.outcomes import outcomes
from spanishgas.monitoring.probation import CohortJudgement, Probation, ProbationRecord
from spanishgas.settings import settings
from spanishgas.training.model import PROBABILITY, ChurnModel
from spanishgas.training.sides import in_holdout
from tests.churn_models import churn_model
from tests.labels import customers
from tests.scored_cohorts import DAY, LATER, drawn, poor_model, reference, score, version_of, write_labels
from tests.tracked import own_model, own_store
from tests.versions import add_version, made_up_record

EARLIER = date(2024, 9, 30)


@dataclass(frozen=True)
class Shop:
    """A lake with a labelled cohort, and the two tables that versions were trained on."""

    root: Path
    lake: Lake
    tables: tuple[Snapshot, Snapshot]
    scored: pd.DataFrame
    file: Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("shop")
    with own_store(root):
        lake = Lake(root / "lake")
        tables = reference(lake, EARLIER), reference(lake, DAY)
        scored = score(lake, "1")
        file = write_labels(scored, drawn(scored[PROBABILITY].to_numpy(), 11), root / "labels.csv")
        yield Shop(root, lake, tables, scored, file)


@pytest.fixture(autouse=True)
def model(shop: Shop, request: pytest.FixtureRequest) -> Iterator[str]:
    with own_model(request.node.name) as name:
        yield name


def good_model() -> ChurnModel:
    """Labels are drawn from its probabilities."""
    return churn_model(LOGISTIC)


def promoted(shop: Shop, *models: ChurnModel) -> None:
    """Versions 1 and 2, champions one after the other; the first of an earlier table."""
    for model, trained in zip(models, shop.tables, strict=False):
        folder = shop.root / f"{settings().registered_model}-{trained.manifest.as_of}"
        promotion.promote(version_of(model, trained, folder), "next")


def follow(monkeypatch: pytest.MonkeyPatch, **rules: object) -> None:
    """A policy with other rules of probation."""
    given = load_policy()
    probation = ProbationRules.model_validate(given.probation.model_dump() | rules)
    policy = given.model_copy(update={"probation": probation})
    monkeypatch.setattr(stage, "load_policy", lambda: policy)


def test_a_worse_champion_stays_where_the_policy_proposes_and_the_command_is_named_every_time(
    shop: Shop,
) -> None:
    promoted(shop, good_model(), poor_model())
    told = outcomes(shop.file, lake=shop.lake).probation
    assert registry.aliases()["champion"] == "2"
    assert told[0].startswith(
        "Probation of version 2: worse, 1 of 3 cohorts; as of 2025-03-31 against version 1:"
    )
    assert 'spanishgas rollback --reason "probation, as of 2025-03-31' in told[1]
    assert registry.resolve("2").tags[PROBATION].startswith("worse, 1 of 3 cohorts")
    shown = CliRunner().invoke(app, ["history"]).output
    assert "[probation: worse, 1 of 3 cohorts" in shown.replace("\n", " ")
    assert "worse" in CliRunner().invoke(app, ["history", "--json"]).output
    assert outcomes(shop.file, lake=shop.lake).probation == [told[1]]


def test_a_worse_champion_is_rolled_back_where_the_policy_says_so_even_if_that_was_prevented_at_first(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(shop, good_model(), poor_model())
    outcomes(shop.file, lake=shop.lake)
    judged = len(runs.find({"stage": "probation"}))
    follow(monkeypatch, action="rollback")
    told = outcomes(shop.file, lake=shop.lake).probation
    assert registry.aliases()["champion"] == "1"
    assert told == ["Rolled back to version 1. To score with it: spanishgas score"]
    assert "probation, as of 2025-03-31" in registry.resolve("2").tags[ROLLED_BACK]
    assert history.read().moves[-1].how is history.How.ROLLED_BACK
    assert len(runs.find({"stage": "probation"})) == judged
    assert outcomes(shop.file, lake=shop.lake).probation == []


def test_a_champion_that_is_no_worse_passes_and_both_were_judged_on_customers_new_to_them_without_an_offer(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(monkeypatch, cohorts=1)
    promoted(shop, poor_model(), good_model())
    told = outcomes(shop.file, lake=shop.lake).probation
    assert told[0].startswith("Probation of version 2: passed, 1 of 1 cohorts")
    assert len(told) == 1
    assert registry.aliases()["champion"] == "2"
    run = runs.find({"stage": "probation"})[0]
    offers = shop.lake.current("treatments").pandas()
    known = shop.tables[0].pandas()["customer_id"]
    trained = known[~in_holdout(known, load_policy().holdout)]
    fair = ~shop.scored["customer_id"].isin({*trained, *offers["customer_id"][offers["arm"] == "offer"]})
    assert run.data.metrics["probation.rows"] == fair.sum()
    control = shop.scored["customer_id"].isin(offers["customer_id"][offers["arm"] == "control"])
    stands = np.where(control, 1 / offers["control_share"].iloc[0], 1.0)[fair]
    rows = shop.lake.current("gold_master").pandas()[fair.to_numpy()]
    y = pd.read_csv(shop.file)["churn"].to_numpy()[fair]
    both = [predictions(one, rows, y, load_policy().offers) for one in (good_model(), poor_model())]
    ours, theirs = (average_precision_score(y, one.probability, sample_weight=stands) for one in both)
    assert run.data.metrics["probation.average_precision"] == pytest.approx(ours - theirs)
    assert run.data.metrics["probation.value_eur"] == pytest.approx(stands @ (both[0].value - both[1].value))
    for name in ("average_precision", "value_eur"):
        ends = [run.data.metrics[f"probation.{name}{end}"] for end in (".low", "", ".high")]
        assert ends == sorted(ends)
    assert run.data.metrics["probation.average_precision.low"] > 0
    assert (run.data.params["against"], run.data.tags["worse"]) == ("1", "no")


def test_a_first_champion_or_one_that_came_back_is_not_on_probation(shop: Shop) -> None:
    promoted(shop, good_model())
    assert Probation.running(load_policy()) is None
    promotion.promote(add_version(), "second")
    assert Probation.running(load_policy()) is not None
    promotion.rollback("odd", of="2")
    assert Probation.running(load_policy()) is None


def test_a_rollback_of_a_version_that_is_no_longer_champion_is_refused(shop: Shop) -> None:
    promoted(shop, good_model(), poor_model())
    with pytest.raises(TrackingError, match="version 1 is no longer champion, version 2 is"):
        promotion.rollback("late", of="1")
    assert registry.aliases()["champion"] == "2"


def test_without_the_table_that_one_learned_from_nobody_is_judged(shop: Shop) -> None:
    earlier, later = shop.tables
    gone = replace(earlier, manifest=earlier.manifest.model_copy(update={"digest": "0" * 64}))
    promoted(replace(shop, tables=(gone, later)), good_model(), poor_model())
    told = outcomes(shop.file, lake=shop.lake).probation
    assert len(told) == 1
    assert "cannot be judged" in told[0]
    assert PROBATION not in registry.resolve("2").tags


def test_few_labels_judge_nobody_and_leave_room_for_the_rest(shop: Shop) -> None:
    promoted(shop, good_model(), poor_model())
    few = shop.root / "few.csv"
    pd.read_csv(shop.file).head(60).to_csv(few, index=False)
    told = outcomes(few, lake=shop.lake).probation
    assert len(told) == 1
    assert "neither version 2 nor version 1 learned from" in told[0]
    assert PROBATION not in registry.resolve("2").tags
    assert "worse, 1 of 3" in outcomes(shop.file, lake=shop.lake).probation[0]


def trial(record: ProbationRecord, **rules: object) -> Probation:
    version = Version(ModelVersion("m", "2", 0))
    version.__dict__["record"] = made_up_record(as_of=DAY)
    return Probation(version, "1", 3, record, ProbationRules.model_validate(rules))


def judged(day: date, *, worse: bool = False, move: int = 3) -> dict[str, CohortJudgement]:
    return {day.isoformat(): CohortJudgement(digest="d", move=move, worse=worse, words="")}


def test_a_cohort_is_judged_once_while_there_is_room_and_only_if_it_is_newer_than_the_training() -> None:
    new, next_day = trial(ProbationRecord()), LATER + timedelta(1)
    assert new.takes(LATER, "d")
    assert not new.takes(DAY, "d")
    assert not new.takes(EARLIER, "d")
    assert not trial(ProbationRecord(), days=30).takes(LATER, "d")
    assert trial(ProbationRecord(), days=90).takes(LATER, "d")
    once = ProbationRecord(cohorts=judged(LATER))
    assert not trial(once).takes(LATER, "d")
    assert trial(once).takes(LATER, "other labels")
    assert trial(once).takes(next_day, "d")
    assert not trial(once, cohorts=1).takes(next_day, "d")
    assert not trial(ProbationRecord(cohorts=judged(LATER, worse=True))).takes(next_day, "d")


def test_a_cohort_that_cost_a_version_its_place_does_not_speak_again_when_somebody_brings_it_back() -> None:
    before = trial(ProbationRecord(cohorts=judged(LATER, worse=True, move=2)))
    assert not before.worse
    assert not before.takes(LATER, "other labels")
    assert before.takes(LATER + timedelta(1), "d")


def test_the_chance_of_error_is_shared_between_the_cohorts() -> None:
    assert trial(ProbationRecord(), cohorts=1, confidence=0.9).level == pytest.approx(0.9)
    assert trial(ProbationRecord(), cohorts=4, confidence=0.9).level == pytest.approx(0.975)


def test_counts_and_level_of_a_paired_difference_are_what_they_say() -> None:
    y, p = customers(300, 3)
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 4, 300)
    ours, theirs = (Predictions(p + rng.normal(0, noise, 300), p * noise) for noise in (0.05, 0.2))
    rows = np.repeat(np.arange(300), counts)
    our, their = (Predictions(m.probability[rows], m.value[rows]) for m in (ours, theirs))
    found = differences(y, ours, theirs, 0, counts=counts.astype(float))
    repeated = differences(y[rows], our, their, 0)
    for name, one in found.items():
        assert one.value == pytest.approx(repeated[name].value)
    wide, narrow = (
        differences(y, ours, theirs, 0, level=level)["average_precision"] for level in (0.99, 0.8)
    )
    assert wide.low < narrow.low < narrow.high < wide.high
