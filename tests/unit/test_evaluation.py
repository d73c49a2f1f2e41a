"""What a model is worth: metrics, intervals, value, attributions, pictures, and the rule that chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from spanishgas.config.policy import Offer, Offers, load_policy
from spanishgas.config.reading import Value
from spanishgas.config.search import FOREST, LOGISTIC, XGBOOST, families
from spanishgas.evaluation import inference, slices
from spanishgas.evaluation.charts import curves_chart, ladder_chart
from spanishgas.evaluation.importance import contributions
from spanishgas.evaluation.inference import (
    Judged,
    Predictions,
    differences,
    figures,
    holm,
    performance,
    resamples,
    total,
)
from spanishgas.evaluation.metrics import (
    average_precisions,
    confusion,
    decisions,
    fold_interval,
    ranking,
    with_intervals,
)
from spanishgas.evaluation.selection import Rung, choose, steps
from spanishgas.evaluation.value import NO_OFFER, best_offer, offer_value, option_values, realised_value
from spanishgas.features import load_tiers
from spanishgas.training.calibration import fit_final
from spanishgas.training.fitting import Training
from spanishgas.training.matrix import matrix
from spanishgas.training.model import ChurnModel
from tests.gold_frames import gold_frame

Array = NDArray[np.float64]


def simulated(rows: int, seed: int = 0) -> tuple[NDArray[np.int64], Array]:
    """Labels, and the probabilities that they were drawn from."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 4, rows)
    return (rng.random(rows) < p).astype("int64"), p


# --- metrics


def test_a_perfectly_calibrated_constant_has_no_calibration_error() -> None:
    assert ranking(np.tile([1, 0, 0, 0], 100), np.full(400, 0.25))["ece"] == 0


def test_calibration_error_does_not_depend_on_the_order_of_the_rows() -> None:
    y, p = np.repeat([0, 1], 200), np.full(400, 0.5)
    assert ranking(y, p)["ece"] == 0


def test_calibration_error_of_a_constant_is_its_distance_from_the_rate() -> None:
    assert ranking(np.tile([1, 0], 50), np.full(100, 0.8))["ece"] == pytest.approx(0.3)


def test_calibration_error_is_of_tenths_of_the_customers_in_order_of_probability() -> None:
    y, p = np.array([1, *[0] * 9, 1]), np.linspace(0, 1, 11)
    # the lowest two are one group, which is 0.9 off; the others are 0.2 to 0.9 and 0 off
    assert ranking(y, p)["ece"] == pytest.approx((0.9 + np.arange(0.2, 1, 0.1).sum()) / 11)


def test_true_probabilities_are_better_calibrated_than_sharpened_ones() -> None:
    y, p = simulated(4000)
    assert ranking(y, p)["ece"] < 0.03 < ranking(y, p**2)["ece"]


