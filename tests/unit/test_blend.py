"""The blend with extremely randomised trees: kept where it pays, dropped where it does not, and scored honestly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score

from spanishgas.config.search import ModelKind
from spanishgas.training import TunedClassifier, blend, tune
from spanishgas.training.blend import TREES, WEIGHTS, _chosen, blended, choose_blend
from spanishgas.training.fitting import Training, refit
from spanishgas.training.folds import fresh_folds


def together(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers that say little one by one and much together, which boosting cuts in pieces."""
    X, y = make_classification(
        rows, n_features=10, n_informative=8, n_redundant=0, flip_y=0.02, weights=[0.8], random_state=1
    )
    return pd.DataFrame(X).add_prefix("x"), y


@pytest.fixture(scope="module")
def both() -> tuple[TunedClassifier, TunedClassifier]:
    X, y = together(3_600)
    return tuple(tune(X[:1_600], y[:1_600], trials=1, blend=kept) for kept in (True, False))


@pytest.mark.slow  # two searches with forests of full size
def test_it_is_kept_where_numbers_work_together_and_ranks_new_rows_better(
    both: tuple[TunedClassifier, TunedClassifier],
) -> None:
    X, y = together(3_600)
    scores = [average_precision_score(y[1_600:], m.predict_proba(X[1_600:])[:, 1]) for m in both]
    assert both[0].blend_weight_ in WEIGHTS[1:]
    assert both[1].blend_weight_ == 0
    assert both[0].best_params_ == both[1].best_params_
    assert scores[0] > scores[1] + 0.01
    assert both[0].cv_scores_.mean() == pytest.approx(scores[0], abs=0.05)


@pytest.mark.slow
def test_its_probabilities_are_calibrated_like_any(both: tuple[TunedClassifier, TunedClassifier]) -> None:
    X, y = together(3_600)
    probability = both[0].predict_proba(X[1_600:])[:, 1]
    assert probability.mean() == pytest.approx(y[1_600:].mean(), abs=0.03)
    assert np.mean((probability - y[1_600:]) ** 2) < 0.6 * y.mean() * (1 - y.mean())


