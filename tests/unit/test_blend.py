"""The second opinion beside boosted trees: kept where it pays, dropped where it does not, and scored honestly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score

from spanishgas.training import TunedClassifier, blend, tune
from spanishgas.training.blend import SECOND, WEIGHTS, blended, second_opinion
from spanishgas.training.experiment import ModelKind
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
    X, y = together(3_000)
    return tuple(tune(X[:1_000], y[:1_000], trials=1, folds=4, second=second) for second in (True, False))


def test_it_is_kept_where_numbers_work_together_and_ranks_new_rows_better(
    both: tuple[TunedClassifier, TunedClassifier],
) -> None:
    X, y = together(3_000)
    scores = [average_precision_score(y[1_000:], m.predict_proba(X[1_000:])[:, 1]) for m in both]
    assert both[0].second_weight_ in WEIGHTS[1:]
    assert both[1].second_weight_ == 0
    assert both[0].best_params_ == both[1].best_params_
    assert scores[0] > scores[1] + 0.01
    assert both[0].cv_scores_.mean() == pytest.approx(scores[0], abs=0.05)


def test_its_probabilities_are_calibrated_like_any(both: tuple[TunedClassifier, TunedClassifier]) -> None:
    X, y = together(3_000)
    probability = both[0].predict_proba(X[1_000:])[:, 1]
    assert probability.mean() == pytest.approx(y[1_000:].mean(), abs=0.03)
    assert np.mean((probability - y[1_000:]) ** 2) < 0.6 * y.mean() * (1 - y.mean())


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


def test_it_is_dropped_where_it_only_adds_noise() -> None:
    for seed in range(3):
        training, margins = of_noise(seed)
        opinion = second_opinion(training, margins, by_fold(training, margins))
        assert opinion.weight == 0
        assert opinion.fold_scores == by_fold(training, margins)
        assert (opinion.margins == margins).all()


def test_a_folds_score_is_that_of_the_weight_which_the_other_folds_choose() -> None:
    X, y = together(240)
    kinds = dict.fromkeys(X.columns, "numeric")
    training = Training(X, y, list(X.columns), kinds, ModelKind.XGBOOST, folds=5, seed=0)
    weak = np.random.default_rng(0).normal(size=240) + y
    opinion = second_opinion(training, weak, by_fold(training, weak))
    second = Training(X, y, list(X.columns), kinds, ModelKind.FOREST, folds=5, seed=0)
    _, other = refit(second, SECOND)
    table = np.array([by_fold(training, weak + w * other) for w in WEIGHTS])
    assert opinion.weight == WEIGHTS[table.mean(axis=1).argmax()] > 0
    assert (opinion.margins == weak + opinion.weight * other).all()
    for fold, score in enumerate(opinion.fold_scores):
        others = np.delete(table, fold, axis=1).mean(axis=1)
        assert score == table[others.argmax(), fold]


def test_on_a_large_table_each_tree_grows_on_a_draw_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = together(200)
    kinds = dict.fromkeys(X.columns, "numeric")
    training = Training(X, y, list(X.columns), kinds, ModelKind.XGBOOST, folds=2, seed=0)
    whole = blended(training, {}, 1.0).second[-1]
    monkeypatch.setattr(blend, "MOST_ROWS", 100)
    drawn = blended(training, {}, 1.0).second[-1]
    assert (whole.bootstrap, drawn.bootstrap, drawn.max_samples) == (False, True, 100)
    weak = np.random.default_rng(0).normal(size=200) + y
    opinion = second_opinion(training, weak, by_fold(training, weak))
    assert np.isfinite(opinion.margins).all()
    assert len(opinion.fold_scores) == 2


def test_it_stands_beside_boosted_trees_alone() -> None:
    X, y = together(120)
    for model in ("logistic", "forest"):
        assert tune(X, y, model=model, trials=1, folds=2).second_weight_ == 0
