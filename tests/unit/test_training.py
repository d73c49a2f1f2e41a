"""The way from gold to a fitted model: ladder, strict files, matrix, folds, search, calibration, threshold, table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import average_precision_score, brier_score_loss

from spanishgas.config.experiment import below, experiment_ids, load_experiment
from spanishgas.config.policy import Holdout, Retention, Threshold, ThresholdRule, load_policy
from spanishgas.config.reading import Value
from spanishgas.config.search import (
    FOREST,
    LOGISTIC,
    XGBOOST,
    EarlyStopping,
    Space,
    families,
    load_search,
)
from spanishgas.errors import DataError, UsageError
from spanishgas.features import load_tiers
from spanishgas.lifecycle.experiments import kinds_of, training_side
from spanishgas.settings import settings
from spanishgas.training.calibration import (
    Curve,
    LaterRows,
    break_even,
    calibrated,
    choose_threshold,
    cross_calibrated,
    fit_final,
    out_of_fold,
    recall_floor,
    sensitivity,
)
from spanishgas.training.families import column_types, estimator
from spanishgas.training.families.forest import Forest
from spanishgas.training.families.xgboost import BoostedTrees
from spanishgas.training.fitting import Folds, Training, fit_predict, fold_by_fold, refit
from spanishgas.training.folds import FRESH, folds, fresh_folds, inner_split
from spanishgas.training.matrix import encoded_sources, matrix, preprocessor
from spanishgas.training.model import FLAG, PROBABILITY, TIER, ChurnModel, risk_tier
from spanishgas.training.search import StudyOptions, Trial, search
from spanishgas.training.sides import in_holdout, labelled
from tests.gold_frames import gold_frame

KINDS = {name: load_tiers().kind(name) for name in load_tiers().features()}
FEW = [
    "months_to_renewal",
    "segment",
    "is_dual_fuel",
    "last_interaction_days_ago",
    "months_since_last_change",
    "customer_intent",
    "sentiment_label",
]
SMALL: dict[str, dict[str, Value]] = {
    XGBOOST: {"n_estimators": 15, "max_depth": 2, "learning_rate": 0.3, "tree_method": "hist"},
    FOREST: {"n_estimators": 12, "max_depth": 5, "class_weight": "none"},
    LOGISTIC: {"C": 1.0, "max_iter": 2000, "class_weight": "none"},
}
SPACE = Space.model_validate(
    {
        "fixed": {"n_estimators": 10, "tree_method": "hist"},
        "start": {"max_depth": 3, "learning_rate": 0.05},
        "space": {
            "max_depth": {"low": 2, "high": 4, "step": 1},
            "learning_rate": {"low": 0.02, "high": 0.5, "log": True},
        },
    }
)
MODELS = pytest.mark.parametrize("kind", families())


def training_of(kind: str, rows: int = 400, seed: int = 1) -> Training:
    gold = labelled(gold_frame(rows, seed))
    y = gold["churn"].to_numpy(dtype="int64")
    return Training(matrix(gold, FEW, KINDS), y, FEW, KINDS, kind, folds=3, seed=seed)


@cache
def fitted(kind: str) -> ChurnModel:
    return fit_final(training_of(kind), SMALL[kind], 0.3, load_policy())


def encoded(fill: pd.DataFrame, scored: pd.DataFrame, *, linear: bool) -> pd.DataFrame:
    """`scored` as the preprocessor fitted on `fill` sees it, a column per encoded column under its feature's name."""
    names = list(fill.columns)
    prepare = preprocessor(names, KINDS, linear=linear).fit(matrix(fill, names, KINDS))
    return pd.DataFrame(prepare.transform(matrix(scored, names, KINDS)), columns=encoded_sources(prepare))


# --- later labels


def test_later_rows_are_judged_by_folds_that_did_not_see_their_customers() -> None:
    training = training_of(XGBOOST)
    ids = pd.Series([f"C{i:05d}" for i in range(len(training.y))])
    params = SMALL[XGBOOST]
    turned = np.random.default_rng(0).permutation(len(ids))
    rows = replace(training, X=training.X.iloc[turned].reset_index(drop=True), y=training.y[turned])
    same_day = LaterRows(rows, ids.iloc[turned].reset_index(drop=True), ids)
    assert np.allclose(same_day.margins(training, params), out_of_fold(training, params)[turned])
    strangers = LaterRows(rows, "N" + ids, ids)
    by_folds = strangers.margins(training, params)
    assert np.isfinite(by_folds).all()
    assert not np.allclose(by_folds, out_of_fold(training, params)[turned])


# --- the ladder and its files


@pytest.mark.parametrize(
    ("rung", "linear", "tree"),
    [
        ("E0", 15, 15),
        ("E1", 23, 23),
        ("E2", 36, 36),
        ("E3", 47, 47),
        ("E4", 50, 50),
        ("E5", 56, 56),
        ("E6", 64, 56),
        ("E7", 21, 21),
        ("E8", 59, 53),
    ],
)
def test_each_rung_has_the_feature_count_of_the_dictionary(rung: str, linear: int, tree: int) -> None:
    found, tiers = load_experiment(rung), load_tiers()
    assert len(set(found.features(tiers, linear=True))) == linear
    assert len(set(found.features(tiers, linear=False))) == tree


