"""`tune_uplift` and how effects are judged, in worlds whose true effects are known because they are drawn here."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from spanishgas.errors import DataError, UsageError
from spanishgas.evaluation import uplift as judged
from spanishgas.evaluation.inference import Difference
from spanishgas.settings import PROJECT
from spanishgas.training import UpliftModel, tune_uplift
from spanishgas.training import uplift as learned
from spanishgas.training.doubly_robust import option_scores, pseudo_outcomes
from spanishgas.training.effects import mixed
from spanishgas.training.uplift import Allocation, _precision
from tests.unit.test_tuning import people

Array = NDArray[np.float64]


class Drawn:
    """Customers with an effect of x0 alone, and a chance of treatment that grows with x1, as the outcome does."""

    def __init__(self, rows: int, seed: int, strength: float = 0.3, confounded: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.X = rng.normal(size=(rows, 4))
        self.propensity = expit(self.X[:, 1]) * 0.8 + 0.1 if confounded else np.full(rows, 0.5)
        base = 0.1 + 0.5 * expit(3 * self.X[:, 1])
        self.effect = strength * (self.X[:, 0] > 0)
        self.arms = np.column_stack([base, base + self.effect])
        self.treated = (rng.random(rows) < self.propensity).astype(float)
        self.y = (rng.random(rows) < np.where(self.treated == 1, self.arms[:, 1], base)).astype("int64")

    def scores(self, arms: Array) -> Array:
        return pseudo_outcomes(self.y, self.treated, self.propensity, arms)


@pytest.fixture(scope="module")
def world() -> Drawn:
    return Drawn(1_200, seed=5)


@pytest.fixture(scope="module")
def model(world: Drawn) -> UpliftModel:
    return tune_uplift(world.X, world.treated, world.y, propensity=world.propensity, trials=4, folds=3)


def test_effects_of_new_rows_are_ranked_and_sized_though_the_arms_are_not_alike(
    model: UpliftModel, world: Drawn
) -> None:
    naive = world.y[world.treated == 1].mean() - world.y[world.treated == 0].mean()
    truth = world.effect.mean()
    assert naive - truth > 3 * model.effect_error_
    assert abs(model.effect_ - truth) < 3 * model.effect_error_
    fresh = Drawn(1_000, seed=6)
    told = model.predict(fresh.X)
    assert told.dtype == np.float64
    assert np.corrcoef(told, fresh.effect)[0, 1] > 0.7
    assert np.square(told - fresh.effect).mean() < 0.7 * fresh.effect.var()
    assert (model.out_of_fold_.mean(), told.mean()) == pytest.approx((model.effect_, model.effect_), abs=0.02)


def test_rows_that_say_little_of_the_effect_count_little() -> None:
    arms = np.array([[0.5, 0.5], [0.5, 0.5], [0.1, 0.1], [0.0, 0.0]])
    seen = Allocation(np.array([1.0, 0, 1, 0]), np.array([1, 0, 0, 0]), np.array([0.5, 0.9, 0.5, 0.5]))
    even, rarely, calm, never = _precision(arms, seen)
    assert even / rarely == pytest.approx((1 / 0.9 + 1 / 0.1) / 4)  # inverse variances of their scores
    assert calm / even == pytest.approx(0.25 / 0.09)
    assert never / calm == pytest.approx(
        0.09 / (0.025 * 0.975)
    )  # none is called ten times rarer than on average
    assert np.mean([even, rarely, calm, never]) == pytest.approx(1)


def test_where_nothing_tells_effects_apart_they_hardly_differ() -> None:
    spread = []
    for seed in range(7, 11):
        flat = Drawn(1_000, seed, strength=0.0, confounded=False)
        spread.append(tune_uplift(flat.X, flat.treated, flat.y, trials=3, folds=2).predict(flat.X).std())
    assert np.mean(spread) < 0.015  # half the standard error of the average effect


def test_the_report_is_in_the_attributes(model: UpliftModel, world: Drawn) -> None:
    table = model.candidates_
    assert table["name"].iloc[0] == "constant"
    assert len(table) == 5
    assert table["weight"].sum() == pytest.approx(1)
    assert table["gain"].iloc[0] == 0
    assert model.pseudo_outcomes_.mean() == model.effect_
    assert np.corrcoef(model.out_of_fold_, world.effect)[0, 1] > 0.6
    assert list(model.treatments_) == [0, 1]


def test_a_table_of_every_kind_of_column_gives_the_same_effects_again() -> None:
    X, y = people(150)
    arm = np.where(np.arange(150) % 2, "offer", "none")
    made = UpliftModel(trials=3, folds=2)
    twice = [clone(made).fit(X, arm, y == "yes").predict(X) for _ in range(2)]
    assert (twice[0] == twice[1]).all()
    fitted = clone(made).fit(X, arm, y == "yes", 0.5)
    assert (fitted.predict(X[X.columns[::-1]].assign(more=1)) == fitted.predict(X)).all()
    assert list(fitted.treatments_) == ["none", "offer"]
    assert fitted.predict(X.iloc[:0]).shape == (0,)
    with pytest.raises(DataError, match=r"lacks the columns \['age'\]"):
        fitted.predict(X.drop(columns="age"))
    with pytest.raises(NotFittedError, match="call fit"):
        made.predict(X)


ROWS = np.arange(80.0)[:, None]
HALF, EVENTS = np.tile([0, 1], 40), np.tile([0, 0, 1, 1], 20)


@pytest.mark.parametrize(
    ("treatment", "y", "propensity", "said"),
    [
        (HALF[1:], EVENTS, None, "X has 80 rows, but treatment has 79"),
        (HALF, EVENTS[1:], None, "X has 80 rows, but y has 79"),
        (HALF, EVENTS, np.full(79, 0.5), "X has 80 rows, but propensity has 79"),
        (np.where(np.arange(80) == 3, np.nan, HALF), EVENTS, None, "treatment is missing in 1 rows"),
        (HALF, np.where(np.arange(80) < 2, np.nan, EVENTS), None, "y is missing in 2 rows"),
        (np.ones(80), EVENTS, None, r"treatment must have two kinds, but has 1: \[.*1.0"),
        (np.arange(80) % 3, EVENTS, None, "treatment must have two kinds, but has 3"),
        (HALF, np.zeros(80), None, "y must have two kinds, but has 1"),
        (HALF, EVENTS + 1, None, r"y must be 0 or 1, but has \[1, 2\]"),
        (HALF, EVENTS * HALF, None, "the arm 0 has 0 rows with y = 1, fewer than the 5 folds"),
        ((np.arange(80) < 4) * 1, EVENTS, None, "the arm 1 has 2 rows with y = 1"),
        (
            HALF,
            EVENTS,
            np.where(np.arange(80) == 9, np.nan, 0.5),
            "1 propensities are missing or not between",
        ),
        (HALF, EVENTS, 1.0, "80 propensities are missing or not between 0 and 1"),
        (HALF, EVENTS, np.where(np.arange(80) < 3, 0.0, 0.5), "3 propensities are missing or not between"),
        (HALF, EVENTS, 1.5, "80 propensities are missing or not between"),
        (HALF, EVENTS, np.full(80, "half"), "propensities are no numbers"),
        (
            HALF,
            EVENTS,
            np.where(np.arange(80) < 40, 0.995, 0.5),
            "the arms do not overlap: 50% of the propen",
        ),
        (HALF, EVENTS, np.where(HALF == 1, 0.9, 0.1), "they alone tell who was treated"),
        (HALF, EVENTS, 0.9, "by the propensities 90% of the rows were treated, but 50% were"),
    ],
)
def test_an_allocation_that_shows_no_effect_is_refused(
    treatment: Any, y: Any, propensity: Any, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        tune_uplift(ROWS, treatment, y, propensity=propensity, trials=3)


def test_options_out_of_range_and_no_rows_are_named() -> None:
    for options, said in (
        ({"trials": 2}, "trials must be at least 3, but got 2"),
        ({"folds": 1}, "folds must"),
    ):
        with pytest.raises(UsageError, match=said):
            tune_uplift(ROWS, HALF, EVENTS, **options)
    with pytest.raises(DataError, match="no rows"):
        tune_uplift(pd.DataFrame({"a": []}), [], [])


def test_weights_are_convex_and_noise_gets_little() -> None:
    rng = np.random.default_rng(1)
    signal = rng.normal(size=4_000)
    target = signal + rng.normal(size=4_000) * 2
    columns = np.column_stack([np.zeros(4_000), signal, rng.normal(size=(4_000, 2))])
    weights = mixed(columns, target)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[1] > 0.75


def test_the_qini_coefficient_is_the_area_between_curve_and_diagonal() -> None:
    effect, scores = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1.0, 1.0, 0.0, -1.0])
    curve = judged.uplift_curve(effect, scores)
    assert curve.tolist() == [[0, 0], [0.25, 0.25], [0.5, 0.5], [0.75, 0.5], [1, 0.25]]
    area = float(np.trapezoid(curve[:, 1], curve[:, 0]))
    assert judged.auuc(effect, scores).value == pytest.approx(area)
    assert judged.qini(effect, scores).value == pytest.approx(area - 0.25 / 2)
    tied = np.array([2.0, 2.0, 1.0, 1.0])
    other = judged.uplift_curve(tied, scores)
    assert judged.auuc(tied, scores).value == pytest.approx(np.trapezoid(other[:, 1], other[:, 0]))
    assert judged.qini(np.ones(4), scores).value == pytest.approx(0)


def test_the_calibration_of_a_right_prediction_holds_it_in_every_fifth() -> None:
    drawn = Drawn(20_000, seed=2)
    noisy = drawn.effect + np.random.default_rng(0).normal(0, 0.001, 20_000)
    table = judged.calibration(noisy, drawn.scores(drawn.arms))
    assert table["rows"].tolist() == [4_000] * 5
    assert ((table["predicted"] - table["observed"]).abs() < 0.05).all()
    assert len(judged.calibration(np.ones(100), np.ones(100))) == 1
    with pytest.raises(DataError, match="3 rows make no 5 groups"):
        judged.calibration(np.ones(3), np.ones(3))


def test_a_policy_is_worth_what_its_options_show_and_an_unlogged_option_nothing() -> None:
    chance, none = np.array([[0.5, 0.5], [0.8, 0.2]]), np.zeros((2, 2))
    scores = option_scores(np.array([3.0, 4.0]), np.array([0, 1]), chance, none)
    assert scores.tolist() == [[6.0, 0.0], [0.0, 20.0]]
    first, best = np.array([0, 0]), np.array([0, 1])
    assert policy_value(scores, best).value == pytest.approx(13)
    assert policy_value(scores, best, first).value == pytest.approx(10)
    assert policy_value(scores, best, best) == Difference(0, 0, 0)
    for wrong in (0.0, np.nan):
        with pytest.raises(DataError, match="not logged"):
            option_scores(np.ones(2), first, np.array([[wrong, 1.0], [0.8, 0.2]]), none)


def test_the_average_effect_is_right_though_the_outcome_models_are_wrong() -> None:
    drawn = Drawn(40_000, seed=3)
    shown = judged.average(drawn.scores(np.full((40_000, 2), 0.3)))
    assert shown.value == pytest.approx(drawn.effect.mean(), abs=1.5 * (shown.high - shown.low) / 2)


def covers(
    judge: Callable[[Drawn], Difference], truth: float, repeats: int = 1_200, rows: int = 1_500
) -> float:
    drawn = [judge(Drawn(rows, seed)) for seed in range(100, 100 + repeats)]
    return float(np.mean([one.low <= truth <= one.high for one in drawn]))


def _told(drawn: Drawn) -> Array:
    return drawn.X[:, 0] + drawn.X[:, 2]


def policy_value(scores: Array, choice: NDArray[Any], other: NDArray[Any] | None = None) -> Difference:
    """The mean of what `choice` is worth, less that of `other`."""
    rows = np.arange(len(choice))
    return judged.average(scores[rows, choice] - (0.0 if other is None else scores[rows, other]))


def _wrong_models(drawn: Drawn) -> Array:
    return drawn.scores(np.full((len(drawn.y), 2), 0.3))


JUDGES: dict[str, Callable[[Drawn], Difference]] = {
    "average effect": lambda d: judged.average(_wrong_models(d)),
    "average effect, by propensity alone": lambda d: judged.average(d.scores(np.zeros((len(d.y), 2)))),
    "Qini": lambda d: judged.qini(_told(d), _wrong_models(d)),
    "AUUC": lambda d: judged.auuc(_told(d), _wrong_models(d)),
    "policy": lambda d: policy_value(
        option_scores(
            d.y.astype(float),
            d.treated.astype("int64"),
            np.column_stack([1 - d.propensity, d.propensity]),
            np.full((len(d.y), 2), 0.3),
        ),
        (_told(d) > 0).astype("int64"),
        np.zeros(len(d.y), dtype="int64"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", JUDGES)
def test_intervals_hold_the_truth_though_the_outcome_models_are_wrong(name: str) -> None:
    large = Drawn(400_000, seed=1)
    told, effect = _told(large), large.effect
    truth = {
        "Qini": judged.qini(told, effect).value,
        "AUUC": judged.auuc(told, effect).value,
        "policy": float(np.mean(effect * (told > 0))),
    }.get(name, 0.15)
    assert 0.93 < covers(JUDGES[name], truth) < 0.97  # 1,200 repeats leave a standard error of 0.006


def test_the_example_in_the_documentation_runs() -> None:
    assert doctest.testmod(learned).failed == 0
    assert doctest.testmod(learned).attempted >= 6
    text = (PROJECT / "docs" / "tune.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[2].split("```")[0], names)
    assert names["model"].effect_ < -2 * names["model"].effect_error_
