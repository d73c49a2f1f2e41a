"""When customers leave: hazards in worlds that the simulator did not draw, curves, their metrics, and their uses."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from numpy.typing import NDArray

from spanishgas.config.experiment import experiment_ids, load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import LOGISTIC, XGBOOST
from spanishgas.config.tiers import read_tiers
from spanishgas.evaluation.survival import survival, weights
from spanishgas.evaluation.value import lasting_margin, option_values
from spanishgas.lifecycle import leaving
from spanishgas.lifecycle.experiments import training_rows, training_side
from spanishgas.scoring.payload import Media, inputs, read, write
from spanishgas.scoring.recommend import timing
from spanishgas.scoring.score import expected_losses, score_table
from spanishgas.scoring.serving import scored
from spanishgas.training import artefact, hazard
from spanishgas.training.calibration import cross_calibrated, fit_chosen, out_of_fold
from spanishgas.training.fitting import Training
from spanishgas.training.folds import fresh_folds
from spanishgas.training.hazard import CURVE, HazardModel, fit_hazard, person_months, summary
from spanishgas.training.matrix import matrix
from spanishgas.training.model import PROBABILITY
from spanishgas.training.sides import in_holdout, labelled
from spanishgas.training.times import Times, timed, with_fair_labels
from tests.churn_models import artefact_of, churn_model
from tests.gold_frames import gold_frame
from tests.hazard_worlds import HORIZON, KINDS, WORLDS, curve_of, world

Array = NDArray[np.float64]
PARAMS = {"n_estimators": 60, "max_depth": 3, "learning_rate": 0.15, "class_weight": "balanced"}


# --- worlds


def fitted(X: pd.DataFrame, times: Times, model: str = XGBOOST) -> HazardModel:
    params = PARAMS if model == XGBOOST else {"C": 1.0, "max_iter": 500}
    training = Training(X, times.left.astype("int64"), list(X), KINDS, model, folds=3, seed=1)
    return fit_hazard(training, times, params, even(X))


def even(X: pd.DataFrame) -> Array:
    """A classifier that tells nobody apart."""
    return np.full(len(X), 0.2)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("crossing", XGBOOST),
        ("proportional", LOGISTIC),
        pytest.param("proportional", XGBOOST, marks=pytest.mark.slow),
    ],
)
def test_hazards_are_those_of_worlds_with_customers_lost_by_chance(name: str, model: str) -> None:
    """Drawing quiet months, censoring and balanced classes all move the level, and all of it is undone."""
    X, _, times = world(name, 5_000, seed=1, lost=0.4)
    hazards = fitted(X, times, model)
    fresh, true, _ = world(name, 5_000, seed=2)
    said = hazards.hazards(fresh, even(fresh))
    assert said.shape == true.shape
    rates, expected = said.mean(axis=0), true.mean(axis=0)
    noise = 3.5 * np.sqrt(expected / len(X) / np.linspace(1, 0.55, HORIZON))
    assert (np.abs(rates - expected) < noise + 0.003).all(), (rates, expected)
    early = [h[:, :4].sum(axis=1) / h.sum(axis=1) for h in (said, true)]
    if name == "crossing":
        assert np.corrcoef(*early)[0, 1] > 0.8
    whole = curve_of(said)[:, -1], curve_of(true)[:, -1]
    assert np.corrcoef(*whole)[0, 1] > (0.6 if name == "crossing" else 0.85)


def test_rows_of_several_days_count_by_their_age_and_keep_their_customer_in_one_fold() -> None:
    X, _, times = world("crossing", 1_500, seed=3)
    groups, weights = np.tile(np.arange(500), 3), np.repeat([1.0, 0.5, 0.25], 500)
    training = Training(
        X,
        times.left.astype("int64"),
        list(X),
        KINDS,
        XGBOOST,
        folds=3,
        seed=1,
        groups=groups,
        weights=weights,
    )
    seen: list[Training] = []

    def watched(months: Training, *how: Any) -> Array:
        seen.append(months)
        return out_of_fold(months, *how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hazard, "out_of_fold", watched)
        fit_hazard(training, times, PARAMS, even(X))
    [months] = seen
    assert months.groups is not None
    assert months.weights is not None
    for train, valid in fresh_folds(months.y, months.folds, months.seed, groups=months.groups):
        assert not {*months.groups[train]} & {*months.groups[valid]}
    of_row = dict(zip(X["x"], zip(groups, weights, strict=True), strict=True))
    assert [of_row[x] for x in months.X["x"]] == list(zip(months.groups, months.weights, strict=True))


def test_who_is_told_how_likely_a_customer_leaves_needs_no_column_that_says_so() -> None:
    """Hazards are in proportion to what the classifier knows, where the columns know nothing of it."""
    rng = np.random.default_rng(5)
    X = pd.DataFrame({"x": rng.normal(size=4_000), "z": rng.normal(size=4_000), "months_to_renewal": 6.0})
    p = rng.choice([0.05, 0.5], len(X))
    month = np.where(rng.random(len(X)) < p, rng.integers(1, HORIZON + 1, len(X)), HORIZON + 1)
    times = Times(np.minimum(month, HORIZON).astype("int64"), month <= HORIZON, HORIZON)
    training = Training(X, times.left.astype("int64"), list(X), KINDS, XGBOOST, folds=3, seed=1)
    within = curve_of(fit_hazard(training, times, PARAMS, p).hazards(X, p))[:, -1]
    assert abs(within[p < 0.1].mean() - 0.05) < 0.02
    assert abs(within[p > 0.1].mean() - 0.5) < 0.05


def test_a_curve_rises_to_the_probability_that_the_classifier_states() -> None:
    X, _, times = world("crossing", 1_500, seed=3)
    hazards = fitted(X, times)
    probability = np.random.default_rng(0).random(len(X))
    probability[:4] = [0.0, 1.0, 1e-12, 1 - 1e-12]
    curve = hazards.curves(X, probability)
    assert np.isfinite(curve).all()
    assert (np.diff(curve, axis=1) >= -1e-12).all()
    assert ((curve >= 0) & (curve <= 1)).all()
    np.testing.assert_array_equal(curve[:, -1], probability)
    own = curve_of(hazards.hazards(X, even(X)))
    np.testing.assert_allclose(hazards.curves(X, own[:, -1]), own, atol=1e-7)
    assert hazards.curves(X.head(0), np.empty(0)).shape == (0, HORIZON)


def test_a_customer_counts_for_the_months_in_which_it_could_be_seen_to_leave() -> None:
    times = Times(np.array([3, 2, 0, 12]), np.array([True, False, False, False]), HORIZON)
    customer, month, leaves, drawn = person_months(times, seed=0)
    rows = set(zip(customer.tolist(), month.tolist(), leaves.tolist(), strict=True))
    every = {(0, 1, 0), (0, 2, 0), (0, 3, 1), (1, 1, 0), (1, 2, 0), *((3, m, 0) for m in range(1, 13))}
    assert rows <= every
    assert (0, 3, 1) in rows
    assert drawn == pytest.approx(6 / 16)
    many = Times(np.full(4_000, HORIZON), np.arange(4_000) < 40, HORIZON)
    customer, month, leaves, drawn = person_months(many, seed=0)
    assert leaves.sum() == 40
    assert (month[leaves == 1] == HORIZON).all()
    assert len(leaves) == pytest.approx(1.5 * 4_000, rel=0.05)


def test_a_curve_in_words_has_its_months_by_hand() -> None:
    curve = np.array([[0.2, 0.4, 0.6, 0.8], [0.0, 0.0, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]])
    told = summary(curve, pd.RangeIndex(3))
    assert list(told) == list(CURVE)
    assert told["churn_within_3m"].tolist() == [0.6, 0.1, 0.0]
    assert told[["churn_within_6m", "churn_within_12m"]].isna().all(axis=None)
    assert told["median_months"].tolist() == pytest.approx([2.5, np.nan, np.nan], nan_ok=True)
    assert told["early_month"].tolist()[:2] == pytest.approx([1.0, 2.25])
    assert told["expected_month"].tolist()[:2] == pytest.approx([2.0, 2.5])


# --- metrics against an oracle of loops


def oracle(times: Times, curve: Array, month: int) -> tuple[float, float]:
    """Graf's Brier score and Uno's AUC at a month, customer by customer and pair by pair."""
    n = len(times.month)
    alive, observed = 1.0, [1.0]
    for m in range(month + 1):
        at_risk = sum(times.month[i] > m or (times.month[i] == m and not times.left[i]) for i in range(n))
        lost = sum(times.month[i] == m and not times.left[i] for i in range(n))
        alive *= 1 - lost / at_risk if at_risk else 1
        observed.append(alive)
    brier, over, total = 0.0, 0.0, 0.0
    cases, controls = [], []
    for i in range(n):
        p, t = curve[i, month - 1], times.month[i]
        if times.left[i] and t <= month:
            brier += (1 - p) ** 2 / observed[t]
            cases.append((p, 1 / observed[t]))
        elif t > month or (t == month and not times.left[i]):
            brier += p**2 / observed[month]
            controls.append(p)
    for (p, weight), q in product(cases, controls):
        total += weight
        over += weight * ((p > q) + (p == q) / 2)
    return brier / n, over / total if total else float("nan")


@pytest.mark.parametrize("name", WORLDS)
def test_the_metrics_are_those_of_their_papers(name: str) -> None:
    X, hazard, times = world(name, 250, seed=5, lost=0.5)
    curve = curve_of(hazard * np.random.default_rng(1).uniform(0.5, 1.5, (len(X), 1))).round(2)
    points, intervals = survival(times, curve)
    by_month = [oracle(times, curve, month) for month in range(1, HORIZON + 1)]
    assert points["integrated_brier"] == pytest.approx(np.mean([brier for brier, _ in by_month]))
    for month in (6, 12):
        assert points[f"roc_auc_{month}m"] == pytest.approx(by_month[month - 1][1])
    for metric, (low, high) in intervals.items():
        assert low <= points[metric] <= high or metric.startswith("ece")


def test_customers_who_are_lost_do_not_move_what_is_measured() -> None:
    """The same customers, half of them lost by chance: weights give back the rates, and the scores but for noise."""
    X, hazard, whole = world("proportional", 3_000, seed=6)
    *_, thinned = world("proportional", 3_000, seed=6, lost=0.5)
    assert thinned.left.sum() < 0.85 * whole.left.sum()
    for month in (3, 12):
        rate, n = (whole.left & (whole.month <= month)).mean(), len(X)
        hits, rows = weights(thinned, month)
        assert hits.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / n))
        assert rows.mean() == pytest.approx(1.0, abs=0.02)
    curve = curve_of(hazard)
    told, of_all = (survival(times, curve)[0] for times in (thinned, whole))
    assert told["integrated_brier"] == pytest.approx(of_all["integrated_brier"], rel=0.1)
    assert told["roc_auc_12m"] == pytest.approx(of_all["roc_auc_12m"], abs=0.05)
    assert told["ece_12m"] < 0.025


# --- gold


def dated(gold: pd.DataFrame, times: Times) -> pd.DataFrame:
    """Gold of customers with these times, as the ETL has it."""
    unknown = ~times.left & (times.month < HORIZON)
    return gold.assign(
        churn=pd.Series(times.left.astype("float64")).mask(unknown),
        churn_month=pd.Series(times.month.astype("float64")).where(times.left),
        observed_months=np.where(times.left, HORIZON, times.month),
        horizon_months=HORIZON,
    )


def test_labels_keep_the_churn_rate_where_stayers_were_lost_and_are_all_kept_where_nobody_was() -> None:
    X, hazard, times = world("crossing", 20_000, seed=7, lost=0.5)
    gold = dated(pd.DataFrame({"customer_id": [f"C{i}" for i in range(len(X))]}), times)
    rate = curve_of(hazard)[:, -1].mean()
    kept, raw = with_fair_labels(gold)["churn"].dropna(), gold["churn"].dropna()
    assert raw.mean() > 1.25 * rate
    assert kept.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / len(kept)))
    complete = dated(gold[["customer_id"]], world("crossing", 20_000, seed=7)[2])
    pd.testing.assert_frame_equal(with_fair_labels(complete), complete)
    undated = gold[["customer_id", "churn"]]
    assert with_fair_labels(undated) is undated


@pytest.mark.parametrize(("days", "forward"), [(1, False), (2, False), (2, True)])
def test_hazards_are_told_out_of_fold_probabilities_and_those_of_the_model_where_it_did_not_learn(
    days: int, forward: bool
) -> None:
    policy, params = load_policy(), {"n_estimators": 10, "max_depth": 2}
    tables = []
    for day in range(days):
        rows = gold_frame(400, seed=3 + day)
        left, rng = rows["churn"].to_numpy(dtype=bool), np.random.default_rng(day)
        lost = ~left & (rng.random(len(rows)) < 0.3)
        month = np.where(left, rng.integers(1, 13, len(rows)), np.where(lost, 6, HORIZON))
        tables.append(dated(rows, Times(month.astype("int64"), left, HORIZON)))
    table = tables[0]
    if days > 1:
        table = pd.concat(
            [t.assign(as_of=date(2024, 1 + n, 1), learns=forward and n == 0) for n, t in enumerate(tables)],
            ignore_index=True,
        )
    side = training_side(table, {"months_to_renewal": "numeric"}, XGBOOST, policy, seed=1)
    fitted, told = fit_chosen(side, params, policy), list[Any]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaving, "fit_hazard", lambda *given: told.append(given))
        leaving.hazard_of(side, fitted, table, params, policy.holdout)
    [(everybody, times, _, probability)] = told
    rows = timed(table)
    rows = rows[~in_holdout(rows["customer_id"], policy.holdout)].reset_index(drop=True)
    learned = training_rows(table, policy.holdout)
    key = ["customer_id", *(["as_of"] if days > 1 else [])]
    seen = rows.set_index(key).index.isin(learned.set_index(key).index)
    assert 0 < (~seen).sum() < seen.sum()
    assert len(rows) == len(everybody.X) == len(times.month) == len(probability)
    if forward:
        margins = out_of_fold(replace(side, forward=None), params)
        curve, groups = fitted.chosen_on.curve, side.groups
        by_customer = cross_calibrated(margins, side.y, side.folds, side.seed, curve, groups)
        np.testing.assert_array_equal(probability[seen], by_customer)
        assert len(fitted.chosen_on.probability) == (learned["as_of"] == date(2024, 2, 1)).sum()
    else:
        np.testing.assert_array_equal(probability[seen], fitted.chosen_on.probability)
    np.testing.assert_array_equal(probability[~seen], fitted.model.predict_proba(rows[~seen])[:, 1])
    assert (everybody.groups is None) == (days == 1)


def test_no_experiment_sees_when_customers_left() -> None:
    names = {"churn_month", "observed_months", "horizon_months"}
    for experiment, linear in product(experiment_ids(), (True, False)):
        assert not names & set(load_experiment(experiment).kinds(read_tiers(), linear=linear))


# --- the shipped object


@pytest.fixture(scope="module")
def gold() -> pd.DataFrame:
    rows = gold_frame(400, seed=3)
    left = rows["churn"].to_numpy(dtype=bool)
    month = np.where(left, np.random.default_rng(0).integers(1, 13, len(rows)), HORIZON)
    return dated(rows, Times(month.astype("int64"), left, HORIZON))


@pytest.fixture(scope="module", params=["xgboost", "native categories, isotonic"])
def folder(
    request: pytest.FixtureRequest, gold: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An artefact with a hazard model."""
    plain = tmp_path_factory.mktemp("plain")
    artefact_of(request.param, plain)
    model = artefact.load(plain, "model")
    native = request.param != "xgboost"
    X = matrix(timed(gold), list(model.features), model.kinds)
    side = Training(X, np.zeros(len(X), dtype="int64"), model.features, model.kinds, XGBOOST, folds=2, seed=1)
    params = {"n_estimators": 10, "max_depth": 3, **({"categories": "native"} if native else {})}
    model.hazard = fit_hazard(side, Times.of(timed(gold)), params, model.predict_proba(gold)[:, 1])
    made = tmp_path_factory.mktemp("dated")
    skops.io.dump(model, made / artefact.FILE)
    return made


