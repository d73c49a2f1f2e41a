"""`tune` on other people's tables: every kind of column, none prepared, and faults that are named."""

from __future__ import annotations

import doctest
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import average_precision_score, brier_score_loss
from sklearn.model_selection import cross_val_score

from spanishgas.errors import DataError, UsageError
from spanishgas.settings import PROJECT
from spanishgas.training import TunedClassifier, tune, tuning


def people(rows: int = 150, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """A table of every kind of column with holes, and labels that hang on three of them."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows).astype(float),
            "whole": pd.array(rng.integers(0, 5, rows), dtype="Int64"),
            "vip": pd.array(rng.random(rows) < 0.3, dtype="boolean"),
            "plain": rng.random(rows) < 0.5,
            "plan": pd.Categorical(rng.choice(["a", "b", "c"], rows)),
            "city": rng.choice(["Bilbao", "Vigo"], rows),
            "code": [f"id{i}" for i in range(rows)],
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
            "wait": pd.to_timedelta(rng.integers(0, 9, rows), unit="h"),
            "born": [date(1950, 1, 1) + timedelta(days=int(d)) for d in rng.integers(0, 9_000, rows)],
            "paid": pd.Series([timedelta(days=int(d)) for d in rng.integers(0, 9, rows)], dtype=object),
            "month": pd.PeriodIndex(["2024-01", "2024-07"] * (rows // 2), freq="M"),
            "mixed": rng.choice(np.array([1, "x", None], dtype=object), rows),
            "empty": np.full(rows, np.nan),
            "void": pd.Series([None] * rows, dtype=object),
            "constant": 1,
        }
    )
    odds = (table["age"] - 50) / 8 + 2.0 * (table["city"] == "Vigo")
    y = pd.Series(np.where(rng.random(rows) < 1 / (1 + np.exp(-odds)), "yes", "no"))
    for name in ("age", "whole", "vip", "plan", "city", "since", "born", "paid", "month"):
        table.loc[rng.random(rows) < 0.1, name] = None
    table.loc[0, "age"], table.loc[1, "age"] = np.inf, 1e300
    return table, y


def tuned(model: str = "logistic", **options: Any) -> TunedClassifier:
    return tune(*people(), model=model, trials=2, folds=3, **options)


@pytest.mark.parametrize("model", ["logistic", "forest", "xgboost"])
def test_any_table_gives_a_classifier_that_ranks_new_rows(model: str) -> None:
    fresh, y = people(400, seed=9)
    found = tuned(model)
    probability = found.predict_proba(fresh)
    assert probability.shape == (400, 2)
    assert probability.sum(axis=1) == pytest.approx(np.ones(400))
    truth = (y == "yes").astype(int)
    assert average_precision_score(truth, probability[:, 1]) > truth.mean() + 0.15
    assert brier_score_loss(truth, probability[:, 1]) < truth.mean() * (1 - truth.mean())
    assert set(found.predict(fresh)) == {"yes", "no"}


def test_the_report_is_in_the_attributes() -> None:
    found = tuned()
    assert list(found.classes_) == ["no", "yes"]
    assert len(found.cv_scores_) == 3
    assert len(found.trials_) == 2
    assert set(found.best_params_) <= set(found.trials_.columns)
    assert list(found.feature_names_in_) == list(people()[0].columns)
    assert found.n_features_in_ == 16
    assert {n: r for n, r in found.roles_.items() if r not in ("numeric", "category")} == {
        "since": "date",
        "wait": "duration",
        "born": "date",
        "paid": "duration",
        "month": "period",
    }
    cut = found.predict_proba(people()[0])[:, 1] >= found.threshold_
    assert (found.predict(people()[0]) == np.where(cut, "yes", "no")).all()


def test_the_same_seed_gives_the_same_probabilities() -> None:
    X, _ = people(40, seed=3)
    assert (tuned().predict_proba(X) == tuned().predict_proba(X)).all()


def test_the_other_label_can_be_the_positive_one() -> None:
    X, y = people(400, seed=9)
    found = tuned(positive="no")
    assert list(found.classes_) == ["no", "yes"]
    assert found.predict_proba(X)[(y == "yes").to_numpy(), 1].mean() > 0.6
    assert set(found.predict(X)) == {"yes", "no"}


def test_it_is_cloned_and_cross_validated_like_any_classifier() -> None:
    X, y = people()
    unfitted = TunedClassifier("logistic", trials=1, folds=2)
    assert clone(unfitted).get_params() == unfitted.get_params()
    assert cross_val_score(unfitted, X, y, cv=2, error_score="raise").shape == (2,)


@pytest.mark.parametrize("labels", [[0, 1], [False, True], [-1.0, 1.0], ["a", "b"]])
def test_labels_of_any_kind_come_back_as_they_are(labels: list[Any]) -> None:
    X, y = people(60)
    found = tune(X, np.where(y == "yes", labels[1], labels[0]), model="logistic", trials=1, folds=2)
    assert set(found.predict(X)) <= set(labels)
    assert list(found.classes_) == labels


def test_an_array_without_names_a_wide_table_and_an_odd_index_are_tables_too() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(60, 150))
    y = (wide[:, 0] > 0).astype(int)
    assert tune(wide, y, model="logistic", trials=1, folds=2).predict_proba(wide).shape == (60, 2)
    assert len(tune(wide, pd.DataFrame(y), "logistic", 1, 2, seed=2**40).predict(wide)) == 60
    odd = pd.DataFrame(wide[:, :2], index=rng.permutation(60) * 3)
    assert len(tune(odd, pd.Series(y, index=odd.index), "logistic", 1, 2).predict(odd)) == 60


def test_new_categories_other_column_orders_and_no_rows_are_scored() -> None:
    X, _ = people(20, seed=4)
    found = tuned()
    before = found.predict_proba(X)
    assert (found.predict_proba(X[X.columns[::-1]].assign(more=1)) == before).all()
    assert found.predict_proba(X.assign(city="Atlantis")).shape == (20, 2)
    assert found.predict_proba(X.iloc[:0]).shape == (0, 2)


def test_a_text_that_names_each_row_does_not_widen_the_model() -> None:
    assert len(tuned().kept_["code"]) == 1


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        ([[1.0]] * 10, [1] * 10, r"two kinds of label, but has 1: \[1\]"),
        ([[1.0]] * 9, [0, 1, 2] * 3, "two kinds of label, but has 3"),
        ([[1.0]] * 10, np.array(["a", 1] * 5, dtype=object), "of two types"),
        ([[1.0]] * 10, [0.0, 1.0] * 4 + [np.nan] * 2, "2 missing labels"),
        ([[1.0]] * 10, [0, 1], "X has 10 rows, but y has 2 labels"),
        ([[1.0]] * 10, [0] * 9 + [1], "only 1 rows of 1, fewer than the 5 folds"),
        (pd.DataFrame({"a": []}), [], "no rows"),
        (pd.DataFrame(index=range(4)), [0, 1, 0, 1], "no columns"),
        (pd.DataFrame([[1, 2]] * 4, columns=["a", "a"]), [0, 1, 0, 1], r"several columns named \['a'\]"),
    ],
)
def test_what_cannot_be_learnt_from_is_named(X: Any, y: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        tune(X, y, trials=1)


def test_faults_at_prediction_and_in_options_are_named() -> None:
    X, y = people(20)
    with pytest.raises(DataError, match=r"lacks the columns \['age'\]"):
        tuned().predict(X.drop(columns="age"))
    with pytest.raises(DataError, match="'age' held numbers when the model was fitted"):
        tuned().predict(X.assign(age="old"))
    for options, said in (
        ({"folds": 1}, "folds must be at least 2, but got 1"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"model": "svm"}, "unknown model 'svm'"),
        ({"positive": "maybe"}, "positive is 'maybe', but the labels are"),
    ):
        with pytest.raises(UsageError, match=said):
            tune(X, y, **{"folds": 2, **options})


def test_the_examples_in_the_documentation_run() -> None:
    assert tune is tuning.tune
    assert doctest.testmod(tuning).failed == 0
    assert doctest.testmod(tuning).attempted >= 5
    text = (PROJECT / "docs" / "tune.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    assert len(names["model"].trials_) == 5
    assert names["model"].predict_proba(names["customers"]).shape == (300, 2)
