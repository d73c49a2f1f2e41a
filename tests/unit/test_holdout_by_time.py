"""A holdout by time: earlier days train, the newest is judged on, and no customer stands on both sides."""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from spanishgas.config.policy import Holdout, Policy, load_policy
from spanishgas.config.search import FOREST, XGBOOST, families
from spanishgas.errors import DataError, TooEarly
from spanishgas.lake import Lake
from spanishgas.lifecycle.experiments import training_days, training_gold, training_side, training_table
from spanishgas.stages import digest
from spanishgas.training.calibration import calibrated, fit_chosen, out_of_fold
from spanishgas.training.fitting import Folds, Training, fit_predict, refit
from spanishgas.training.folds import Fold, folds, fresh_folds, inner_split
from spanishgas.training.sides import Forward, in_holdout, learned_in_folds
from tests.gold_frames import gold_frame, publish_gold

SALT = "spanishgas-holdout-1"
KINDS = {"months_to_renewal": "numeric", "tenure_months": "numeric"}
PARAMS = {"n_estimators": 30, "max_depth": 2, "learning_rate": 0.3}
MONTHS = [date(2024, 3, 31), date(2024, 6, 30), date(2024, 9, 30), date(2024, 12, 31)]


def policy(horizon: int = 3, **by_time: object) -> Policy:
    holdout = Holdout.model_validate({"share": 0.2, "salt": SALT, "by": "time", **by_time})
    return load_policy().model_copy(update={"holdout": holdout, "label_horizon_months": horizon})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Gold of four days, a quarter apart, of mostly the same customers."""
    lake = Lake(tmp_path)
    for number, day in enumerate(MONTHS):
        publish_gold(lake, gold_frame(120, seed=number, first_id=1 + 20 * number), day)
    return lake


def groups_of(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the customer of each of three rows a customer, in any order."""
    rng = np.random.default_rng(seed)
    return (rng.random(3 * rows) < 0.2).astype("int64"), rng.permutation(np.repeat(np.arange(rows), 3))


def parted(part: Fold, groups: np.ndarray) -> bool:
    return bool({*groups[part.train]} & {*groups[part.valid]})


def test_a_holdout_by_customer_is_written_as_before_there_was_another() -> None:
    plain = Holdout(share=0.2, salt=SALT)
    assert plain.model_dump(mode="json") == {"share": 0.2, "salt": SALT}
    assert str(plain) == f"0.2 by {SALT}"
    assert plain == Holdout.model_validate({"share": 0.2, "salt": SALT, "by": "customer"})
    assert digest(plain) == digest(Holdout.model_validate({"share": 0.2, "salt": SALT, "by": "customer"}))


def test_two_holdouts_by_time_differ_in_name_and_key() -> None:
    ones = [policy(**more).holdout for more in ({}, {"embargo_months": 0}, {"half_life_months": 6.0})]
    assert len({str(one) for one in ones}) == len({digest(one) for one in ones}) == 3
    assert [Holdout.model_validate_json(one.model_dump_json()) for one in ones] == ones


@pytest.mark.parametrize("seed", range(3))
def test_no_split_parts_a_customer_and_every_row_is_validated_once(seed: int) -> None:
    y, groups = groups_of(60, seed)
    for parts in (folds(y, 5, seed, groups), fresh_folds(y, 5, seed, 1, groups)):
        assert sorted(np.concatenate([part.valid for part in parts])) == list(range(len(y)))
        assert not any(parted(part, groups) for part in parts)
    inner = inner_split(y, 0.2, seed, 1, groups)
    assert inner is not None
    assert not parted(inner, groups)


def test_a_row_per_customer_gives_the_folds_of_rows() -> None:
    y = groups_of(60, 1)[0]
    alone = np.arange(len(y))
    for one, other in zip(folds(y, 5, 3), folds(y, 5, 3, alone), strict=True):
        assert np.array_equal(one.train, other.train)
        assert np.array_equal(one.valid, other.valid)