@pytest.mark.parametrize("media", [Media.PARQUET, Media.CSV])
def test_the_serving_process_answers_the_curve_of_the_model_that_was_stored(
    folder: Path, gold: pd.DataFrame, media: Media
) -> None:
    import pyarrow as pa

    model = artefact.load(folder, "model")
    rows = gold.head(50)
    here = model.predict(rows)
    assert list(here.columns[3:]) == model.curve_columns == list(CURVE)
    wanted = inputs(model)
    body = write(pa.table({name: pa.array(rows[name], kind) for name, kind in wanted.items()}), media)
    answer = scored(model, read(body, media, wanted, 1000), media)
    back = read(answer, media, {"customer_id": pa.string(), **dict.fromkeys(CURVE, pa.float64())}, 1000)
    pd.testing.assert_frame_equal(back[list(CURVE)], here[list(CURVE)].reset_index(drop=True), rtol=1e-15)
    np.testing.assert_array_equal(here["churn_within_12m"], here[PROBABILITY])
    assert list(score_table(rows, folder)) == ["customer_id", *here]
    alone = model.predict(rows.head(1))
    pd.testing.assert_frame_equal(alone, here.head(1))


def test_a_model_without_dates_is_stored_and_answers_as_before(gold: pd.DataFrame, tmp_path: Path) -> None:
    assert b"hazard" not in (artefact_of("xgboost", tmp_path) / artefact.FILE).read_bytes()
    model = churn_model("xgboost")
    assert model.curve_columns == []
    assert list(model.predict(gold.head(3))) == [PROBABILITY, "churn_flag", "risk_tier"]
    assert len(labelled(gold.drop(columns=["churn_month", "observed_months", "horizon_months"]))) == 400