def test_the_ladder_is_e0_to_e8_and_trees_see_the_same_in_e5_and_e6() -> None:
    tiers = load_tiers()
    assert experiment_ids() == [f"E{i}" for i in range(9)]
    full, crossed = load_experiment("E5"), load_experiment("E6")
    assert full.features(tiers, linear=False) == crossed.features(tiers, linear=False)


def test_no_rung_reads_the_label_or_the_margin_that_values_a_customer() -> None:
    seen = {f for e in experiment_ids() for f in load_experiment(e).features(load_tiers(), linear=True)}
    assert not seen & {"customer_id", "churn", "avg_monthly_margin", "total_margin_2024"}


def test_e8_reads_nothing_that_a_sentiment_model_wrote() -> None:
    assert not [f for f in load_experiment("E8").features(load_tiers(), linear=True) if "sentiment" in f]


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "load", "named"),
    [
        ("E0.yaml", "tiers:", "tears:", lambda: load_experiment("E0"), "unknown key 'tears'"),
        ("E0.yaml", "[1A]", "[]", lambda: load_experiment("E0"), "tiers"),
        ("E0.yaml", "[1A]", "[1C]", lambda: load_experiment("E0"), "'1C'"),
        ("E0.yaml", "id: E0", "id: E1", lambda: load_experiment("E0"), "id is 'E1'"),
        ("E0.yaml", "id: E0", "id: [", lambda: load_experiment("E0"), "is not YAML"),
        (
            "E8.yaml",
            "intent_x_sentiment",
            "intent_x_sentimint",
            lambda: load_experiment("E8"),
            "Did you mean 'intent_x_sentiment'",
        ),
        ("policy.yaml", "Low: 0.0", "Low: 0.1", load_policy, "risk_tiers must start at 0"),
        ("policy.yaml", "High: 0.6", "High: 0.4", load_policy, "risk_tiers must start at 0 and ascend"),
        ("policy.yaml", "Critical: 0.8", "Critical: 1.0", load_policy, "ascend below 1"),
        ("policy.yaml", "share: 0.2", "share: 1.2", load_policy, "holdout.share"),
        ("policy.yaml", "folds: 5", "folds: 1", load_policy, "folds"),
        ("policy.yaml", "  salt:", "  pepper:", load_policy, "unknown key 'holdout.pepper'"),
        (
            "search.yaml",
            "{penalty: l2, C: 1.0, ",
            "{penalty: l2, ",
            load_search,
            r"different parameters: ['C']",
        ),
        ("search.yaml", "{penalty: l2, ", "{penalty: elasticnet, ", load_search, "parameters: ['l1_ratio']"),
        ("search.yaml", "C: 1.0", "C: 100.0", load_search, "start.C is 100.0, which the space cannot draw"),
        ("search.yaml", "max_depth: 3", "max_depth: 3.5", load_search, "start.max_depth is 3.5"),
        (
            "search.yaml",
            "max_depth: 6",
            "max_depth: 60",
            load_search,
            "also.0.max_depth is 60, which the space",
        ),
        (
            "search.yaml",
            "{penalty: elasticnet}",
            "{C: 1.0}",
            load_search,
            "l1_ratio hangs on C = 1.0, which is no",
        ),
        (
            "search.yaml",
            "low: 0.001, high: 30.0",
            "low: 0.0, high: 30.0",
            load_search,
            "low above 0 on a log scale",
        ),
        (
            "search.yaml",
            "rounds: 100",
            "round: 100",
            load_search,
            "unknown key 'xgboost.early_stopping.round'",
        ),
        ("policy.yaml", "rule: recall_floor", "rule: recal", load_policy, "threshold.rule"),
        ("policy.yaml", "repeats: 2", "repeats: 0", load_policy, "repeats"),
        ("E1.yaml", "below: E0", "below: E10", lambda: load_experiment("E1"), "'below' of E1.yaml"),
        (
            "E0.yaml",
            "id: E0",
            "id: E0\nbelow: E2",
            lambda: below("E2"),
            "round in a circle from E2: E1, E0, E2",
        ),
        ("search.yaml", "C: {low: 0.001, ", "C: {", load_search, "either choices or both low and high"),
        ("search.yaml", "forest:", "florest:", load_search, "unknown key 'florest'"),
    ],
)
def test_a_fault_in_a_file_names_the_file_and_the_fault(
    experiments: Path, file: str, old: str, new: str, load: Callable[[], object], named: str
) -> None:
    rewrite(experiments / file, old, new)
    with pytest.raises(UsageError) as fault:
        load()
    assert named in str(fault.value)
    assert file in str(fault.value) or "tier" in str(fault.value) or "circle" in str(fault.value)


def test_a_file_that_is_gone_is_named_with_the_way_out(experiments: Path) -> None:
    (experiments / "policy.yaml").unlink()
    with pytest.raises(UsageError, match=r"policy\.yaml does not exist: .*SPANISHGAS_EXPERIMENTS"):
        load_policy()


def test_an_unknown_experiment_suggests_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"unknown experiment 'E55': expected one of E0, .* Did you mean 'E5'"
    ):
        load_experiment("E55")


# --- the holdout