def test_ranking_names_its_metrics_and_a_perfect_order_scores_one() -> None:
    found = ranking(np.array([0, 0, 1, 1]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert found == pytest.approx(
        {
            "average_precision": 1.0,
            "roc_auc": 1.0,
            "brier": 0.0,
            "log_loss": 0.0,
            "ece": 0.0,
            "lift_05": 2.0,
            "lift_10": 2.0,
            "lift_20": 2.0,
        }
    )


@pytest.mark.parametrize("digits", [1, 8])
def test_the_metrics_are_scikit_learns_with_and_without_ties(digits: int) -> None:
    y, p = simulated(500)
    p = np.clip(p.round(digits), 0.001, 0.999)
    flag = (p > 0.3).astype("int64")
    found = ranking(y, p) | decisions(y, flag)
    assert found["average_precision"] == pytest.approx(average_precision_score(y, p))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(y, p))
    assert found["brier"] == pytest.approx(brier_score_loss(y, p))
    assert found["log_loss"] == pytest.approx(log_loss(y, p))
    assert found["precision"] == pytest.approx(precision_score(y, flag))
    assert found["recall"] == pytest.approx(recall_score(y, flag))


def test_a_lift_is_the_rate_of_the_riskiest_over_that_of_all() -> None:
    y = np.array([1, 1, 0, 1, *[0] * 12, *[1] * 4])
    lifts = ranking(y, np.linspace(1, 0, 20))
    assert lifts["lift_05"] == pytest.approx(1 / 0.35)
    assert lifts["lift_10"] == pytest.approx(1 / 0.35)
    assert lifts["lift_20"] == pytest.approx(0.75 / 0.35)


def test_the_lift_of_one_score_for_all_is_one_whatever_their_order() -> None:
    found = ranking(np.repeat([1, 0], [10, 90]), np.full(100, 0.1))
    assert [found[f"lift_{share}"] for share in ("05", "10", "20")] == pytest.approx([1.0] * 3)


def test_the_confusion_table_counts_everyone_once() -> None:
    counts = confusion(np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0]))
    assert counts == {
        "churners flagged": 2,
        "churners missed": 1,
        "stayers flagged": 1,
        "stayers left alone": 1,
    }


def test_precision_and_recall_by_hand_and_zero_where_nothing_is_flagged() -> None:
    y = np.array([1, 1, 1, 0, 0])
    assert decisions(y, np.array([1, 1, 0, 1, 0])) == pytest.approx({"precision": 2 / 3, "recall": 2 / 3})
    assert decisions(y, np.zeros(5, dtype="int64")) == {"precision": 0.0, "recall": 0.0}


def test_a_resample_is_one_of_customers_and_not_within_classes() -> None:
    y = np.repeat([0, 1], [270, 30])
    weights = np.concatenate(list(resamples(y, 0, draws=4000)))
    assert weights.shape == (4000, 300)
    assert (weights.sum(axis=1) == 300).all()
    churners = weights @ y
    # binomial: within classes every draw would hold 30. Its deviation over 4,000 draws is known to 1.1 %
    assert churners.mean() == pytest.approx(30, abs=4 * np.sqrt(27 / 4000))
    assert churners.var() == pytest.approx(300 * 0.1 * 0.9, rel=0.09)


def test_a_batch_of_which_every_draw_lacks_a_class_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.repeat([0, 1], [59, 1])
    monkeypatch.setattr(inference, "CELLS", 1)  # batches of one draw
    batches = list(resamples(y, 0, draws=50))
    assert [len(batch) for batch in batches] == [1] * 50


def test_a_resample_that_lacks_a_class_is_drawn_again_and_the_number_of_draws_kept() -> None:
    y = np.repeat([0, 1], [59, 1])  # more than a third of all resamples hold no churner
    weights = np.concatenate(list(resamples(y, 0, draws=300)))
    assert len(weights) == 300
    assert (weights @ y > 0).all()
    alone = np.concatenate(list(resamples(np.zeros(60, dtype="int64"), 0, draws=30)))
    assert len(alone) == 30


def test_every_interval_over_customers_lets_the_churn_rate_vary() -> None:
    """The average precision of one score for all is the churn rate: within classes its interval would be a point."""
    y, same, flag = np.repeat([0, 1], [240, 60]), np.full(300, 0.2), np.ones(300, dtype="int64")
    perfect = Predictions(y.astype(float), np.zeros(300))
    (part,) = slices.measure(y, same, flag, {"all": pd.Series(["x"] * 300)}, 0)
    difference = differences(y, Predictions(same, y.astype(float)), perfect, 0)
    found = [
        performance(Judged(y, same, flag, same))[1]["average_precision"],
        (difference["average_precision"].low + 1, difference["average_precision"].high + 1),
        (difference["value_eur"].low / 300, difference["value_eur"].high / 300),
        part.interval or (0.0, 0.0),
    ]
    half = 1.96 * np.sqrt(0.2 * 0.8 / 300)
    assert found == [pytest.approx((0.2 - half, 0.2 + half), abs=half / 8)] * 4