def test_the_newest_day_is_judged_and_days_whose_labels_reach_into_its_window_are_left_out(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    judged = training_gold(lake)
    caplog.set_level(logging.INFO)
    assert judged.manifest.as_of == MONTHS[-1]
    taken = {months: training_days(lake, judged, policy(3, embargo_months=months)) for months in (0, 3, 6)}
    assert {k: [s.manifest.as_of for s in v] for k, v in taken.items()} == {
        0: MONTHS[:3],
        3: MONTHS[:2],
        6: MONTHS[:1],
    }
    assert str(MONTHS[2]) in caplog.text
    assert training_days(lake, judged, load_policy()) == ()


def test_days_that_all_overlap_are_refused_by_their_dates(lake: Lake) -> None:
    with pytest.raises(
        TooEarly, match="nothing may train: labels of 2024-03-31, 2024-06-30, 2024-09-30"
    ) as fault:
        training_days(lake, training_gold(lake), policy(12))
    assert "2024-12-31, which is to be judged on" in str(fault.value)
    assert "24 months older" in str(fault.value)


def test_held_out_customers_train_on_no_day_and_the_judged_day_trains_nothing(lake: Lake) -> None:
    rules = policy(3, embargo_months=0)
    judged = training_gold(lake)
    table = training_table(training_days(lake, judged, rules), judged)
    training = training_side(table, KINDS, XGBOOST, rules, 7)
    aside = in_holdout(table["customer_id"], rules.holdout)
    assert len(training.y) == int((~aside).sum())
    assert set(table["as_of"]) == set(MONTHS[:3])
    assert training.groups is not None
    assert len(np.unique(training.groups)) == table["customer_id"][~aside].nunique()
    assert training.weights is None


def test_a_row_counts_half_at_its_half_life(lake: Lake) -> None:
    rules = policy(3, embargo_months=0, half_life_months=3.0)
    judged = training_gold(lake)
    training = training_side(
        training_table(training_days(lake, judged, rules), judged), KINDS, XGBOOST, rules, 7
    )
    assert training.weights is not None
    weights = sorted(set(training.weights), reverse=True)
    assert weights == pytest.approx([1, 0.5, 0.25], abs=0.01)


def reversed_days(half_life: float | None) -> tuple[pd.DataFrame, Policy]:
    """Two days of the same customers: on the older one who leaves is who stays on the newer one."""
    rules = policy(3, half_life_months=half_life)
    frame = gold_frame(240, seed=3)
    frame["churn"] = pd.array(frame["months_to_renewal"] < 2, dtype="Int64")
    old = frame.assign(as_of=date(2024, 1, 31), churn=1 - frame["churn"])
    table = pd.concat([old, old, frame.assign(as_of=date(2024, 12, 31))], ignore_index=True)
    return table.assign(learns=False), rules


@pytest.mark.parametrize("kind", families())
def test_what_counts_less_teaches_less_in_every_fit(kind: str) -> None:
    params = {XGBOOST: PARAMS, FOREST: {"n_estimators": 8, "max_depth": 3}}.get(kind, {"max_iter": 200})
    for half_life, follows_the_newest in ((None, False), (1.0, True)):
        table, rules = reversed_days(half_life)
        training = training_side(table, KINDS, kind, rules, 7)
        new = (training.X.index >= len(training.y) * 2 / 3).nonzero()[0]
        margins = out_of_fold(training, params)
        part = folds(training.y, 3, 1, training.groups)[0]
        by_fold, _ = fit_predict(training, params, Folds(training, [part]).encoded(0, params))
        whole = fit_chosen(training, params, rules).model.predict_proba(table)[:, 1]
        seen = np.intersect1d(part.valid, new)
        scored = [
            average_precision_score(training.y[new], margins[new]),
            average_precision_score(training.y[seen], by_fold[np.isin(part.valid, seen)]),
            average_precision_score(table["churn"].astype(int)[480:], whole[480:]),
        ]
        assert [score > 0.9 for score in scored] == [follows_the_newest] * 3


# --- folds forward in time


def side_of(lake: Lake, rules: Policy) -> tuple[pd.DataFrame, Training]:
    """The table that trains, without the held-out customers, and the training side that is made of it."""
    judged = training_gold(lake)
    table = training_table(training_days(lake, judged, rules), judged)
    rows = table[~in_holdout(table["customer_id"], rules.holdout)].reset_index(drop=True)
    return rows, training_side(table, KINDS, XGBOOST, rules, 7)


@pytest.mark.parametrize(
    ("days", "judged", "learned"),
    [
        (["2024-03-31", "2024-06-30", "2024-09-30"], "2024-12-31", ["2024-03-31", "2024-06-30"]),
        (["2024-03-31", "2024-08-31", "2024-09-30"], "2024-10-31", ["2024-03-31", "2024-08-31"]),
        (["2024-12-31", "2025-06-30"], "2025-12-31", ["2024-12-31"]),
        (["2024-02-29", "2025-02-28"], "2026-02-28", ["2024-02-29"]),
        (["2024-03-01", "2025-02-28"], "2026-02-28", []),
        (["2024-12-31"], "2026-12-31", []),
        (["2024-11-30", "2024-12-15"], "2024-12-31", ["2024-11-30"]),
        (["2025-02-01", "2025-06-30"], "2025-12-31", []),
        (["2020-01-15", "2022-01-15", "2022-07-15"], "2024-07-15", ["2020-01-15"]),
    ],
)
def test_folds_learn_from_days_as_far_before_the_newest_as_that_is_before_the_judged(
    days: list[str], judged: str, learned: list[str]
) -> None:
    of = [date.fromisoformat(day) for day in days]
    assert [str(day) for day in learned_in_folds(of, date.fromisoformat(judged))] == learned


@pytest.mark.parametrize("seed", range(3))
def test_forward_in_time_folds_are_of_other_customers_on_a_later_day(seed: int) -> None:
    y, groups = groups_of(60, seed)
    day = np.random.default_rng(seed).permuted(np.tile([0, 1, 2], 60))
    forward = Forward(day == 0, day == 2)
    for parts in (folds(y, 3, seed, groups, forward), fresh_folds(y, 3, seed, 1, groups, forward)):
        assert sorted(np.concatenate([part.valid for part in parts])) == list(np.flatnonzero(day == 2))
        for part in parts:
            assert not parted(part, groups)
            assert set(day[part.train]) == {0}
            others = (day == 0) & ~np.isin(groups, groups[part.valid])
            assert list(part.train) == list(np.flatnonzero(others))


def test_what_is_chosen_and_reported_is_of_the_newest_training_day(lake: Lake) -> None:
    rules = policy(3, embargo_months=0, half_life_months=6.0)
    rows, training = side_of(lake, rules)
    newest = (rows["as_of"] == MONTHS[2]).to_numpy()
    scores, margins = refit(training, PARAMS)
    assert len(scores) == rules.folds * rules.repeats
    assert len(margins) == len(training.validated.y) == newest.sum() == len(training.fresh_fold())
    np.testing.assert_array_equal(training.validated.y, training.y[newest])
    first = training.fresh_folds()[0]
    learned = rows["as_of"].isin(MONTHS[:2]).to_numpy()
    others = learned & ~rows["customer_id"].isin(rows["customer_id"][first.valid]).to_numpy()
    assert training.weights is not None
    by_hand = training.unfitted(PARAMS).fit(
        training.X[others], training.y[others], model__sample_weight=training.weights[others]
    )
    scored = training.fresh_fold() == 0
    np.testing.assert_allclose(margins[scored], by_hand.decision_function(training.X.iloc[first.valid]))
    shipped, of = fit_chosen(training, PARAMS, rules), training.validated
    np.testing.assert_array_equal(shipped.y, of.y)
    again = calibrated(margins, of.y, of.folds, of.seed, of.groups)
    np.testing.assert_array_equal(shipped.chosen_on.probability, again.probability)


def test_the_shipped_model_learns_from_every_training_day(lake: Lake) -> None:
    rules = policy(3, embargo_months=0)
    rows, training = side_of(lake, rules)
    shipped = fit_chosen(training, PARAMS, rules).model
    every = training.unfitted(PARAMS).fit(training.X, training.y)
    np.testing.assert_allclose(
        shipped.pipeline.decision_function(training.X), every.decision_function(training.X)
    )
    assert set(rows["as_of"]) == set(MONTHS[:3])


def test_one_training_day_has_folds_by_customer_and_says_what_is_missing(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rows, training = side_of(lake, policy(3, embargo_months=6))
    assert training.forward is None
    assert set(rows["as_of"]) == {MONTHS[0]}
    assert "folds are by customer: no training day lies as far before 2024-03-31" in caplog.text
    assert sorted(np.concatenate([part.valid for part in training.search_folds()])) == list(range(len(rows)))


def test_too_few_churners_of_the_newest_day_are_refused_with_the_way_out(lake: Lake) -> None:
    frame = gold_frame(120, seed=2, first_id=41)
    few = frame["churn"].eq(1) & (frame["churn"].eq(1).cumsum() > 1)
    publish_gold(lake, frame.assign(churn=frame["churn"].mask(few, 0)), MONTHS[2])
    with pytest.raises(
        DataError, match=r"folds forward in time want .* only [01] of one kind: lower `folds`"
    ):
        side_of(lake, policy(3, embargo_months=0))