HOLDOUT = Holdout(share=0.2, salt="s")


def test_the_holdout_depends_on_the_id_alone() -> None:
    ids = pd.Series([f"C{i}" for i in range(500)])
    sides = dict(zip(ids, in_holdout(ids, HOLDOUT), strict=True))
    shuffled = ids.sample(frac=0.5, random_state=3)
    assert [sides[i] for i in shuffled] == list(in_holdout(shuffled, HOLDOUT))


def test_the_holdout_is_the_policys_share_within_the_binomial_bound() -> None:
    ids = pd.Series([f"C{i:05d}" for i in range(20_000)])
    low, high = stats.binom.interval(1 - 1e-6, len(ids), 0.2)
    assert low <= in_holdout(ids, load_policy().holdout).sum() <= high


def test_another_salt_opens_an_independent_holdout() -> None:
    ids = pd.Series([f"C{i}" for i in range(20_000)])
    both = in_holdout(ids, HOLDOUT) & in_holdout(ids, Holdout(share=0.2, salt="t"))
    low, high = stats.binom.interval(1 - 1e-6, len(ids), 0.04)
    assert low <= both.sum() <= high


def test_a_larger_share_only_adds_customers() -> None:
    ids = pd.Series([f"C{i}" for i in range(2000)])
    assert not (in_holdout(ids, HOLDOUT) & ~in_holdout(ids, Holdout(share=0.3, salt="s"))).any()


# --- the matrix


def test_unlabelled_rows_do_not_train() -> None:
    both = pd.concat([gold_frame(100), gold_frame(30, labelled=False, first_id=101)])
    assert len(labelled(both)) == 100


def test_gold_without_two_classes_is_refused_with_the_counts() -> None:
    with pytest.raises(DataError, match="0 labelled customers"):
        labelled(gold_frame(50, labelled=False))
    few = gold_frame(60)
    few["churn"] = pd.array([1] * 9 + [0] * 51, dtype="Int64")
    with pytest.raises(DataError, match="at least 10 churners"):
        labelled(few)


def test_the_matrix_has_one_type_per_kind_whatever_gold_gives() -> None:
    rows = pd.DataFrame(
        {
            "is_dual_fuel": pd.array([1, None], dtype="Int64"),
            "months_to_renewal": [None, 2],
            "segment": pd.array(["SME", None], dtype="string"),
        }
    )
    X = matrix(rows, list(rows.columns), KINDS)
    assert [str(t) for t in X.dtypes] == ["float64", "float64", "object"]
    assert X.isna().to_numpy().tolist() == [[False, True, False], [True, False, True]]
    assert isinstance(X["segment"].iloc[1], float)


def test_a_customer_never_contacted_gets_9999_days_and_no_interaction() -> None:
    fill = pd.DataFrame(
        {"last_interaction_days_ago": [3.0, 5.0, None], "sentiment_label": ["negative", "positive", None]}
    )
    out = encoded(fill, fill.iloc[[2]], linear=False)
    assert out["last_interaction_days_ago"].tolist() == [9999.0]
    assert out["sentiment_label"].to_numpy().tolist() == [
        [0.0, 1.0, 0.0]
    ]  # negative, no_interaction, positive
    prepare = preprocessor(list(fill.columns), KINDS, linear=False).fit(
        matrix(fill, list(fill.columns), KINDS)
    )
    assert list(prepare.named_transformers_["contact"][-1].categories_[0]) == [
        "negative",
        "no_interaction",
        "positive",
    ]


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(
    ("column", "filled"), [("segment", "missing"), ("customer_intent", "no_interaction")]
)
def test_a_null_text_scores_like_its_fill_spelt_out(column: str, filled: str, linear: bool) -> None:
    fill = pd.DataFrame({column: ["SME", None, "Corporate"]})
    null, spelt = pd.DataFrame({column: [None]}), pd.DataFrame({column: [filled]})
    out = encoded(fill, null, linear=linear).to_numpy()
    assert out.sum() == 1
    assert (out == encoded(fill, spelt, linear=linear).to_numpy()).all()


@pytest.mark.parametrize("linear", [False, True])
def test_an_unseen_category_is_all_zeros(linear: bool) -> None:
    fill = pd.DataFrame({"segment": ["SME", "Corporate"]})
    assert encoded(fill, pd.DataFrame({"segment": ["Martian"]}), linear=linear).to_numpy().tolist() == [
        [0, 0]
    ]


def test_other_nulls_stay_null_for_trees() -> None:
    fill = pd.DataFrame({"months_since_last_change": [1.0, None, 9.0]})
    out = encoded(fill, fill, linear=False).to_numpy()[:, 0]
    assert out[[0, 2]].tolist() == [1.0, 9.0]
    assert np.isnan(out[1])


def test_linear_models_take_the_training_median_and_a_missing_indicator() -> None:
    fill = pd.DataFrame({"months_since_last_change": [1.0, 2.0, 2.0, 90.0, None]})
    scored = pd.DataFrame({"months_since_last_change": [2.0, None, 500.0]})
    out = encoded(fill, scored, linear=True)
    assert list(out.columns) == ["months_since_last_change"] * 2
    value, absent = out.to_numpy().T
    assert value[0] == value[1] != value[2]
    assert absent[1] > absent[0] == absent[2]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("linear", [False, True])
