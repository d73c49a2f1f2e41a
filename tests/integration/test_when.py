"""Gold with dates through evaluation, scoring and recommendations: the curve arrives where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import mlflow
import numpy as np
import pandas as pd
import pytest

from spanishgas.config.policy import load_policy
from spanishgas.lake import Lake
from spanishgas.lifecycle import evaluation, promotion, registry, runs
from spanishgas.lifecycle.compare import reproduce
from spanishgas.lifecycle.experiments import experiment_inputs, run_experiment
from spanishgas.lifecycle.version import Version
from spanishgas.scoring.recommend import recommend
from spanishgas.scoring.score import score
from spanishgas.training.sides import in_holdout
from tests.cheap_experiments import cheap_search, lenient
from tests.gold_frames import gold_frame, publish_gold
from tests.tracked import forget, own_store

pytestmark = pytest.mark.slow
DAY = date(2024, 12, 31)


def dated_gold(rows: int = 900) -> pd.DataFrame:
    """The angry leave in the first quarter, others late in the year; a tenth is lost after half a year."""
    frame, rng = gold_frame(rows), np.random.default_rng(1)
    angry = (frame["sentiment_label"] == "negative").to_numpy()
    left = rng.random(rows) < np.where(angry, 0.9, 0.05)
    month = np.where(angry, rng.integers(1, 4, rows), rng.integers(7, 13, rows))
    lost = ~left & (rng.random(rows) < 0.1)
    return frame.assign(
        churn=pd.array(np.where(lost, None, left.astype(float)), dtype="Int64"),
        churn_month=pd.Series(month, dtype="Int64").where(pd.Series(left)),
        observed_months=np.where(lost, 6, 18),
        horizon_months=12,
    )


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    root = tmp_path_factory.mktemp("when")
    with own_store(root) as patch:
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.setenv("MLFLOW_UV_AUTO_DETECT", "false")
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(lenient(cheap_search(root / "experiments"))))
        forget()
        yield Lake(root / "lake")
    forget()


@pytest.fixture(scope="module")
def version(lake: Lake) -> Version:
    publish_gold(lake, dated_gold(), DAY)
    run = run_experiment(experiment_inputs("E4", "xgboost", trials=1, lake=lake, seed=7))
    return evaluation.evaluate(run, lake=lake)


def test_the_verdict_holds_how_well_the_model_says_when(version: Version) -> None:
    told = {n.removeprefix("holdout.when."): v for n, v in version.metrics.items() if ".when." in n}
    assert told["integrated_brier.low"] <= told["integrated_brier"] <= told["integrated_brier.high"] < 0.1
    assert told["roc_auc_3m"] > 0.9
    artefacts = {a.path for a in mlflow.MlflowClient().list_artifacts(version.run_id)}
    assert "when.png" in artefacts
    outputs = registry.signature(version.model).outputs.input_names()
    assert outputs[3:] == version.model.curve_columns


def test_scores_and_recommendations_follow_the_curve(version: Version, lake: Lake) -> None:
    promotion.promote(version.number, "tried", override="a test")
    gold, scores = dated_gold(), score("champion", lake=lake).pandas()
    assert (scores["churn_within_12m"] == scores["churn_probability"]).all()
    within = scores[[f"churn_within_{m}m" for m in (1, 3, 6, 12)]].to_numpy()
    assert (np.diff(within, axis=1) >= 0).all()
    both = scores.merge(gold[["customer_id", "sentiment_label", "avg_monthly_margin"]], on="customer_id")
    angry = both["sentiment_label"] == "negative"
    assert (both["early_month"][angry] < 3).mean() > 0.9
    assert (both["expected_month"][angry].mean()) < both["expected_month"][~angry].mean() - 2
    loss = both["avg_monthly_margin"].clip(lower=0) * both["churn_probability"] * 12
    assert (both["expected_loss_12m"] <= loss + 1e-9).all()
    made = recommend(lake=lake).pandas().merge(scores, on="customer_id")
    edges, names = list(load_policy().offers.timing_days.values()), list(load_policy().offers.timing_days)
    windows = [names[min(i, 2)] for i in np.searchsorted(edges, made["early_month"] * 30)]
    assert made["timing_window"].tolist() == windows


def test_who_was_lost_trains_the_hazards_and_counts_as_learned_from(version: Version, lake: Lake) -> None:
    gold = dated_gold()
    aside = in_holdout(gold["customer_id"], load_policy().holdout)
    assert version.training_table(lake).customers == set(gold["customer_id"][~aside])
    assert not any("training customers" in words for words in reproduce(version.number, lake).differs)
    assert runs.status(version.run_id) == "FINISHED"