def test_intervals_hold_a_truth_that_varies_with_the_churn_rate_as_often_as_they_say() -> None:
    truth, repeats, held = 0.3, 200, 0
    for seed in range(repeats):
        y = (np.random.default_rng([seed, 1]).random(150) < truth).astype("int64")
        low, high = performance(Judged(y, np.full(150, 0.5), y, y.astype(float)), seed=seed)[1][
            "average_precision"
        ]
        held += low <= truth <= high
    assert binom.ppf(0.005, repeats, 0.94) <= held <= binom.ppf(0.995, repeats, 0.96)


def test_the_interval_of_a_skewed_total_holds_it_where_the_plain_one_does_not() -> None:
    """Lognormal sums of 400 customers: the plain interval's upper end is too low."""
    rng, sigma, repeats = np.random.default_rng(0), 1.5, 2000
    truth, ends, plain = 400 * np.exp(sigma**2 / 2), [], []
    for values in np.exp(sigma * rng.normal(size=(repeats, 400))):
        ends.append(total(values))
        half = inference.Z * np.sqrt(400) * values.std() * (1 - 1e-9)
        plain.append((values.sum() - half, values.sum() + half))
    held, held_plainly = (np.mean([low <= truth <= high for low, high in of]) for of in (ends, plain))
    assert held_plainly < 0.925
    assert 0.93 <= held <= 0.97
    assert all(
        low <= below and high >= above for (low, high), (below, above) in zip(ends, plain, strict=True)
    )


def test_the_interval_of_an_even_total_is_the_normal_one_and_of_equal_values_a_point() -> None:
    values = np.repeat([-1.0, 3.0], 200)
    assert total(values) == pytest.approx((400 - 1.96 * 40, 400 + 1.96 * 40), rel=1e-3)
    assert total(np.full(9, 2.0)) == (18.0, 18.0)


def test_holms_procedure_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({}) == {}


def test_the_interval_contains_the_point_and_the_same_seed_gives_the_same() -> None:
    y, p = simulated(600)

    def metric(weights: Array) -> Mapping[str, Array]:
        return {"average_precision": average_precisions(weights * y, weights, p)}

    points, found = figures(metric, y, 1)
    low, high = found["average_precision"]
    assert points["average_precision"] == pytest.approx(average_precision_score(y, p))
    assert low < points["average_precision"] < high
    assert (points, found) == figures(metric, y, 1) != figures(metric, y, 2)
    inner = figures(metric, y, 1, level=0.5)[1]["average_precision"]
    assert low < inner[0] < inner[1] < high


def test_the_fold_interval_is_students_t_with_the_corrected_error_by_hand() -> None:
    half = 4.302653 * 0.1 * np.sqrt(1 / 3 + 1 / 2)  # t of 0.975 at 2 degrees of freedom; sample deviation 0.1
    assert fold_interval([0.6, 0.7, 0.8]) == pytest.approx((0.7 - half, 0.7 + half))


def test_flat_metrics_carry_the_point_and_both_ends() -> None:
    assert with_intervals("holdout", {"brier": 0.2, "ece": 0.1}, {"brier": (0.1, 0.3)}) == {
        "holdout.brier": 0.2,
        "holdout.ece": 0.1,
        "holdout.brier.low": 0.1,
        "holdout.brier.high": 0.3,
    }


# --- the rule that chooses


def rung(name: str, features: int, *scores: float, model: str = "xgboost") -> Rung:
    return Rung(name, model, f"{name}-{model}", features, scores)


def chosen(*rungs: Rung) -> str:
    (one,) = [c.rung for c in choose(rungs) if c.chosen]
    return one.run_id


def test_the_simplest_within_one_paired_standard_error_wins() -> None:
    best, simple = rung("E5", 56, 0.72, 0.74, 0.76), rung("E1", 23, 0.72, 0.71, 0.76)
    assert chosen(best, simple) == "E1-xgboost"  # behind 0.01, corrected standard error 0.016