def test_what_fills_and_encodes_a_column_learns_nothing_from_the_labels(linear: bool, native: bool) -> None:
    frame = matrix(gold_frame(200), FEW, KINDS)
    y = (frame["months_to_renewal"] > 3).to_numpy().astype("int64")
    prepare = preprocessor(FEW, KINDS, linear=linear, native=native)
    blind = prepare.fit_transform(frame)
    for labels in (y, 1 - y):
        np.testing.assert_array_equal(prepare.fit(frame, labels).transform(frame), blind)


def test_linear_numbers_have_zero_mean_and_unit_variance_on_the_training_side() -> None:
    fill = pd.DataFrame(
        {"months_to_renewal": [1.0, 5.0, 30.0], "last_interaction_days_ago": [1.0, None, 4.0]}
    )
    out = encoded(fill, fill, linear=True).to_numpy()
    assert out.mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert out.std(axis=0) == pytest.approx([1, 1])


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize(
    "column",
    [
        "last_interaction_days_ago",
        "sentiment_label",
        "segment",
        "std_margin",
    ],
)
def test_a_column_that_is_null_throughout_training_still_encodes(column: str, linear: bool) -> None:
    fill = pd.DataFrame({"months_to_renewal": [1.0, 2.0, 3.0], column: pd.Series([None] * 3, dtype=object)})
    assert column in encoded(fill, fill, linear=linear).columns


@pytest.mark.parametrize("linear", [False, True])
def test_every_encoded_column_has_a_source_and_every_feature_a_column(linear: bool) -> None:
    gold = labelled(gold_frame(200))
    names = load_experiment("E6").features(load_tiers(), linear=linear)
    X = matrix(gold, names, KINDS)
    prepare = preprocessor(names, KINDS, linear=linear)
    assert prepare.fit_transform(X).shape[1] == len(encoded_sources(prepare))
    assert set(encoded_sources(prepare)) == set(names)


# --- estimators


@pytest.mark.parametrize("limit", [{"max_depth": 2}, {"max_leaf_nodes": 5}])
def test_a_forests_trees_end_at_their_depth_or_at_their_number_of_leaves(limit: dict[str, Value]) -> None:
    training = training_of(FOREST)
    params: dict[str, Value] = {
        "n_estimators": 3,
        "limit": "leaves" if "max_leaf_nodes" in limit else "depth",
    }
    trees = training.unfitted({**params, **limit}).fit(training.X, training.y)[-1].estimators_
    if "max_depth" in limit:
        assert max(tree.get_depth() for tree in trees) == 2
    else:
        assert max(tree.get_n_leaves() for tree in trees) == 5
        assert max(tree.get_depth() for tree in trees) > 2


def test_a_forest_of_one_mind_has_a_finite_margin_of_half_a_tree() -> None:
    X, y = np.array([[0.0], [1.0]] * 20), np.array([0, 1] * 20)
    margin = Forest(n_estimators=10, random_state=0).fit(X, y).decision_function(np.array([[0.0], [1.0]]))
    assert margin == pytest.approx([-np.log(19), np.log(19)])


def test_a_class_weight_of_none_weighs_nothing() -> None:
    assert estimator(LOGISTIC, {"class_weight": "none"}, 0).class_weight is None
    assert estimator(LOGISTIC, {"class_weight": "balanced"}, 0).class_weight == "balanced"
    assert isinstance(estimator(XGBOOST, {}, 0), BoostedTrees)


# --- folds and search


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**40])
def test_folds_partition_the_rows_at_one_churn_rate(seed: int) -> None:
    y = (np.arange(103) % 4 == 0).astype("int64")
    parts = folds(y, 5, seed)
    assert sorted(np.concatenate([f.valid for f in parts])) == list(range(103))
    for fold in parts:
        assert sorted([*fold.train, *fold.valid]) == list(range(103))
        assert abs(y[fold.valid].sum() - y.sum() / 5) <= 1


def test_fresh_folds_are_not_the_folds_that_chose() -> None:
    y = (np.arange(200) % 3 == 0).astype("int64")
    chose, report = folds(y, 5, 4), fresh_folds(y, 5, 4)
    assert not any(np.array_equal(a.valid, b.valid) for a in chose for b in report)
    assert all(np.array_equal(a.valid, b.valid) for a, b in zip(chose, folds(y, 5, 4), strict=True))


def test_the_same_seed_finds_the_same_result() -> None:
    training = training_of(XGBOOST, 200)
    one, two = search(training, SPACE, 3), search(training, SPACE, 3)
    assert [(t.number, t.params, t.scores) for t in one.trials] == [
        (t.number, t.params, t.scores) for t in two.trials
    ]
    assert one.fold_scores == two.fold_scores
    assert (one.margins == two.margins).all()


def test_the_first_trial_is_the_published_start_and_the_best_the_argmax() -> None:
    heard: list[Trial] = []
    chosen = search(training_of(XGBOOST, 200), SPACE, 4, heard.append)
    assert chosen.trials[0].params == SPACE.fixed | SPACE.start
    assert chosen.best.score == max(t.score for t in chosen.trials if not t.pruned)
    assert heard == chosen.trials
    assert len(heard) == 4


