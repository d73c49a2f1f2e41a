"""A recalibrated version: the champion's ranking, probabilities by the newest labels, judged and traced like others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
import pytest

from spanishgas import pipeline
from spanishgas.config.policy import load_policy
from spanishgas.errors import TooEarly, UsageError
from spanishgas.lake import Lake
from spanishgas.lifecycle import evaluation, promotion, registry
from spanishgas.lifecycle.compare import reproduce
from spanishgas.lifecycle.experiments import experiment_inputs, run_experiment
from spanishgas.lifecycle.lineage import lineage
from spanishgas.lifecycle.version import Version
from spanishgas.training.model import PROBABILITY
from spanishgas.training.sides import in_holdout
from tests.cheap_experiments import cheap_search, lenient
from tests.gold_frames import gold_frame, publish_gold
from tests.tracked import forget, own_store

DAY, LATER = date(2024, 12, 31), date(2025, 3, 31)
CUSTOMERS, NEWCOMERS = 1500, 300


def labelled(rows: int, low: float, high: float, seed: int) -> pd.DataFrame:
    """Customers who leave for one plain reason, more or less often."""
    frame = gold_frame(rows)
    chance = np.where(frame["sentiment_label"] == "negative", high, low)
    frame["churn"] = pd.array(np.random.default_rng(seed).random(rows) < chance, dtype="Int64")
    return frame


@dataclass(frozen=True)
class Recalibrated:
    """A champion and what became of it when more customers left at every score."""

    lake: Lake
    later: pd.DataFrame
    champion: Version
    version: Version


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recalibrated]:
    root = tmp_path_factory.mktemp("recalibrated")
    with own_store(root) as patch:
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(lenient(cheap_search(root / "experiments"))))
        forget()
        lake = Lake(root / "lake")
        with pytest.raises(UsageError):
            pipeline.recalibrate(lake=lake)
        publish_gold(lake, labelled(CUSTOMERS, 0.03, 0.6, 1), DAY)
        run = run_experiment(experiment_inputs("E0", "xgboost", lake=lake, trials=1, seed=7))
        champion = evaluation.evaluate(run, lake=lake)
        promotion.promote("challenger", "first", "for the test" if not champion.verdict.passed else None)
        with pytest.raises(TooEarly, match="newest labels"):
            pipeline.recalibrate(lake=lake)
        later = labelled(CUSTOMERS + NEWCOMERS, 0.25, 0.9, 2)
        publish_gold(lake, later, LATER)
        yield Recalibrated(lake, later, champion, pipeline.recalibrate(lake=lake))
    forget()


def scored(version: Version, rows: pd.DataFrame) -> np.ndarray:
    return version.model.predict(rows)[PROBABILITY].to_numpy()


def test_it_ranks_as_the_champion_does_and_its_probabilities_are_those_of_the_new_labels(
    made: Recalibrated,
) -> None:
    held = in_holdout(made.later["customer_id"], load_policy().holdout)
    ours, theirs = (scored(version, made.later[held]) for version in (made.version, made.champion))
    assert (np.diff(ours[np.argsort(theirs, kind="stable")]) >= 0).all()
    left = float(made.later["churn"][~held].astype("int64").mean())
    assert abs(ours.mean() - left) < 0.03
    assert theirs.mean() < left - 0.15


def test_its_gate_compared_it_with_the_champion_on_the_held_out_customers_of_the_later_day(
    made: Recalibrated,
) -> None:
    held = in_holdout(made.later["customer_id"], load_policy().holdout)
    assert made.version.number != made.champion.number
    assert made.version.metrics["holdout.rows"] == held.sum()
    assert any(check.name.startswith("champion.average_precision") for check in made.version.verdict.checks)
    assert made.version.metrics["holdout.ece"] < made.champion.metrics["holdout.ece"] + 0.05


def test_what_it_learned_from_stays_the_champions_table_and_its_reference_is_the_later_one(
    made: Recalibrated,
) -> None:
    table, before = (version.training_table(made.lake) for version in (made.version, made.champion))
    assert table.customers == before.customers
    assert table.table.manifest.as_of == DAY
    assert table.judged.manifest.as_of == LATER
    held = in_holdout(made.later["customer_id"], load_policy().holdout)
    assert set(table.held_out()["customer_id"]) == set(made.later["customer_id"][held])


def test_it_is_reproduced_and_traced_to_both_tables(made: Recalibrated) -> None:
    assert reproduce(made.version.number, made.lake).equal
    link = lineage(made.version.number, made.lake)
    assert {source.facts["as of"] for source in link.sources} == {str(DAY), str(LATER)}


def test_the_same_labels_give_the_version_that_is_there(made: Recalibrated) -> None:
    if registry.champion().number == made.version.number:  # type: ignore[union-attr]
        with pytest.raises(TooEarly):
            pipeline.recalibrate(lake=made.lake)
    else:
        assert pipeline.recalibrate(lake=made.lake).number == made.version.number


def test_a_version_that_says_when_is_trained_again_instead(
    made: Recalibrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "champion", lambda: made.champion)
    monkeypatch.setattr(made.champion.model, "hazard", object(), raising=False)
    with pytest.raises(UsageError, match="spanishgas retrain"):
        pipeline.recalibrate(lake=made.lake)