def test_a_small_but_steady_gap_is_beyond_one_standard_error() -> None:
    best, simple = rung("E5", 56, 0.72, 0.82, 0.62), rung("E1", 23, 0.709, 0.812, 0.611)
    assert chosen(best, simple) == "E5-xgboost"  # unpaired, the folds' spread would hide the gap


def test_a_gap_of_more_than_one_standard_error_and_less_than_two_decides() -> None:
    best, simple = rung("E5", 56, 0.72, 0.74, 0.76), rung("E1", 23, 0.70, 0.74, 0.75)
    error = np.std([0.02, 0.00, 0.01], ddof=1) * np.sqrt(1 / 3 + 1 / 2)
    assert error < np.mean([0.02, 0.00, 0.01]) < 2 * error
    assert chosen(best, simple) == "E5-xgboost"
    near = rung("E1", 23, 0.71, 0.74, 0.76)  # behind 0.0033, standard error 0.0053
    assert chosen(best, near) == "E1-xgboost"


def test_the_gap_and_its_standard_error_by_hand() -> None:
    best, other = choose([rung("E5", 56, 0.7, 0.8, 0.9), rung("E1", 23, 0.7, 0.7, 0.7)])
    assert (best.behind, best.standard_error) == (0, 0)
    assert other.behind == pytest.approx(0.1)
    assert other.standard_error == pytest.approx(0.1 * np.sqrt(1 / 3 + 1 / 2))
    assert other.behind > other.standard_error


def test_at_equal_features_the_higher_score_wins_then_the_name() -> None:
    a, b = rung("E5", 56, 0.70, 0.75, 0.74), rung("E6", 56, 0.74, 0.72, 0.74)
    assert chosen(a, b) == chosen(b, a) == "E6-xgboost"
    same = [rung("E6", 56, 0.7, 0.8), rung("E5", 56, 0.7, 0.8), rung("E5", 56, 0.7, 0.8, model="forest")]
    assert chosen(*same) == chosen(*reversed(same)) == "E5-forest"


def test_a_simpler_rung_that_is_far_behind_is_not_chosen_and_the_order_given_is_kept() -> None:
    rungs = [rung("E0", 15, 0.4, 0.41, 0.4), rung("E4", 50, 0.7, 0.71, 0.7), rung("E5", 56, 0.7, 0.72, 0.69)]
    assert chosen(*rungs) == "E4-xgboost"
    assert [c.rung for c in choose(rungs)] == rungs


def test_one_rung_alone_is_chosen() -> None:
    assert chosen(rung("E0", 15, 0.1, 0.2)) == "E0-xgboost"


def test_the_choice_does_not_depend_on_the_order_given() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        rungs = [rung(f"E{i}", int(rng.integers(10, 60)), *rng.normal(0.7, 0.02, 5)) for i in range(6)]
        assert chosen(*rungs) == chosen(*reversed(rungs))


@pytest.mark.parametrize(
    ("above", "verdict"),
    [
        ((0.80, 0.81, 0.82), "E0 to E1 with xgboost pays: +0.1000"),
        ((0.60, 0.61, 0.62), "E0 to E1 with xgboost costs: -0.1000"),
        ((0.60, 0.81, 0.72), "cannot be told from noise"),
    ],
)
def test_a_step_up_the_ladder_is_judged_in_words(above: tuple[float, ...], verdict: str) -> None:
    lower, other = rung("E0", 15, 0.70, 0.71, 0.72), rung("E0", 15, 0.1, 0.2, 0.3, model="forest")
    (step,) = steps([lower, other, replace(rung("E1", 23, *above), below=("E0",))])
    assert verdict in step.words
    assert step.low <= step.gain <= step.high


# --- value