def test_after_the_published_start_come_the_neighbours_best_and_what_the_space_lists() -> None:
    listed, neighbour = {"max_depth": 4, "learning_rate": 0.1}, {"max_depth": 2, "learning_rate": 0.4}
    space = SPACE.model_copy(update={"also": [listed]})
    chosen = search(training_of(XGBOOST, 200), space, 3, shared=StudyOptions(starts=(neighbour,)))
    assert [t.params for t in chosen.trials] == [SPACE.fixed | p for p in (SPACE.start, neighbour, listed)]


@pytest.mark.parametrize("trials", [0, -3])
def test_less_than_one_trial_is_a_usage_error_that_echoes_the_value(trials: int) -> None:
    with pytest.raises(UsageError, match=f"at least 1, but got {trials}: give --trials"):
        search(training_of(LOGISTIC, 100), SPACE, trials)


def test_reported_scores_are_average_precision_of_the_out_of_fold_margins_on_fresh_folds() -> None:
    training = training_of(LOGISTIC)
    scores, margins = refit(training, SMALL[LOGISTIC])
    fresh = folds(training.y, training.folds, training.seed + FRESH)
    assert scores == [average_precision_score(training.y[f.valid], margins[f.valid]) for f in fresh]


def test_a_rows_out_of_fold_margin_does_not_depend_on_its_own_values_in_training() -> None:
    training = training_of(LOGISTIC, 200)
    _, before = refit(training, SMALL[LOGISTIC])
    fold = folds(training.y, training.folds, training.seed + FRESH)[0]
    row, others = fold.valid[0], fold.valid[1:]
    X = training.X.copy()
    X.iloc[row, X.columns.get_loc("months_to_renewal")] = (
        1e4  # an outlier that would move any scaler that saw it
    )
    _, after = refit(replace(training, X=X), SMALL[LOGISTIC])
    assert (before[others] == after[others]).all()
    assert before[row] != after[row]


# --- calibration and threshold


def badly_scaled(rows: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1.5, 1.5, rows)
    return 4 * odds + 3, (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype("int64")


def test_calibrated_probabilities_have_a_lower_brier_score_than_badly_scaled_margins() -> None:
    margins, y = badly_scaled(2000, 0)
    calibrated = cross_calibrated(margins, y, 5, 0)
    assert brier_score_loss(y, calibrated) < brier_score_loss(y, 1 / (1 + np.exp(-margins))) - 0.02
    assert calibrated.mean() == pytest.approx(y.mean(), abs=0.01)


def test_a_row_is_calibrated_by_a_curve_that_did_not_see_it() -> None:
    margins, y = badly_scaled(300, 1)
    fold = folds(y, 3, 5)[1]
    before = cross_calibrated(margins, y, 3, 5)
    moved = margins.copy()
    moved[fold.valid[0]] = 1e3
    after = cross_calibrated(moved, y, 3, 5)
    others = fold.valid[1:]
    assert (before[others] == after[others]).all()
    assert (before[fold.train] != after[fold.train]).any()


def brute_force(p: NDArray[np.float64], y: NDArray[np.int64], floor: float) -> tuple[float, float]:
    """Highest precision over every cut whose recall's lower bound reaches the floor, and the highest such cut."""
    reached = []
    for cut in np.unique(p):
        hit = y[p >= cut]
        exact = stats.binomtest(int(hit.sum()), int(y.sum()), alternative="greater")
        if exact.proportion_ci(0.8, method="exact").low >= floor:
            reached.append((hit.mean(), cut))
    return max(reached, default=(y[p >= p.min()].mean(), p.min()))


@effort(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=2, max_size=40).filter(
        lambda rows: any(label for _, label in rows)
    ),
    st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.95]),
)
def test_the_threshold_has_the_highest_precision_at_the_recall_floor(
    rows: list[tuple[int, int]], floor: float
) -> None:
    p, y = np.array([r for r, _ in rows]) / 12, np.array([label for _, label in rows])
    precision, cut = brute_force(p, y, floor)
    chosen = recall_floor(p, y, floor, 0.8)
    assert y[p >= chosen].mean() == precision
    assert chosen == cut


# --- the model that is shipped


@MODELS
def test_the_flag_stands_on_the_calibrated_probability(kind: str) -> None:
    model, rows = fitted(kind), gold_frame(300, seed=2)
    table = model.predict(rows)
    assert (
        list(table.columns) == [PROBABILITY, FLAG, TIER] == ["churn_probability", "churn_flag", "risk_tier"]
    )
    assert (table[PROBABILITY] == model.predict_proba(rows)[:, 1]).all()
    assert ((table[PROBABILITY] >= 0.3).astype(int) == table[FLAG]).all()
    assert 0 < table[FLAG].mean() < 1


def test_a_probability_at_the_threshold_is_flagged() -> None:
    base, rows = fitted(LOGISTIC), gold_frame(50, seed=2)
    edge = float(base.predict(rows)[PROBABILITY].iloc[7])
    model = ChurnModel(base.calibrated, base.features, base.kinds, edge, base.risk_tiers)
    assert model.predict(rows)[FLAG].iloc[7] == 1


