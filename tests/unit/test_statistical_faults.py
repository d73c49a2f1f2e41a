"""The replaced system's statistical faults in choosing, calibrating and cutting: each test fails the faulty way.

S1 calibrator on training rows, S2 threshold of another scale, S4 choosing on the test set, S8 threshold on training
predictions, S9 a recall that only the choosing rows had, S10 a threshold of another model, S11 rungs that are one rung,
S12 differences without an error, S28 training rows among those that judge. Elsewhere: S3 (one artefact holds the
threshold) in test_training and test_lifecycle, S5 (E8 reads no sentiment) in test_training, S14 (one as-of date) in
test_as_of_properties, S24 (predictions under their own ids) in test_lifecycle, S25 and S27 in
test_evaluation_faults.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.calibration import _SigmoidCalibration
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.reading import Value
from spanishgas.config.search import XGBOOST
from spanishgas.evaluation.selection import Rung, choose, steps
from spanishgas.lifecycle.experiments import kinds_of, training_side
from spanishgas.training.calibration import Fitted, fit_chosen, recall_bound, recall_floor
from spanishgas.training.fitting import Training, refit
from spanishgas.training.folds import Fold, fold_error, folds, fresh_folds
from spanishgas.training.sides import in_holdout
from tests.gold_frames import gold_frame

Array = NDArray[np.float64]
ROWS, FLOOR = 1500, load_policy().threshold.min_recall
DEEP: dict[str, Value] = {
    "n_estimators": 60,
    "max_depth": 9,
    "learning_rate": 0.3,
    "class_weight": "balanced",
}
"""Learns its training rows by heart, and weighs classes: everything that punishes the faulty ways."""


def drawn(seed: int, rows: int = ROWS) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(rows, 6)), columns=list("abcdef"))
    odds = -2.5 + 1.8 * X["a"] - 1.2 * X["b"]
    return X, (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype("int64").to_numpy()


@cache
def training() -> Training:
    X, y = drawn(0)
    names = list(X.columns)
    return Training(X, y, names, dict.fromkeys(names, "numeric"), XGBOOST, 5, 3, repeats=2)


@cache
def fitted() -> Fitted:
    return fit_chosen(training(), DEEP, load_policy())


def probability_of_fresh_rows() -> tuple[Array, NDArray[np.int64]]:
    X, y = drawn(1, 6000)
    return fitted().model.predict_proba(X)[:, 1], y


def test_s1_the_curve_stands_on_rows_that_the_model_did_not_train_on() -> None:
    probability, y = probability_of_fresh_rows()
    model, X = fitted().model, drawn(1, 6000)[0]
    seen = model.pipeline.decision_function(training().X)
    in_sample = LogisticRegression(C=np.inf, max_iter=1000).fit(seen[:, None], training().y)
    faulty = in_sample.predict_proba(model.pipeline.decision_function(X)[:, None])[:, 1]
    ours = brier_score_loss(y, probability)
    assert ours < y.mean() * (1 - y.mean())
    assert ours < brier_score_loss(y, faulty) - 0.005
    assert probability.mean() == pytest.approx(y.mean(), abs=0.02)


def test_s2_the_threshold_flags_as_many_fresh_rows_as_it_did_out_of_fold() -> None:
    probability, _ = probability_of_fresh_rows()
    chosen_on, threshold = fitted().chosen_on.probability, fitted().model.threshold
    assert (probability >= threshold).mean() == pytest.approx((chosen_on >= threshold).mean(), abs=0.05)
    _, margins = refit(training(), DEEP)
    raw = 1 / (1 + np.exp(-margins))
    of_raw = recall_floor(raw, training().y, FLOOR, 0.95)
    assert abs((probability >= of_raw).mean() - (chosen_on >= threshold).mean()) > 0.05


def test_s4_nothing_of_the_holdout_reaches_what_chooses() -> None:
    gold, policy = gold_frame(400), load_policy()
    held = in_holdout(gold["customer_id"], policy.holdout)
    spoilt = gold.copy()
    spoilt.loc[held, "churn"] = 1 - spoilt.loc[held, "churn"]
    spoilt.loc[held, "months_to_renewal"] = 1e6
    one, other = (
        training_side(g, kinds_of(load_experiment("E5"), XGBOOST), XGBOOST, policy, 1) for g in (gold, spoilt)
    )
    assert held.sum() > 50
    assert len(one.y) == (~held).sum()
    assert (one.y == other.y).all()
    pd.testing.assert_frame_equal(one.X, other.X)


def test_s8_the_threshold_is_not_chosen_on_training_predictions() -> None:
    probability, y = probability_of_fresh_rows()
    model = fitted().model
    recall = (probability[y == 1] >= model.threshold).mean()
    of_training = recall_floor(model.predict_proba(training().X)[:, 1], training().y, FLOOR, 0.95)
    faulty = (probability[y == 1] >= of_training).mean()
    assert recall > FLOOR - 0.03
    assert faulty < FLOOR - 0.1


def test_s9_the_floor_of_recall_holds_for_new_customers_and_not_only_for_those_who_chose_it() -> None:
    held, held_by_the_point = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = (np.arange(800) < 80).astype("int64")
        score = rng.normal(2.0 * y)
        for rule, confidence in ((held, 0.95), (held_by_the_point, 0.5)):
            rule.append(stats.norm.sf(recall_floor(score, y, FLOOR, confidence), 2.0) >= FLOOR)
    # 95 % by design, less three binomial standard errors of 200 repeats
    assert np.mean(held) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 200)
    assert np.mean(held_by_the_point) < 0.8


def test_s9_the_bound_is_the_exact_one_sided_one() -> None:
    exact = [
        stats.binomtest(k, 40, alternative="greater").proportion_ci(0.95, method="exact").low
        for k in range(41)
    ]
    assert recall_bound(np.arange(41.0), 40, 0.95) == pytest.approx(exact)


def test_s10_curve_and_threshold_stand_on_the_same_predictions_of_the_same_model() -> None:
    _, margins = refit(training(), DEEP)
    by_hand = _SigmoidCalibration().fit(margins, training().y)
    inside = fitted().model.calibrated.curve
    assert (inside.slope_, inside.intercept_) == pytest.approx((-by_hand.a_, -by_hand.b_), rel=1e-4)
    assert fitted().model.threshold == recall_floor(
        fitted().chosen_on.probability, training().y, FLOOR, load_policy().threshold.confidence
    )


def test_s11_a_rung_with_the_features_of_another_is_said_to_be_the_same() -> None:
    scores = (0.7, 0.72, 0.71, 0.69)
    same, crossed = (
        Rung("E5", "xgboost", "a", 56, scores),
        Rung("E6", "xgboost", "b", 56, scores, below=("E5",)),
    )
    assert "E5 to E6 with xgboost changes nothing" in steps([same, crossed])[0].words
    noise = Rung("E6", "xgboost", "b", 56, (0.71, 0.71, 0.71, 0.69), below=("E5",))
    assert "cannot be told from noise" in steps([same, noise])[0].words


def test_s12_a_difference_within_the_error_of_shared_training_rows_decides_nothing() -> None:
    gap = np.array([0.004, -0.002, 0.006, 0.001, 0.003, 0.002, -0.001, 0.005, 0.000, 0.004])
    base = np.linspace(0.70, 0.76, 10)
    small = Rung("E4", "xgboost", "a", 50, tuple(base), repeats=2)
    large = Rung("E5", "xgboost", "b", 56, tuple(base + gap), repeats=2)
    by_hand = gap.std(ddof=1) * np.sqrt(1 / 10 + 1 / 4)
    assert fold_error(gap.tolist(), repeats=2) == pytest.approx(by_hand)
    naive = gap.std(ddof=1) / np.sqrt(10)
    assert naive < gap.mean()  # would have made the larger one the best beyond one standard error
    assert [c.chosen for c in choose([small, large])] == [gap.mean() <= by_hand, gap.mean() > by_hand]


def test_s12_equal_features_pay_in_about_one_of_forty_comparisons_and_not_in_one_of_five() -> None:
    """A mean of one column is the whole model: cheap, and its training rows are shared by the folds as ever."""
    pays, naively = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 100)
        columns = rng.normal(size=(2, 100)) + 0.4 * y
        gains = [np.subtract(*(_hits(c, y, fold) for c in columns)) for fold in fresh_folds(y, 5, seed, 2)]
        limit = stats.t.ppf(0.975, 9)
        pays.append(np.mean(gains) > limit * fold_error(gains, repeats=2))
        naively.append(np.mean(gains) > limit * np.std(gains, ddof=1) / np.sqrt(10))
    # 2.5 % by design, and three binomial standard errors of 300 repeats
    assert np.mean(pays) < 0.025 + 3 * np.sqrt(0.025 * 0.975 / 300)
    assert np.mean(naively) > 0.08


def _hits(column: Array, y: NDArray[np.int64], fold: Fold) -> float:
    one, other = (column[fold.train][y[fold.train] == c].mean() for c in (0, 1))
    said = abs(column[fold.valid] - other) < abs(column[fold.valid] - one)
    return float((said == y[fold.valid]).mean())


def test_s28_every_row_that_chooses_or_reports_was_predicted_by_a_model_that_had_not_seen_it() -> None:
    y = training().y
    for fold in [*folds(y, 5, 3), *fresh_folds(y, 5, 3, 2)]:
        assert not set(fold.train) & set(fold.valid)
    _, margins = refit(training(), DEEP)
    in_sample = fitted().model.pipeline.decision_function(training().X)
    separated = [m[y == 1].min() > m[y == 0].max() for m in (margins, in_sample)]
    assert separated == [False, True]