def of_noise(seed: int, rows: int = 1_000) -> tuple[Training, np.ndarray]:
    """Columns that say nothing, beside log odds that say a lot."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-2 * truth))).astype("int64")
    X = pd.DataFrame(rng.normal(size=(rows, 3)), columns=list("abc"))
    kinds = dict.fromkeys("abc", "numeric")
    return Training(X, y, list("abc"), kinds, ModelKind.XGBOOST, folds=5, seed=seed), 2 * truth


def by_fold(training: Training, margins: np.ndarray) -> list[float]:
    parts = fresh_folds(training.y, training.folds, training.seed)
    return [average_precision_score(training.y[p.valid], margins[p.valid]) for p in parts]


@pytest.mark.slow
def test_it_is_dropped_where_it_only_adds_noise() -> None:
    for seed in range(3):
        training, margins = of_noise(seed)
        choice = choose_blend(training, margins)
        assert choice.weight == 0
        assert choice.fold_scores == by_fold(training, margins)
        assert (choice.margins == margins).all()


def test_a_folds_score_is_that_of_the_weight_which_the_other_folds_choose() -> None:
    X, y = together(240)
    kinds = dict.fromkeys(X.columns, "numeric")
    training = Training(X, y, list(X.columns), kinds, ModelKind.XGBOOST, folds=5, seed=0)
    weak = np.random.default_rng(0).normal(size=240) + y
    choice = choose_blend(training, weak)
    second = Training(X, y, list(X.columns), kinds, ModelKind.FOREST, folds=5, seed=0)
    _, other = refit(second, TREES)
    table = np.array([by_fold(training, weak + w * other) for w in WEIGHTS])
    assert choice.weight == WEIGHTS[_chosen(table.T)] > 0
    assert (choice.margins == weak + choice.weight * other).all()
    for fold, score in enumerate(choice.fold_scores):
        assert score == table[_chosen(np.delete(table, fold, axis=1).T), fold]


def test_the_score_is_nested_also_where_one_fold_alone_sways_the_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    y = (np.arange(300) % 3 == 0).astype("int64")
    X = pd.DataFrame({"x": np.zeros(300)})
    training = Training(X, y, ["x"], {"x": "numeric"}, ModelKind.XGBOOST, folds=5, seed=0)
    rng, differ = np.random.default_rng(3), 0
    for _ in range(8):
        margins, other = y + rng.normal(0, 1.2, 300), y + rng.normal(0, 2.5, 300)
        monkeypatch.setattr(blend, "refit", lambda *_, other=other: ([], other))
        table = np.array([by_fold(training, margins + weight * other) for weight in WEIGHTS]).T
        nested = [row[_chosen(np.delete(table, fold, axis=0))] for fold, row in enumerate(table)]
        assert choose_blend(training, margins).fold_scores == nested
        differ += nested != table[:, _chosen(table)].tolist()
    assert differ >= 2


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blend, "TREES", {**TREES, "n_estimators": 20})


@pytest.mark.parametrize("weight", [0.5, 4.0])
@pytest.mark.usefixtures("few_trees")
def test_log_odds_of_both_are_added_by_the_weight(weight: float) -> None:
    X, y = together(120)
    kinds = dict.fromkeys(X.columns, "numeric")
    training = Training(X, y, list(X.columns), kinds, ModelKind.XGBOOST, folds=2, seed=0)
    both = blended(training, {"n_estimators": 5}, weight).fit(X, y)
    first, second = (clone(part).fit(X, y).decision_function(X) for part in (both.first, both.second))
    assert both.decision_function(X) == pytest.approx(first + weight * second)


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_weights_that_bring_nothing_are_seldom_kept_and_do_not_flatter(folds: int) -> None:
    rng, kept, flattery = np.random.default_rng(folds), [], []
    for _ in range(2_000):
        step = rng.normal(size=(folds, 4))  # alike for all weights, on average nothing
        table = np.column_stack([np.zeros(folds), 0.6 * step + 0.8 * step.mean(axis=1, keepdims=True)])
        kept.append(_chosen(table) > 0)
        nested = [row[_chosen(np.delete(table, fold, axis=0))] for fold, row in enumerate(table)]
        flattery.append(np.mean(nested))
    assert np.mean(kept) < 0.30
    assert abs(np.mean(flattery)) < 0.02


def test_a_clear_gain_is_kept_and_two_folds_cannot_say() -> None:
    gains = np.array([[0.0, 0.010, 0.012], [0.0, 0.009, 0.014], [0.0, 0.011, 0.013], [0.0, 0.012, 0.015]])
    assert _chosen(gains) == 2
    assert _chosen(gains[:2]) == 0


@pytest.mark.usefixtures("few_trees")
def test_with_a_blend_the_same_seed_gives_the_same_classifier_row_by_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blend, "_chosen", lambda scores: 4)
    X, y = together(200)
    X = X.mask(np.random.default_rng(0).random(X.shape) < 0.1).assign(city=np.where(X["x0"] > 0, "a", "b"))
    one, two = (tune(X, y, trials=1, folds=2, seed=2**40) for _ in range(2))
    assert one.blend_weight_ == one.calibrated_.estimator.weight == WEIGHTS[4]
    assert (one.predict_proba(X) == two.predict_proba(X)).all()
    fresh = X.assign(city="Atlantis")
    by_row = np.concatenate([one.predict_proba(fresh.iloc[[i]]) for i in range(5)])
    assert by_row == pytest.approx(one.predict_proba(fresh)[:5], abs=1e-12)


def test_on_a_large_table_each_tree_grows_on_a_draw_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = together(200)
    kinds = dict.fromkeys(X.columns, "numeric")
    training = Training(X, y, list(X.columns), kinds, ModelKind.XGBOOST, folds=2, seed=0)
    whole = blended(training, {}, 1.0).second[-1]
    monkeypatch.setattr(blend, "MOST_ROWS", 100)
    drawn = blended(training, {}, 1.0).second[-1]
    assert (whole.bootstrap, drawn.bootstrap, drawn.max_samples) == (False, True, 100)
    weak = np.random.default_rng(0).normal(size=200) + y
    choice = choose_blend(training, weak)
    assert np.isfinite(choice.margins).all()
    assert len(choice.fold_scores) == 2


@pytest.mark.slow
def test_it_stands_beside_boosted_trees_alone() -> None:
    X, y = together(120)
    for model in ("logistic", "forest"):
        assert tune(X, y, model=model, trials=1, folds=2).blend_weight_ == 0
