"""What a model lives on: the column that carries the signal loses the most when it is shuffled."""

from __future__ import annotations

import numpy as np
import pytest

from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST
from spanishgas.evaluation.importance import Importance, importance, permutation
from spanishgas.features import load_tiers
from spanishgas.training.calibration import fit_final
from spanishgas.training.matrix import matrix
from spanishgas.training.search import Training
from tests.gold_frames import gold_frame

FEATURES = ["months_to_renewal", "segment", "sentiment_label", "is_negative_sentiment"]
PARAMS = {"n_estimators": 40, "max_depth": 3}


def training() -> Training:
    frame = gold_frame(900)
    frame["is_negative_sentiment"] = (frame["sentiment_label"] == "negative").astype(int)
    kinds = {f: str(load_tiers().kind(f)) for f in FEATURES}
    y = frame["churn"].to_numpy(dtype="int64")
    return Training(matrix(frame, FEATURES, kinds), y, FEATURES, kinds, XGBOOST, 3, 0)


@pytest.fixture(scope="module")
def found() -> Importance:
    data = training()
    model = fit_final(data, dict(PARAMS), 0.5, load_policy())
    return importance(model, data.X, data, PARAMS, load_tiers())


def test_every_feature_and_tier_is_listed_strongest_first(found: Importance) -> None:
    assert set(found.features["feature"]) == set(FEATURES)
    assert list(found.features["drop"]) == sorted(found.features["drop"], reverse=True)
    assert dict(zip(found.tiers["tier"], found.tiers["features"], strict=True)) == {"2B": 2, "1A": 2}


def test_noise_loses_next_to_nothing_and_lies_last_in_attribution(found: Importance) -> None:
    of = found.features.set_index("feature")
    assert of.loc["segment", "low"] <= 0.02
    assert of["attribution"].idxmin() == "segment"


def test_a_column_with_a_twin_may_lose_nothing_but_their_tier_does(found: Importance) -> None:
    of, tiers = found.features.set_index("feature"), found.tiers.set_index("tier")
    twins = of.loc[["sentiment_label", "is_negative_sentiment"], "drop"]
    assert twins.min() < 0.05
    assert tiers.loc["2B", "low"] > 0.1


def test_shuffling_nothing_loses_nothing() -> None:
    lost = permutation(training(), PARAMS, {"nothing": []})
    assert np.allclose(lost.loc["nothing"], 0)