# --- what uses it


def test_losses_and_offers_follow_from_when_customers_leave() -> None:
    scores = pd.DataFrame(
        {
            PROBABILITY: [0.4],
            **{f"churn_within_{m}m": [p] for m, p in ((1, 0.1), (3, 0.2), (6, 0.3), (12, 0.4))},
        }
    )
    losses = expected_losses(scores, pd.Series([10.0]))
    assert [float(loss.iloc[0]) for loss in losses.values()] == pytest.approx([0.5, 3.5, 11.0, 32.0])
    assert float(expected_losses(scores, pd.Series([-3.0]))["expected_loss_12m"].iloc[0]) == 0
    offers = load_policy().offers
    margin = np.array([10.0, 10.0])
    customers = pd.DataFrame({"expected_month": [0.0, 8.0]})
    now, later = option_values(np.array([0.5, 0.5]), lasting_margin(customers, margin, offers), offers).T
    flat = option_values(np.array([0.5]), margin[:1], offers)[:, 0]
    assert now.tolist() == flat.tolist()
    by_hand = [o.acceptance * (0.5 * o.uplift * 24 * 10 - o.cost_eur) for o in offers.menu.values()]
    assert later[1:].tolist() == pytest.approx(by_hand)
    assert lasting_margin(customers.drop(columns="expected_month"), margin, offers) is margin
    assert timing(pd.Series([0.4, 1.5, 2.5, 7.0]), offers) == [
        "immediate",
        "30_60_days",
        "60_90_days",
        "60_90_days",
    ]