def test_tiers_hold_their_lower_edge() -> None:
    p = np.array([0.0, 0.3999, 0.4, 0.5999, 0.6, 0.7999, 0.8, 1.0])
    assert list(risk_tier(p, load_policy().risk_tiers)) == [
        tier for tier in ("Low", "Medium", "High", "Critical") for _ in range(2)
    ]


def test_a_missing_feature_is_a_data_error_that_names_it() -> None:
    rows = gold_frame(5).drop(columns=["segment", "months_to_renewal"])
    with pytest.raises(DataError, match=re.escape("['months_to_renewal', 'segment']")):
        fitted(XGBOOST).predict(rows)


def test_an_empty_table_scores_to_an_empty_table() -> None:
    table = fitted(XGBOOST).predict(gold_frame(5).iloc[:0])
    assert list(table.columns) == [PROBABILITY, FLAG, TIER]
    assert table.empty


def test_rows_without_any_feature_are_a_data_error() -> None:
    with pytest.raises(DataError, match="months_to_renewal"):
        fitted(XGBOOST).predict(pd.DataFrame(index=range(3)))


def test_order_of_columns_extra_columns_and_index_do_not_matter() -> None:
    rows = gold_frame(20, seed=4).set_index("customer_id", drop=False)
    model = fitted(FOREST)
    turned = rows[list(reversed(rows.columns))].assign(extra="x")
    pd.testing.assert_frame_equal(model.predict(rows), model.predict(turned))
    assert list(model.predict(rows).index) == list(rows.index)


# --- protocol, space and starts


def test_every_experiment_and_model_searches_on_the_same_folds_and_reports_on_the_same_fresh_ones() -> None:
    gold, policy = gold_frame(300), load_policy()
    sides = [
        training_side(gold, kinds_of(load_experiment(name), kind), kind, policy, 7)
        for name in experiment_ids()
        for kind in (XGBOOST, LOGISTIC)
    ]
    first = sides[0]
    for side in sides[1:]:
        for same in (folds, fresh_folds):
            pairs = zip(same(first.y, 5, 7), same(side.y, side.folds, side.seed), strict=True)
            assert all(np.array_equal(a.valid, b.valid) for a, b in pairs)
    assert {(s.folds, s.repeats) for s in sides} == {(policy.folds, policy.repeats)}


def test_fresh_folds_divide_the_rows_anew_in_every_repeat() -> None:
    y = (np.arange(200) % 3 == 0).astype("int64")
    parts = fresh_folds(y, 5, 4, 3)
    assert len(parts) == 15
    for repeat in range(3):
        assert sorted(np.concatenate([f.valid for f in parts[5 * repeat : 5 * repeat + 5]])) == list(
            range(200)
        )
    assert len({tuple(f.valid) for f in [*parts, *folds(y, 5, 4)]}) == 20


def test_a_refit_scores_every_fresh_fold_and_predicts_each_row_once() -> None:
    training = replace(training_of(LOGISTIC), repeats=2)
    scores, margins = refit(training, SMALL[LOGISTIC])
    once, same = refit(replace(training, repeats=1), SMALL[LOGISTIC])
    assert len(scores) == 6
    assert scores[:3] == once
    assert (margins == same).all()


def test_an_inner_split_is_stratified_and_none_where_a_class_is_too_small() -> None:
    y = (np.arange(100) % 5 == 0).astype("int64")
    inner = inner_split(y, 0.2, 1)
    assert inner is not None
    assert sorted([*inner.train, *inner.valid]) == list(range(100))
    assert (len(inner.valid), y[inner.valid].sum()) == (20, 4)
    assert inner_split(np.array([0] * 50 + [1] * 4), 0.2, 1) is None


STOPPING = EarlyStopping(most_trees=60, rounds=5, share=0.2, fewest=1, unmeasured=25)


def test_early_stopping_keeps_the_trees_that_help_and_never_sees_the_rows_that_score() -> None:
    training = training_of(XGBOOST)
    params: dict[str, Value] = {"max_depth": 4, "learning_rate": 0.3}
    fold = Folds(training, folds(training.y, 3, 1)).encoded(0, params)
    margins, trees = fit_predict(training, params, fold, STOPPING)
    assert trees is not None
    assert 1 <= trees < 60
    inner = inner_split(fold.y, 0.2, training.seed)
    assert inner is not None
    patient, rng = STOPPING.model_copy(update={"rounds": 100}), np.random.default_rng(0)
    grown = estimator(XGBOOST, {**params, "n_estimators": 60}, training.seed)
    grown.fit(fold.X[inner.train], fold.y[inner.train])
    kept, best = set(), set()
    for _ in range(6):
        other = replace(fold, y_valid=rng.permutation(fold.y_valid))
        kept.add(fit_predict(training, params, other, patient)[1])
        looked = [grown.predict_proba(fold.X_valid, iteration_range=(0, n))[:, 1] for n in range(10, 61, 10)]
        best.add(int(np.argmax([average_precision_score(other.y_valid, p) for p in looked])))
    assert kept == {fit_predict(training, params, fold, patient)[1]}
    assert len(best) > 1  # whoever looked at these rows would keep another number of trees
    by_hand = estimator(XGBOOST, {**params, "n_estimators": trees}, training.seed)
    by_hand.fit(fold.X[inner.train], fold.y[inner.train])
    assert margins == pytest.approx(by_hand.decision_function(fold.X_valid), abs=1e-5)


