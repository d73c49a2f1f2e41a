"""The blend of kinds of trees: its weights are right, kept where they pay, and scored on folds that did not choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from spanishgas.config.search import XGBOOST
from spanishgas.training import TunedClassifier, blend, tune
from spanishgas.training.blend import MEMBERS, TREES, TUNED, blended, choose_blend, stack
from spanishgas.training.fitting import Training
from spanishgas.training.folds import fresh_folds


def together(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers that say little one by one and much together, which boosting cuts in pieces."""
    X, y = make_classification(
        rows, n_features=10, n_informative=8, n_redundant=0, flip_y=0.02, weights=[0.8], random_state=1
    )
    return pd.DataFrame(X).add_prefix("x"), y


def training_of(X: pd.DataFrame, y: np.ndarray, folds: int = 5, seed: int = 0) -> Training:
    kinds = {c: "numeric" if pd.api.types.is_numeric_dtype(X[c]) else "category" for c in X.columns}
    return Training(X, y, list(X.columns), kinds, XGBOOST, folds=folds, seed=seed)


class Column(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose log odds stand in the table; it counts its fits."""

    fits = 0

    def __init__(self, name: str = "other") -> None:
        self.name = name

    def fit(self, X: pd.DataFrame, y: Any) -> Self:
        Column.fits += 1
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, X: pd.DataFrame) -> np.ndarray:
        values: np.ndarray = X[self.name].to_numpy()
        return values


Patch = Callable[..., None]


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """Members that read their log odds from columns of the table."""
    Column.fits = 0

    def use(*names: str) -> None:
        monkeypatch.setattr(blend, "MEMBERS", {name: lambda _, n=name: Column(n) for name in names})

    return use


def world(rows: int, seed: int, **weights: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Independent log odds by member, and labels drawn from their weighted sum less 1."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({name: rng.normal(0, 1.5, rows) for name in weights})
    return X, (rng.random(rows) < expit(X @ pd.Series(weights) - 1)).astype("int64").to_numpy()


def test_weights_are_those_of_the_log_odds_that_labels_were_drawn_from() -> None:
    X, y = world(40_000, 0, tuned=0.7, other=0.4, noise=0.0)
    weights = stack(X.to_numpy(), y)
    # the curvature of the log loss bounds the error of maximum likelihood: some 0.02 here, four of them
    assert weights == pytest.approx([0.7, 0.4, 0.0], abs=0.08)
    plain = LogisticRegression(C=1e9).fit(X[["tuned", "other"]], y).coef_[0]
    assert stack(X[["tuned", "other"]].to_numpy(), y) == pytest.approx(plain, abs=0.01)


def test_no_weight_is_negative_and_few_rows_leave_the_tuned_model_alone() -> None:
    X, y = world(4_000, 1, tuned=0.8, against=-0.5)
    assert stack(X.to_numpy(), y)[1] == 0
    few, labels = world(2, 2, tuned=1.0, other=0.0)
    assert stack(few.to_numpy() * 1e-3, labels) == pytest.approx([1.0, 0.0], abs=0.01)


def by_fold(training: Training, margins: np.ndarray) -> list[float]:
    parts = fresh_folds(training.y, training.folds, training.seed)
    return [average_precision_score(training.y[p.valid], margins[p.valid]) for p in parts]


def test_a_folds_score_is_that_of_the_weights_which_the_other_folds_choose(columns: Patch) -> None:
    columns("a", "b")
    X, y = world(600, 3, tuned=0.6, a=0.6, b=0.3)
    training = training_of(X, y)
    choice = choose_blend(training, X["tuned"].to_numpy())
    assert list(choice.weights) == [TUNED, "a", "b"]
    assert choice.margins == pytest.approx((X * list(choice.weights.values())).sum(axis=1))
    table = X.to_numpy()
    for part, score in zip(fresh_folds(y, 5, 0), choice.fold_scores, strict=True):
        weights = stack(table[part.train], y[part.train])
        assert score == average_precision_score(y[part.valid], table[part.valid] @ weights)
    assert choice.fold_scores != by_fold(training, choice.margins)


@pytest.mark.parametrize("seed", range(4))
def test_what_adds_only_noise_is_left_out_and_the_margins_stay_as_they_are(columns: Patch, seed: int) -> None:
    columns("noise")
    X, y = world(1_500, seed, tuned=1.0, noise=0.0)
    training, margins = training_of(X, y, seed=seed), X["tuned"].to_numpy()
    choice = choose_blend(training, margins)
    assert choice.weights == {TUNED: 1.0}
    assert (choice.margins == margins).all()
    assert choice.fold_scores == by_fold(training, margins)


def test_a_member_that_says_nothing_on_the_first_fold_is_fitted_on_no_other(columns: Patch) -> None:
    columns("noise")
    X, y = world(4_000, 5, tuned=1.0, noise=0.0)
    choose_blend(training_of(X, y), X["tuned"].to_numpy())
    assert Column.fits == 1


def test_blends_that_bring_nothing_do_not_flatter(columns: Patch) -> None:
    """A second view that is as good as none: the reported gain over the tuned model is nil on average."""
    columns("other")
    gains = []
    for seed in range(60):
        X, y = world(300, seed, tuned=1.0, other=0.1)
        training = training_of(X, y, seed=seed)
        choice = choose_blend(training, X["tuned"].to_numpy())
        fresh, labels = world(4_000, 1_000 + seed, tuned=1.0, other=0.1)
        told = np.mean(choice.fold_scores) - np.mean(by_fold(training, X["tuned"].to_numpy()))
        blended_odds = sum(weight * fresh[name] for name, weight in choice.weights.items())
        true = average_precision_score(labels, blended_odds) - average_precision_score(labels, fresh["tuned"])
        gains.append(told - true)
    assert abs(np.mean(gains)) < 0.01, (np.mean(gains), np.std(gains) / np.sqrt(len(gains)))


def test_log_odds_are_added_by_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blend, "TREES", {**TREES, "n_estimators": 20})
    X, y = together(120)
    training = training_of(X, y, folds=2)
    both = blended(training, {"n_estimators": 5}, {TUNED: 0.5, "random_splits": 2.0}).fit(X, y)
    first, second = (clone(part).fit(X, y).decision_function(X) for part in both.members)
    assert both.decision_function(X) == pytest.approx(0.5 * first + 2.0 * second)
    assert (both.predict(X) == (both.decision_function(X) > 0)).all()
    alone = blended(training, {"n_estimators": 5}, {TUNED: 1.0})
    assert not isinstance(alone, blend.Blend)


def test_on_a_large_table_each_tree_grows_on_a_draw_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = together(200)
    whole = MEMBERS["random_splits"](training_of(X, y))[-1]
    monkeypatch.setattr(blend, "MOST_ROWS", 100)
    drawn = MEMBERS["random_splits"](training_of(X, y))[-1]
    assert (whole.bootstrap, drawn.bootstrap, drawn.max_samples) == (False, True, 100)


def odd_table(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    X, y = together(rows)
    X = X.mask(np.random.default_rng(0).random(X.shape) < 0.1)
    town = np.where(np.arange(rows) % 7 == 0, None, np.where(y == 1, "Vigo", "León"))
    return X.assign(town=pd.Series(town, dtype=object), always=1.0, never=np.nan), y


@pytest.mark.parametrize("name", ["random_splits", "histograms", "symmetric", "leafwise"])
def test_every_member_takes_gaps_texts_and_new_texts_and_gives_the_same_for_the_same_seed(name: str) -> None:
    X, y = odd_table(200)
    if (unfitted := MEMBERS[name](training_of(X, y, seed=2**40))) is None:
        pytest.skip("needs the extra boosting")
    one, two = (clone(unfitted).fit(X, y) for _ in range(2))
    odds = one.decision_function(X)
    assert (odds == two.decision_function(X)).all()
    assert average_precision_score(y, odds) > 0.9
    fresh = X.assign(town="Atlantis")
    by_row = np.concatenate([one.decision_function(fresh.iloc[[i]]) for i in range(5)])
    assert by_row == pytest.approx(one.decision_function(fresh)[:5], abs=1e-9)


def test_a_table_in_which_nothing_varies_is_no_fault_of_any_member() -> None:
    y = (np.arange(60) % 3 == 0).astype("int64")
    training = training_of(pd.DataFrame({"x": np.zeros(60), "t": pd.Series(["a"] * 60, dtype=object)}), y)
    choice = choose_blend(training, np.zeros(60))
    assert choice.weights == {TUNED: 1.0}


def test_members_of_packages_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blend, "find_spec", lambda name: None)
    X, y = together(60)
    made = {name for name, member in MEMBERS.items() if member(training_of(X, y)) is not None}
    assert made == {"random_splits", "histograms"}


def test_with_a_blend_the_same_seed_gives_the_same_classifier_row_by_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blend, "TREES", {**TREES, "n_estimators": 20})
    X, y = odd_table(300)
    one, two = (tune(X.drop(columns="town"), y, trials=1, folds=3, seed=2**40) for _ in range(2))
    assert one.blend_weights_ == two.blend_weights_
    assert 0 < one.blend_weight_ <= 1
    assert one.blend_weight_ == pytest.approx(
        1 - one.blend_weights_[TUNED] / sum(one.blend_weights_.values())
    )
    assert one.calibrated_.estimator.weights == list(one.blend_weights_.values())
    assert (one.predict_proba(X) == two.predict_proba(X)).all()
    by_row = np.concatenate([one.predict_proba(X.iloc[[i]]) for i in range(5)])
    assert by_row == pytest.approx(one.predict_proba(X)[:5], abs=1e-9)


@pytest.fixture(scope="module")
def both() -> tuple[TunedClassifier, TunedClassifier]:
    X, y = together(3_600)
    with_others, alone = (tune(X[:1_600], y[:1_600], trials=1, blend=kept) for kept in (True, False))
    return with_others, alone


@pytest.mark.slow  # two searches with forests of full size
def test_it_is_kept_where_numbers_work_together_and_ranks_new_rows_better(
    both: tuple[TunedClassifier, TunedClassifier],
) -> None:
    X, y = together(3_600)
    scores = [average_precision_score(y[1_600:], m.predict_proba(X[1_600:])[:, 1]) for m in both]
    assert both[0].blend_weight_ > 0.2
    assert both[1].blend_weights_ == {TUNED: 1.0}
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


@pytest.mark.slow
def test_it_stands_beside_boosted_trees_alone() -> None:
    X, y = together(120)
    for model in ("logistic", "forest"):
        assert tune(X, y, model=model, trials=1, folds=2).blend_weight_ == 0