OFFERS = Offers.model_validate(
    {
        "horizon_months": 10,
        "max_share_of_margin": 0.5,
        "menu": {
            "offer_small": {"cost_eur": 10, "acceptance": 0.5, "uplift": 0.2},
            "offer_large": {"cost_eur": 40, "acceptance": 0.5, "uplift": 0.6},
        },
        "timing_days": {"immediate": 30},
    }
)


def test_an_offers_value_by_hand() -> None:
    offer = Offer(cost_eur=10, acceptance=0.3, uplift=0.15)
    # 0.3 * (0.5 * 0.15 * 32 * 5 - 10) = 0.3 * (12 - 10)
    assert offer_value(np.array([0.5]), np.array([5.0]), offer, 32) == pytest.approx([0.6])


@pytest.mark.parametrize("margin", [-4.0, 0.0, np.nan])
def test_a_margin_below_zero_or_unknown_protects_nothing_and_gets_no_offer(margin: float) -> None:
    sure, m = np.array([1.0]), np.array([margin])
    assert offer_value(sure, m, OFFERS.menu["offer_small"], 10) == pytest.approx([-5.0])
    action, value = best_offer(sure, m, OFFERS)
    assert (action[0], value[0]) == (NO_OFFER, 0.0)


@pytest.mark.parametrize("margin", [-4.0, 0.0, np.nan])
def test_a_margin_below_zero_or_unknown_gets_no_offer_even_if_it_costs_nothing(margin: float) -> None:
    free = OFFERS.menu["offer_small"].model_copy(update={"cost_eur": 0.0})
    offers = OFFERS.model_copy(update={"menu": {"free": free}})
    assert option_values(np.array([1.0]), np.array([margin]), offers).tolist() == [[0.0], [-np.inf]]


def test_the_most_valuable_offer_is_made_and_none_where_none_pays() -> None:
    # margin 20 over 10 months protects 200; small: 0.5 * (40 p - 10), large: 0.5 * (120 p - 40)
    action, value = best_offer(np.array([0.1, 0.3, 0.9]), np.full(3, 20.0), OFFERS)
    assert list(action) == [NO_OFFER, "offer_small", "offer_large"]
    assert value == pytest.approx([0.0, 1.0, 34.0])


def test_no_offer_costs_more_than_its_share_of_the_margin_it_protects() -> None:
    # margin 7.8 protects 78, half of it is 39: large (40) would be worth more, 3.4, but is not allowed
    action, value = best_offer(np.array([1.0, 1.0]), np.array([7.8, 8.0]), OFFERS)
    assert list(action) == ["offer_small", "offer_large"]
    assert value == pytest.approx([2.8, 4.0])


def test_best_offer_agrees_with_trying_every_offer_of_the_policy() -> None:
    rng, offers = np.random.default_rng(0), load_policy().offers
    p, margin = rng.random(300), rng.normal(3, 6, 300)
    action, value = best_offer(p, margin, offers)
    for i in range(300):
        worth = {NO_OFFER: 0.0}
        for name, o in offers.menu.items():
            protected = offers.horizon_months * margin[i]
            if margin[i] > 0 and o.cost_eur <= offers.max_share_of_margin * protected:
                worth[name] = o.acceptance * (p[i] * o.uplift * protected - o.cost_eur)
        assert value[i] == pytest.approx(max(worth.values()))
        assert worth[action[i]] == pytest.approx(value[i])
    assert set(action) >= {NO_OFFER, "offer_large"}


def test_realised_value_by_hand() -> None:
    p, margin = np.array([0.9, 0.9, 0.9, 0.1, 0.3]), np.full(5, 20.0)
    flag, y = np.array([1, 1, 0, 1, 1]), np.array([1, 0, 1, 1, 1])
    # large to a churner 0.5 * (120 - 40), to a stayer 0.5 * -40; unflagged; no offer pays; small to a churner
    assert realised_value(p, flag, y, margin, OFFERS) == pytest.approx([40.0, -20.0, 0.0, 0.0, 15.0])