def test_of_the_numbers_of_trees_looked_at_the_one_that_ranks_the_rows_aside_best_is_kept() -> None:
    training = training_of(XGBOOST)
    params: dict[str, Value] = {"max_depth": 3, "learning_rate": 0.2}
    fold = Folds(training, folds(training.y, 3, 1)).encoded(0, params)
    patient = STOPPING.model_copy(update={"most_trees": 45, "rounds": 100})
    _, trees = fit_predict(training, params, fold, patient)
    inner = inner_split(fold.y, 0.2, training.seed)
    assert inner is not None
    grown = estimator(XGBOOST, {**params, "n_estimators": 45}, training.seed)
    grown.fit(fold.X[inner.train], fold.y[inner.train])
    X, y, looks = fold.X[inner.valid], fold.y[inner.valid], [10, 20, 30, 40, 45]
    scores = [average_precision_score(y, grown.predict_proba(X, iteration_range=(0, n))[:, 1]) for n in looks]
    assert trees == looks[int(np.argmax(scores))]


def test_with_too_few_churners_aside_to_measure_by_a_set_number_of_trees_is_grown() -> None:
    training = training_of(XGBOOST, 200)
    fold = Folds(training, folds(training.y, 3, 1)).encoded(0, {})
    measurable = STOPPING.model_copy(update={"fewest": 100})
    margins, trees = fit_predict(training, {"max_depth": 2}, fold, measurable)
    unstopped, _ = fit_predict(training, {"max_depth": 2, "n_estimators": 25}, fold)
    assert trees == 25
    assert (margins == unstopped).all()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads a fit takes."""

    def take(count: int) -> None:
        patch.setenv("SPANISHGAS_THREADS", str(count))
        settings.cache_clear()

    with pytest.MonkeyPatch.context() as patch:
        yield take
    settings.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("model", families())
def test_folds_fitted_side_by_side_give_the_same_bits(model: str, threads: Callable[[int], None]) -> None:
    training = replace(training_of(model, 300), repeats=2)
    space = load_search().of(model)
    fixed = {"n_estimators": 20} if model == FOREST else space.fixed
    space = space.model_copy(update={"fixed": fixed, "early_stopping": space.early_stopping and STOPPING})
    found = []
    for count in (1, 2, 8):
        threads(count)
        chosen = search(training, space, 3)
        tried = [(t.params, t.scores, t.pruned) for t in chosen.trials]
        found.append((tried, chosen.fold_scores, chosen.margins.tolist()))
    assert found[0] == found[1] == found[2]


def test_no_more_folds_are_begun_than_there_are_threads_and_none_after_the_caller_stops(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
) -> None:
    training, begun = training_of(LOGISTIC, 100), list[int]()
    parts = Folds(training, fresh_folds(training.y, 5, 0))
    encoded = Folds.encoded

    def count(self: Folds, number: int, params: dict[str, Value]) -> object:
        begun.append(number)
        return encoded(self, number, params)

    monkeypatch.setattr(Folds, "encoded", count)
    threads(2)
    with closing(fold_by_fold(parts, SMALL[LOGISTIC])) as fitted:
        for _ in range(2):
            next(fitted)
    assert sorted(begun) == [0, 1]


def test_the_best_trial_names_the_median_number_of_trees_and_the_refit_takes_it() -> None:
    training = training_of(XGBOOST, 300)
    space = SPACE.model_copy(update={"fixed": {}, "early_stopping": STOPPING})
    chosen = search(training, space, 2)
    parts = Folds(training, folds(training.y, training.folds, training.seed))
    start = space.start
    grown = [fit_predict(training, start, parts.encoded(i, start), STOPPING)[1] for i in range(3)]
    assert chosen.trials[0].params == {**start, "n_estimators": sorted(g for g in grown if g)[1]}
    assert chosen.fold_scores == refit(training, chosen.best.params)[0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"class_weight": "balanced"}, {"scale_pos_weight": 9.0}),
        ({"class_weight": "none"}, {"scale_pos_weight": None}),
        ({"grow_policy": "lossguide", "max_leaves": 8}, {"max_depth": 0, "max_leaves": 8}),
        ({"categories": "native"}, {"enable_categorical": True, "feature_types": ["float", "c"]}),
        ({"categories": "one_hot"}, {"feature_types": None}),
    ],
)
def test_xgboost_is_told_the_projects_parameters_in_its_own_words(
    given: dict[str, Value], told: dict[str, object]
) -> None:
    found = estimator(XGBOOST, given, 0, balance=9.0, types=["float", "c"]).get_params()
    assert {name: found[name] for name in told} == told


def test_native_categories_are_one_column_each_after_the_numbers_and_unseen_ones_are_null() -> None:
    fill = pd.DataFrame({"segment": ["SME", "Corporate", None], "months_to_renewal": [1.0, 2.0, 3.0]})
    names = list(fill.columns)
    prepare = preprocessor(names, KINDS, linear=False, native=True).fit(matrix(fill, names, KINDS))
    assert encoded_sources(prepare) == ["months_to_renewal", "segment"]
    scored = pd.DataFrame({"segment": ["Corporate", None, "Martian"], "months_to_renewal": [1.0, 1.0, 1.0]})
    codes = prepare.transform(matrix(scored, names, KINDS))[:, 1]
    assert codes[:2].tolist() == [0.0, 2.0]  # Corporate, SME, missing
    assert np.isnan(codes[2])
    assert column_types(names, KINDS) == ["float", "c"]


def test_a_model_with_native_categories_explains_and_scores_rows_alike() -> None:
    model = fit_final(
        training_of(XGBOOST),
        {**SMALL[XGBOOST], "categories": "native"},
        0.3,
        load_policy(),
    )
    rows = gold_frame(30, seed=8)
    prepared = model.pipeline[0].transform(model.prepared(rows))
    margin = model.pipeline.decision_function(model.prepared(rows))
    bias = margin - model.pipeline[-1].contributions(prepared).sum(axis=1)
    assert np.ptp(margin) > 1
    assert np.ptp(bias) < 1e-4


def test_elasticnet_can_silence_features_where_l2_keeps_them() -> None:
    gold = training_of(LOGISTIC)
    fold = Folds(gold, folds(gold.y, 3, 1)).encoded(0, {})
    sparse = estimator(LOGISTIC, {"penalty": "elasticnet", "l1_ratio": 1.0, "C": 0.05, "max_iter": 500}, 0)
    dense = estimator(LOGISTIC, {"penalty": "l2", "C": 0.05}, 0)
    zeros = [int((m.fit(fold.X, fold.y).coef_ == 0).sum()) for m in (sparse, dense)]
    assert zeros[0] > zeros[1] == 0


def test_only_what_the_space_could_draw_is_taken_from_a_neighbour() -> None:
    space = load_search().of(XGBOOST)
    best = {**space.fixed, **space.start, "n_estimators": 312}
    assert space.admitted(best) == space.start
    assert space.admitted({**best, "max_depth": 60}) is None
    assert space.admitted({k: v for k, v in best.items() if k != "gamma"}) is None
    by_leaves = {**best, "grow_policy": "lossguide", "max_leaves": 8}
    assert set(space.admitted(by_leaves) or {}) == set(space.start) - {"max_depth"} | {"max_leaves"}


# --- curves and expected value


def test_isotonic_is_taken_where_a_sigmoid_cannot_follow_and_not_where_it_can() -> None:
    rng = np.random.default_rng(0)
    margins = rng.uniform(-3, 3, 4000)
    stepped = np.where(margins > 1, 0.5, 0.02)
    smooth = 1 / (1 + np.exp(-margins))
    for chance, curve in ((stepped, Curve.ISOTONIC), (smooth, Curve.SIGMOID)):
        y = (rng.random(4000) < chance).astype("int64")
        found = calibrated(margins, y, 5, 0)
        assert found.curve is curve
        assert found.brier[curve] == pytest.approx(brier_score_loss(y, found.probability))
        assert np.abs(found.probability - chance).mean() < 0.03


RETENTION = Retention(kept_customer_eur=200, contact_cost_eur=10, acceptance=0.5, uplift=0.4)


def test_no_threshold_has_a_greater_expected_value_than_the_break_even() -> None:
    p = np.sort(np.random.default_rng(0).random(500))
    value = [(p[p >= cut] * 0.5 * 0.4 * 200 - 10).sum() for cut in p]
    cut = break_even(RETENTION)
    assert cut == pytest.approx(0.25)
    assert (p[p >= cut] * 40 - 10).sum() == pytest.approx(max(value))
    assert break_even(RETENTION.model_copy(update={"contact_cost_eur": 100.0})) == 1.0


def test_the_policys_rule_chooses_the_threshold() -> None:
    p, y = np.linspace(0, 1, 100), (np.arange(100) > 60).astype("int64")
    policy = Threshold(min_recall=0.7, retention=RETENTION)
    assert choose_threshold(p, y, policy) == recall_floor(p, y, 0.7, 0.95)
    by_value = policy.model_copy(update={"rule": ThresholdRule.EXPECTED_VALUE})
    assert choose_threshold(p, y, by_value) == pytest.approx(0.25)


def test_the_sensitivity_table_halves_and_doubles_each_assumption() -> None:
    p, y = np.linspace(0, 1, 100), (np.arange(100) > 60).astype("int64")
    table = sensitivity(p, y, RETENTION)
    assert len(table) == 12
    middle = table[table["value"] == table["assumption"].map(RETENTION.model_dump())]
    assert middle["threshold"].tolist() == pytest.approx([0.25] * 4)
    row = table[(table["assumption"] == "contact_cost_eur") & (table["value"] == 20)].iloc[0]
    flagged = p >= 0.5
    assert row["threshold"] == pytest.approx(0.5)
    assert (row["flagged"], row["recall"]) == (flagged.sum(), y[flagged].sum() / y.sum())
    assert row["EUR per 1,000"] == pytest.approx(10 * (y[flagged].sum() * 40 - 20 * flagged.sum()))
    assert table.loc[table["assumption"] == "acceptance", "value"].tolist() == [0.25, 0.5, 1.0]
