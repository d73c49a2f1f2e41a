"""Slices: a bad one is flagged, good ones are not, and small ones are not judged."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from spanishgas.evaluation import slices
from spanishgas.evaluation.metrics import average_precisions
from spanishgas.evaluation.slices import Slice
from tests.gold_frames import gold_frame
from tests.labels import customers

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def measure(y: Labels, p: Array, by: dict[str, pd.Series], seed: int = 0) -> dict[str, Slice]:
    found = slices.measure(y, p, (p >= 0.3).astype("int64"), by, seed)
    return {f"{s.dimension} {s.value}": s for s in found}


def dealt(rows: int, into: int, seed: int) -> pd.Series:
    return pd.Series(np.random.default_rng([seed, 1]).integers(0, into, rows)).astype("string").astype(object)


@pytest.mark.parametrize("digits", [1, 8])
def test_many_draws_at_once_give_scikit_learns_average_precision_with_and_without_ties(digits: int) -> None:
    y, p = customers(300, 0)
    p = p.round(digits)
    weights = np.random.default_rng(0).integers(0, 4, (20, 300))
    expected = [average_precision_score(y, p, sample_weight=w) for w in weights]
    assert average_precisions(weights * y, weights, p) == pytest.approx(expected)


def test_a_draw_without_churners_has_no_average_precision() -> None:
    assert np.isnan(average_precisions(np.zeros((1, 3)), np.ones((1, 3)), np.array([0.1, 0.2, 0.3]))).all()


def flagged(seeds: int, rows: int) -> int:
    """In how many tables of slices that are no worse than the rest any is flagged."""
    count = 0
    for seed in range(seeds):
        y, p = customers(rows, seed)
        found = measure(y, p, {"a": dealt(rows, 3, seed), "b": dealt(rows, 12, seed + 99)}, seed)
        count += any(s.worse for s in found.values())
    return count


def test_slices_that_are_as_good_as_the_rest_are_seldom_flagged() -> None:
    assert flagged(8, 800) <= 3  # each has a chance of at most 5 %


@pytest.mark.slow
def test_of_two_hundred_tables_without_a_bad_slice_at_most_one_in_twenty_is_flagged() -> None:
    assert flagged(200, 2000) <= 17  # binomial, 5 %: more than 17 once in fifty


def test_a_slice_of_another_churn_rate_is_not_flagged_for_it() -> None:
    y, p = customers(2000, 0)
    by = pd.Series(np.where(np.random.default_rng(1).random(2000) < 0.3 + 0.6 * (p > 0.3), "risky", "calm"))
    found = measure(y, p, {"kind": by})
    apart = found["kind risky"].average_precision, found["kind calm"].average_precision
    assert apart[0] is not None
    assert apart[1] is not None
    assert apart[0] - apart[1] > 0.1
    assert not any(s.ranks_worse for s in found.values() if s.value == "risky")


def test_a_slice_with_few_churners_of_the_same_scores_is_not_flagged_for_its_lower_average_precision() -> (
    None
):
    y, p = customers(4000, 0)
    here = np.random.default_rng(1).random(4000) < np.where(y == 1, 0.1, 0.5)
    found = measure(y, p, {"kind": pd.Series(np.where(here, "few", "rest"))})["kind few"]
    assert found.average_precision is not None
    assert found.average_precision < average_precision_score(y, p) - 0.15
    assert found.expected == pytest.approx(found.average_precision, abs=0.1)
    assert not found.ranks_worse


def test_a_slice_that_is_ranked_by_chance_is_flagged_alone() -> None:
    y, p = customers(2000, 0)
    by = dealt(2000, 8, 0)
    here = (by == "3").to_numpy()
    p[here] = np.random.default_rng(1).permutation(p[here])
    found = measure(y, p, {"part": by})
    assert [name for name, s in found.items() if s.ranks_worse] == ["part 3"]
    assert "ranks worse" in found["part 3"].words
    assert found["part 3"].expected is not None
    assert found["part 3"].expected > (found["part 3"].interval or (0, 1))[1]


@pytest.mark.parametrize(
    ("factor", "words"), [(2.5, "probabilities too high"), (0.4, "probabilities too low")]
)
def test_a_slice_with_wrong_probabilities_is_flagged_with_their_direction(factor: float, words: str) -> None:
    y, p = customers(2000, 0)
    by = dealt(2000, 8, 0)
    here = (by == "3").to_numpy()
    p[here] = np.minimum(p[here] * factor, 0.99)
    found = measure(y, p, {"part": by})
    assert [name for name, s in found.items() if s.miscalibrated] == ["part 3"]
    assert found["part 3"].words == words


def test_a_slice_of_few_churners_is_shown_but_not_judged() -> None:
    y, p = np.repeat([0, 1], [96, 4]), np.linspace(0, 1, 100)
    (one,) = slices.measure(y, p, np.ones(100, dtype="int64"), {"all": pd.Series(["x"] * 100)}, 0)
    assert (one.rows, one.churners, one.caught, one.average_precision) == (100, 4, 4, None)
    assert one.words == "too few to judge"
    assert not one.worse


def test_point_and_recall_are_of_the_slices_own_customers() -> None:
    y, p = customers(800, 0)
    by = dealt(800, 3, 0)
    one = measure(y, p, {"part": by})["part 1"]
    here = (by == "1").to_numpy()
    assert one.average_precision == pytest.approx(average_precision_score(y[here], p[here]))
    assert one.caught / one.churners == pytest.approx((p[here & (y == 1)] >= 0.3).mean())
    assert one.interval is not None
    assert one.interval[0] < one.average_precision < one.interval[1]
    assert (one.rows, one.churners) == (here.sum(), y[here].sum())


def test_the_dimensions_are_columns_of_gold_with_words_for_flags_and_unknown_for_null() -> None:
    frame = gold_frame(50)
    frame.loc[3, "segment"] = None
    by = slices.groups(frame)
    assert list(by) == ["segment", "channel", "competition", "tenure", "renewal", "fuel"]
    assert by["segment"][3] == "unknown"
    assert set(by["fuel"]) == {"single", "dual"}
    assert list(slices.groups(frame.assign(province_code=28)))[-1] == "province"


def test_a_table_from_elsewhere_is_divided_by_its_own_few_valued_columns_or_is_one_slice() -> None:
    rows = pd.DataFrame(
        {"plan": ["a", "b", None, "a"] * 5, "city": [f"c{n}" for n in range(20)], "age": range(20)}
    )
    kinds = {"age": "numeric", "city": "category", "plan": "category"}
    by = slices.groups(rows, kinds)
    assert list(by) == ["plan"]
    assert set(by["plan"]) == {"a", "b", "unknown"}
    assert list(slices.groups(rows, {"age": "numeric"})["customers"].unique()) == ["all"]


def test_rates_of_a_slice_are_of_its_own_customers_and_only_of_the_dimensions_asked_for() -> None:
    y, p = customers(600, 0)
    flag, parts = (p > 0.3).astype("int64"), dealt(600, 3, 0)
    found = slices.measure(y, p, flag, {"segment": parts, "fuel": parts}, 0)
    table = slices.rates(found, ["segment"]).set_index("slice")
    assert set(table["dimension"]) == {"segment"}
    for name, row in table.iterrows():
        here = (parts == name).to_numpy()
        flagged, churned = flag[here] == 1, y[here] == 1
        for column, share in {
            "flagged": flagged.mean(),
            "of them churners": churned[flagged].mean(),
            "churners flagged": flagged[churned].mean(),
            "stayers flagged": flagged[~churned].mean(),
            "churn rate": churned.mean(),
        }.items():
            value, low, high = (float(x) for x in re.findall(r"[\d.]+", row[column]))
            assert value == pytest.approx(share, abs=5e-4)
            assert low < value < high


def test_every_slice_stands_in_the_table_with_its_verdict() -> None:
    y, p = customers(600, 0)
    found = slices.measure(y, p, (p > 0.3).astype("int64"), {"part": dealt(600, 3, 0)}, 0)
    table = slices.table(found)
    assert list(table["verdict"]) == [s.words for s in found]
    assert table["customers"].sum() == 600
