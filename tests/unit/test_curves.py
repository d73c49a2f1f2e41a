"""Curves that calibrate and rank nobody anew: as fitted, across folds, in `tune`, in a champion, and as delivered."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss

from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST, families
from spanishgas.evaluation.metrics import ranking
from spanishgas.scoring import payload
from spanishgas.scoring.payload import Media
from spanishgas.training import tune
from spanishgas.training.artefact import FILE, load
from spanishgas.training.calibration import fit_final, out_of_fold
from spanishgas.training.curves import Curve, RisingCurve
from spanishgas.training.fitting import refit
from spanishgas.training.folds import fresh_folds
from spanishgas.training.model import ChurnModel
from tests.churn_models import NATIVE, SMALL, churn_model
from tests.gold_frames import gold_frame
from tests.unit.test_training import training_of
from tests.unit.test_tuning import people

CURVES = pytest.mark.parametrize("shape", list(Curve))


@effort(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-40, 40, width=32), st.booleans()), min_size=4, max_size=60).filter(
        lambda rows: len({label for _, label in rows}) == 2
    ),
    st.sampled_from(list(Curve)),
)
def test_distinct_margins_keep_their_order_and_equal_ones_stay_equal(
    rows: list[tuple[float, bool]], shape: Curve
) -> None:
    margins, y = np.array([m for m, _ in rows]), np.array([int(label) for _, label in rows])
    curve = RisingCurve(shape).fit(margins, y)
    apart = np.unique(margins.round(4))  # ten thousandths of log odds, far below what moves a decision
    assert (np.diff(curve.predict(apart)) > 0).all()
    probability = curve.predict(margins)
    assert ((probability > 0) & (probability < 1)).all()
    assert len(np.unique(probability)) <= len(np.unique(margins))


@CURVES
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, -1.0])
def test_average_precision_is_the_same_before_and_after_also_where_margins_rank_the_wrong_way(
    shape: Curve, scale: float
) -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(-1.5, 2.0, 20_000)
    y = (rng.random(20_000) < 1 / (1 + np.exp(-odds))).astype("int64")
    margins = (scale * odds).astype("float32").astype("float64")  # as boosted trees give them
    probability = RisingCurve(shape).fit(margins[:4_000], y[:4_000]).predict(margins)
    assert len(np.unique(probability)) == len(np.unique(margins))
    assert average_precision_score(y, probability) == average_precision_score(y, margins)


def test_an_isotonic_curve_is_as_well_calibrated_as_steps_are() -> None:
    rng = np.random.default_rng(1)
    margins = rng.normal(0, 2, 24_000)
    y = (rng.random(24_000) < np.where(margins > 1, 0.7, 0.04 + 0.02 * np.tanh(margins))).astype("int64")
    fresh, seen = slice(4_000, None), slice(4_000)
    ours = RisingCurve(Curve.ISOTONIC).fit(margins[seen], y[seen]).predict(margins[fresh])
    steps = IsotonicRegression(out_of_bounds="clip").fit(margins[seen], y[seen]).predict(margins[fresh])
    assert brier_score_loss(y[fresh], ours) <= brier_score_loss(y[fresh], steps) + 1e-4
    assert log_loss(y[fresh], ours) <= log_loss(y[fresh], steps) + 1e-3
    assert ranking(y[fresh], ours)["ece"] <= ranking(y[fresh], steps)["ece"] + 2e-3
    assert len(np.unique(steps)) < 200 < len(np.unique(ours)) == len(np.unique(margins[fresh]))


def test_separable_margins_are_never_given_certainty_however_far_out() -> None:
    margins, y = np.array([-5.0, -4.0, 4.0, 5.0]), np.array([0, 0, 1, 1])
    beyond = np.array([-1e5, -100, -5, 5, 100, 101, 1e4, 1e5])
    for shape in Curve:
        probability = RisingCurve(shape).fit(margins, y).predict(beyond)
        assert 0 < probability.min() < probability.max() < 1
        assert (np.diff(probability) > 0).all()


@CURVES
def test_margins_that_say_nothing_get_the_churn_rate(shape: Curve) -> None:
    y = np.repeat([0, 1], [30, 10])
    assert RisingCurve(shape).fit(np.zeros(40), y).predict(np.zeros(3)) == pytest.approx([0.25] * 3, abs=0.02)


@cache
def delivered(kind: str, shape: Curve) -> tuple[ChurnModel, pd.DataFrame, np.ndarray]:
    model = fit_final(training_of(kind), SMALL[kind][1], 0.3, load_policy(), shape)
    rows = gold_frame(400, seed=11)
    return model, rows, rows["churn"].to_numpy(dtype="int64")


@CURVES
@pytest.mark.parametrize("kind", families())
def test_a_champion_ranks_as_its_margins_do(kind: str, shape: Curve) -> None:
    model, rows, y = delivered(kind, shape)
    margins = model.pipeline.decision_function(model.prepared(rows))
    probability = model.predict(rows)["churn_probability"]
    assert len(np.unique(probability)) == len(np.unique(margins)) > 10
    assert average_precision_score(y, probability) == average_precision_score(y, margins)


@pytest.mark.parametrize("media", list(Media))
def test_the_wire_delivers_every_digit_that_tells_customers_apart(media: Media) -> None:
    model, rows, _ = delivered(XGBOOST, Curve.ISOTONIC)
    body = payload.write(payload.answer(rows["customer_id"], model.predict(rows)), media)
    if media is Media.JSON:
        import json

        back = [row["churn_probability"] for row in json.loads(body)["predictions"]]
    else:
        wanted = {"customer_id": pa.string(), "churn_probability": pa.float64()}
        back = payload.read(body, media, wanted, 1_000)["churn_probability"].tolist()
    assert back == model.predict(rows)["churn_probability"].tolist()


def test_what_cross_validation_reports_is_of_the_curve_that_is_delivered() -> None:
    training = training_of(XGBOOST)
    params = SMALL[XGBOOST][1]
    margins = out_of_fold(training, params)
    curve = fit_final(training, params, 0.3, load_policy(), Curve.ISOTONIC).calibrated.curve
    parts = [p.valid for p in fresh_folds(training.y, training.folds, training.seed)]
    after = [average_precision_score(training.y[v], curve.predict(margins)[v]) for v in parts]
    assert after == refit(training, params)[0]


def test_tune_reports_what_its_probabilities_reach_and_delivers_as_many_as_there_are_margins() -> None:
    X, y = people(400, seed=3)
    model = tune(X, y, trials=1, folds=3, blend=False)
    prepared = model._prepared(X)
    margins = model.calibrated_.estimator.decision_function(prepared)
    probability = model.predict_proba(X)[:, 1]
    assert len(np.unique(probability)) == len(np.unique(margins))
    assert average_precision_score(y == "yes", probability) == average_precision_score(y == "yes", margins)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_champion_that_scikit_learn_calibrated_still_loads_and_scores(method: str, tmp_path: Path) -> None:
    training = training_of(XGBOOST)
    unfitted = training.unfitted(SMALL[XGBOOST][1])
    before = CalibratedClassifierCV(unfitted, method=method, cv=3, ensemble=False).fit(training.X, training.y)
    before.cv = None
    old = ChurnModel(before, list(training.features), dict(training.kinds), 0.3, load_policy().risk_tiers)
    skops.io.dump(old, tmp_path / FILE)
    back, rows = load(tmp_path, "version 1"), gold_frame(30, seed=4)
    assert (back.predict_proba(rows) == old.predict_proba(rows)).all()
    assert back.pipeline.decision_function(back.prepared(rows)).shape == (30,)


def test_a_champion_with_a_rising_curve_comes_back_to_the_last_digit(tmp_path: Path) -> None:
    model, rows = churn_model(NATIVE), gold_frame(30, seed=4)
    skops.io.dump(model, tmp_path / FILE)
    assert (load(tmp_path, "version 2").predict_proba(rows) == model.predict_proba(rows)).all()