def test_under_true_probabilities_realised_value_is_expected_value_on_average() -> None:
    y, p = simulated(200_000)
    margin = np.full(len(p), 20.0)
    expected = best_offer(p, margin, OFFERS)[1].mean()
    realised = realised_value(p, np.ones(len(p), dtype="int64"), y, margin, OFFERS)
    assert realised.mean() == pytest.approx(expected, abs=4 * realised.std() / np.sqrt(len(p)))


# --- attributions

KINDS = {name: load_tiers().kind(name) for name in load_tiers().features()}
FEATURES = [
    "months_to_renewal",
    "sentiment_label",
    "last_interaction_days_ago",
    "months_since_last_change",
    "customer_intent",
    "segment",
]
SMALL: dict[str, dict[str, Value]] = {
    XGBOOST: {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.3, "tree_method": "hist"},
    FOREST: {"n_estimators": 15, "max_depth": 6, "class_weight": "balanced_subsample"},
    LOGISTIC: {"C": 1.0, "max_iter": 2000, "class_weight": "balanced"},
}
MODELS = pytest.mark.parametrize("kind", families())


@cache
def fitted(kind: str) -> ChurnModel:
    gold = gold_frame(400, seed=1)
    y = gold["churn"].to_numpy(dtype="int64")
    training = Training(matrix(gold, FEATURES, KINDS), y, FEATURES, KINDS, kind, folds=3, seed=1)
    return fit_final(training, SMALL[kind], 0.3, load_policy())


ROWS = gold_frame(60, seed=8, labelled=False)


def test_xgboost_contributions_and_bias_sum_to_the_margin() -> None:
    import xgboost

    model = fitted(XGBOOST)
    prepare, trees = model.pipeline[0], model.pipeline[-1]
    X = prepare.transform(model.prepared(ROWS))
    bias = trees.get_booster().predict(xgboost.DMatrix(X), pred_contribs=True)[:, -1]
    margin = model.pipeline.decision_function(model.prepared(ROWS))
    assert contributions(model, ROWS).sum(axis=1).to_numpy() + bias == pytest.approx(margin, abs=1e-4)


def test_logistic_contributions_and_the_intercept_sum_to_the_margin() -> None:
    model = fitted(LOGISTIC)
    margin = model.pipeline.decision_function(model.prepared(ROWS))
    total = contributions(model, ROWS).sum(axis=1).to_numpy() + model.pipeline[-1].intercept_[0]
    assert total == pytest.approx(margin)


def test_forest_contributions_and_the_mean_root_sum_to_the_mean_vote() -> None:
    model = fitted(FOREST)
    forest = model.pipeline[-1]
    values = [tree.tree_.value[0, 0] for tree in forest.estimators_]
    root = np.mean([v[1] / v.sum() for v in values])
    vote = model.pipeline.predict_proba(model.prepared(ROWS))[:, 1]
    assert contributions(model, ROWS).sum(axis=1).to_numpy() + root == pytest.approx(vote)


# --- pictures


def test_the_ladder_chart_names_every_rung_and_marks_one() -> None:
    compared = choose([rung("E0", 15, 0.5, 0.6, 0.7), rung("E5", 56, 0.8, 0.81, 0.83)])
    (axes,) = ladder_chart(compared).axes
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == ["E5 xgboost (56)", "E0 xgboost (15)"]
    assert [t.get_text() for t in axes.texts] == ["0.813", "0.600"]


def test_the_curves_chart_marks_the_threshold_where_its_precision_and_recall_are() -> None:
    y, p = simulated(500)
    cut = float(np.sort(p)[400])
    left, right, _gains, _flags = curves_chart(y, p, cut, "t").axes
    x, height = (float(v[0]) for v in left.lines[1].get_data())
    assert decisions(y, (p >= cut).astype("int64")) == pytest.approx({"precision": height, "recall": x})
    assert len(right.lines[1].get_xdata()) == 10
