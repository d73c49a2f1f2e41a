"""The alarm on made-up utilities: customers age, a few leave and come, and sometimes something else happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from spanishgas.config.policy import DriftLimits, Windows, load_policy
from spanishgas.errors import DataError, UsageError
from spanishgas.features import load_tiers
from spanishgas.monitoring import baseline, reports
from spanishgas.monitoring.alarm import NONE_SEEN, AlarmJudgement, effects, judge, threshold
from spanishgas.monitoring.baseline import FLOOR, Baseline, learn, month_of, months_between
from spanishgas.monitoring.parts import MISSING, shares

KINDS = {"tenure": "numeric", "price": "numeric", "dual": "flag", "channel": "category", "mood": "category"}
DATES = (date(2024, 12, 31), date(2025, 3, 31))
LIMITS = DriftLimits(false_alarm_rate=0.02, min_effect=0.1)
SIZE = 400


def utility(rng: np.random.Generator, customers: int = SIZE) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "tenure": rng.exponential(40, customers),
            "price": rng.choice([0.14, 0.15, 0.17], customers),
            "dual": rng.integers(0, 2, customers),
            "channel": rng.choice(["shop", "phone", "web"], customers, p=[0.5, 0.3, 0.2]),
            "mood": rng.choice(np.array(["good", "bad", None], dtype=object), customers),
        }
    )


def later(rng: np.random.Generator, before: pd.DataFrame) -> pd.DataFrame:
    """Three months on: all are older, some have gone and new ones came, contacts are new ones."""
    gone = rng.random(len(before)) < 0.05
    fresh = utility(rng, len(before))
    after = before.assign(tenure=before["tenure"] + 3, mood=fresh["mood"])
    after.loc[gone] = fresh[gone].assign(tenure=rng.uniform(0, 3, gone.sum()))
    return after


def pairs(seed: int, count: int, customers: int = SIZE) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    rng = np.random.default_rng(seed)
    return [(before, later(rng, before)) for before in (utility(rng, customers) for _ in range(count))]


@pytest.fixture(scope="module")
def usual() -> Baseline:
    return learned(12, 3)


def learned(month: int, lag: int, floor: float = FLOOR) -> Baseline:
    return learn({(month, lag): hundred()}, SIZE, source="made-up utilities", floor=floor)


@cache
def hundred() -> list[pd.DataFrame]:
    return [shares(a, b, KINDS) for a, b in pairs(1, 100)]


def judged(usual: Baseline, before: pd.DataFrame, after: pd.DataFrame, **given: Any) -> AlarmJudgement:
    dates, limits = given.get("dates", DATES), given.get("limits", LIMITS)
    return judge(shares(before, after, KINDS), (len(before), len(after)), dates, usual, limits)


# Parts of a column


@pytest.mark.parametrize("name", KINDS)
def test_the_shares_of_a_column_add_up_to_all_customers(name: str) -> None:
    before, after = pairs(2, 1)[0]
    after.loc[:9, "tenure"] = np.nan
    after.loc[:9, "channel"] = "stall"
    found = shares(before, after, KINDS).loc[name]
    assert found[["before", "after"]].sum().tolist() == pytest.approx([1.0, 1.0])


def test_new_categories_and_missing_values_are_parts_of_their_own() -> None:
    before, after = pairs(2, 1)[0]
    after["channel"] = ["stall"] * 40 + [None] * 60 + ["shop"] * (SIZE - 100)
    found = shares(before, after, KINDS).loc["channel"]
    assert found.loc["= stall", ["before", "after"]].tolist() == [0.0, 0.1]
    assert found.loc[MISSING, ["before", "after"]].tolist() == [0.0, 0.15]


def test_a_price_that_many_share_moves_no_more_than_the_customers_who_came() -> None:
    """Plain tenths would hand all customers of a price from one to the next when the price's share crosses an edge."""
    before = pd.DataFrame({"price": [0.14] * 199 + [0.15] * 201})
    after = pd.DataFrame({"price": [0.14] * 201 + [0.15] * 199})
    found = shares(before, after, {"price": "numeric"})
    assert (found["after"] - found["before"]).abs().max() <= 0.006


def test_the_last_digit_of_another_engine_moves_nobody() -> None:
    before = pd.DataFrame({"price": [0.14, 0.15, 0.17] * 50})
    found = shares(before, before * (1 + 1e-15), {"price": "numeric"})
    assert (found["after"] == found["before"]).all()


def test_a_table_without_customers_is_an_error() -> None:
    before = utility(np.random.default_rng(1))
    with pytest.raises(DataError, match="400 customers before, 0 now"):
        shares(before, before.head(0), KINDS)


# The alarm


def test_time_alone_rings_no_alarm_where_any_ks_test_below_a_hundredth_would(usual: Baseline) -> None:
    """The replaced system called a single p < 0.01 drift; at its size, ageing alone does that in every report."""
    before, after = pairs(3, 1, customers=20_000)[0]
    assert ks_2samp(before["tenure"], after["tenure"]).pvalue < 0.01
    found = judged(usual, before, after)
    assert not found.alarm
    assert "None of 5 inputs" in found.reasons[1]


@pytest.mark.slow
def test_the_alarm_rings_for_nothing_about_as_often_as_the_policy_says(usual: Baseline) -> None:
    rung = [judged(usual, before, after).alarm for before, after in pairs(4, 300)]
    assert np.mean(rung) <= 0.05  # 0.02 on average; 0.05 or less in all but one of a thousand such samples


def test_a_smaller_rate_has_a_higher_threshold(usual: Baseline) -> None:
    limits = [threshold(usual, list(KINDS), rate, 1) for rate in (0.2, 0.05, 0.01)]
    assert limits == sorted(set(limits))


def test_more_features_have_a_higher_threshold(usual: Baseline) -> None:
    assert threshold(usual, ["dual"], 0.02, 1) < threshold(usual, list(KINDS), 0.02, 1)


def test_the_threshold_is_the_conformal_quantile_where_that_is_beyond_bonferronis(usual: Baseline) -> None:
    wide = replace(usual, pairs=usual.pairs * 10)
    largest = np.sort(wide.pairs[list(KINDS)].max(axis=1))
    assert threshold(wide, list(KINDS), 0.02, 50) == largest[98]  # of 100: rank ceil(101 * 0.98)
    assert threshold(wide, [], 0.02, 50) == pytest.approx(3.54, abs=0.01)  # the normal quantile of 0.01 / 50


def test_a_rate_that_no_number_of_pairs_at_hand_can_show_is_refused(usual: Baseline) -> None:
    with pytest.raises(UsageError, match="needs 999 pairs of tables without drift, but there are 100"):
        threshold(usual, list(KINDS), 0.001, 1)


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("price", 0.19, "a value near"), ("channel", "web", "the value"), ("dual", 1, "the value")],
)
def test_a_shift_of_one_input_rings_and_the_reason_names_it(
    usual: Baseline, name: str, value: object, told: str, share: float
) -> None:
    before, after = pairs(5, 1)[0]
    after.loc[after.index < share * SIZE, name] = value
    found = judged(usual, before, after)
    assert found.alarm
    assert found.effects.index[0] == name
    assert found.reasons[2].startswith(f"{name}: ")
    assert told in found.reasons[2]


@pytest.mark.parametrize(("value", "part"), [("stall", "= stall"), (None, MISSING)])
def test_a_new_category_or_missing_values_ring(usual: Baseline, value: str | None, part: str) -> None:
    before, after = pairs(6, 1)[0]
    after["channel"] = after["channel"].where(after.index >= 20, value)
    found = judged(usual, before, after)
    assert found.alarm
    assert found.effects.loc["channel", "bin"] == part


def test_a_trifle_rings_at_no_number_of_customers(usual: Baseline) -> None:
    before, after = pairs(7, 1, customers=200_000)[0]
    after.loc[after.index[:600], "channel"] = "stall"
    assert not judged(usual, before, after).alarm
    assert judged(learned(12, 3, floor=0.0), before, after).alarm


def test_customers_who_did_not_age_are_drift(usual: Baseline) -> None:
    """A stale copy of the training table, passed off as three months later."""
    before, _ = pairs(8, 1, customers=20_000)[0]
    assert judged(usual, before, before).alarm


def test_the_same_day_expects_no_change(usual: Baseline) -> None:
    before, _ = pairs(8, 1)[0]
    found = judged(usual, before, before, dates=(DATES[0], DATES[0]))
    assert (found.alarm, found.statistic, len(found.reasons)) == (False, 0.0, 2)


def test_a_lag_without_a_record_takes_the_nearest_and_says_so(usual: Baseline) -> None:
    before, after = pairs(9, 1)[0]
    found = judged(usual, before, after, dates=(DATES[0], date(2026, 3, 31)))
    assert "for 15 months after training: that of 3 months stands in" in found.reasons[-1]


def test_a_training_table_of_another_season_says_so(usual: Baseline) -> None:
    before, after = pairs(9, 1)[0]
    found = judged(usual, before, after, dates=(date(2025, 6, 30), date(2025, 9, 30)))
    assert (
        "The training table is of month 6, for which no baseline variation is on record" in found.reasons[-1]
    )


def test_a_table_is_judged_by_what_the_season_does_from_its_own_month_on() -> None:
    """A champion of another month's table would ring in every report if one month's record stood for all."""
    rng = np.random.default_rng(12)

    def season(before: pd.DataFrame, mood: str) -> pd.DataFrame:
        return before.assign(mood=before["mood"].where(rng.random(len(before)) < 0.8, mood))

    months = {12: "good", 3: "bad"}
    tables = {m: [shares(a, season(a, mood), KINDS) for a, _ in pairs(1, 30)] for m, mood in months.items()}
    seasonal = learn({(m, 3): of_month for m, of_month in tables.items()}, SIZE, source="two seasons")
    before, _ = pairs(13, 1)[0]
    march = (date(2025, 3, 31), date(2025, 6, 30))
    assert not judged(seasonal, before, season(before, "good")).alarm
    assert not judged(seasonal, before, season(before, "bad"), dates=march).alarm
    assert judged(seasonal, before, season(before, "good"), dates=march).alarm


def test_a_pair_is_judged_by_the_same_floor_as_a_report() -> None:
    """Without it the pairs' effects were the larger, so that the threshold was too high and rang too rarely."""
    with_floor, without = learned(12, 3, floor=0.05), learned(12, 3, floor=0.0)
    assert (with_floor.pairs < without.pairs).all(axis=None)
    before, after = pairs(9, 1)[0]
    tables = [shares(before, after, KINDS), *hundred()]
    [kept] = learn({(12, 3): tables}, SIZE, source="and one more", floor=0.05).pairs.head(1).to_numpy()
    found = judged(with_floor, before, after).effects["effect"]
    assert found[list(with_floor.pairs)].to_numpy() == pytest.approx(kept, abs=0.006)


def test_a_pair_is_judged_by_the_others_alone() -> None:
    """By a record of few pairs that holds itself, each would look more ordinary than it is."""
    few = pairs(21, 6)
    tables = [shares(before, after, KINDS) for before, after in few]
    kept = learn({(12, 3): tables}, SIZE, source="six", floor=0.0).pairs
    for at, (before, after) in enumerate(few):
        others = learn({(12, 3): tables[:at] + tables[at + 1 :]}, SIZE, source="five", floor=0.0)
        found = effects(shares(before, after, KINDS), (SIZE, SIZE), DATES, others, NONE_SEEN)
        assert found["effect"][list(kept)].to_numpy() == pytest.approx(kept.iloc[at].to_numpy(), abs=0.006)


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ((4, 3), (4, 3)),
        ((4, 9), (4, 6)),
        ((2, 6), (4, 6)),
        ((12, 6), (11, 1)),
        ((8, 2), (11, 1)),
        ((1, 1), (11, 1)),
    ],
)
def test_the_nearest_month_in_the_round_of_the_year_stands_in_then_the_nearest_lag(
    usual: Baseline, asked: tuple[int, int], taken: tuple[int, int]
) -> None:
    [pair] = usual.pairs.head(1).to_numpy()
    held = pd.MultiIndex.from_tuples([(4, 3), (4, 6), (11, 1)], names=["month", "lag"])
    some = replace(usual, pairs=pd.DataFrame([pair] * 3, index=held, columns=usual.pairs.columns))
    assert some.nearest(*asked) == taken


def test_an_input_without_a_record_is_judged_and_named(usual: Baseline) -> None:
    before, after = pairs(9, 1)[0]
    table = shares(before.assign(x=1.0), after.assign(x=2.0), {**KINDS, "x": "numeric"})
    found = judge(table, (SIZE, SIZE), DATES, usual, LIMITS)
    assert found.reasons[-1] == "Without a record, and so judged by own months alone: x."
    assert found.effects.index[0] == "x"
    assert judge(table.loc[["x"]], (SIZE, SIZE), DATES, usual, LIMITS).alarm


@pytest.mark.parametrize(
    ("later", "months"),
    [("2024-12-31", 0), ("2025-02-28", 2), ("2025-03-31", 3), ("2025-04-10", 3), ("2025-12-31", 12)],
)
def test_the_ends_of_months_are_whole_months_apart(later: str, months: int) -> None:
    assert months_between(date(2024, 12, 31), date.fromisoformat(later)) == months
    assert month_of(date.fromisoformat(later)) == (months or 12)


# Baseline variation


def test_baseline_variation_comes_back_from_its_folder_as_it_was(usual: Baseline, tmp_path: Path) -> None:
    usual.write(tmp_path)
    found = baseline.read(tmp_path)
    pd.testing.assert_frame_equal(found.moments, usual.moments, rtol=1e-6)
    pd.testing.assert_frame_equal(found.pairs, usual.pairs, rtol=1e-6, check_names=False)
    about = ("customers", "groups", "floor", "source", "starts")
    assert [getattr(found, name) for name in about] == [getattr(usual, name) for name in about]
    common = replace(usual, common=pd.Series({("price", "mark 3"): 0.25, ("dual", "= 1"): 0.0}))
    common.write(tmp_path)
    assert baseline.read(tmp_path).common.to_dict() == common.common.to_dict()


def test_a_folder_without_baseline_variation_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"drift.baseline names {tmp_path}"):
        baseline.read(tmp_path)


def test_a_record_of_an_earlier_version_is_refused_by_name(usual: Baseline, tmp_path: Path) -> None:
    replace(usual, pairs=usual.pairs.droplevel("month")).write(tmp_path)
    with pytest.raises(
        UsageError, match=r"moments.parquet, pairs.parquet and common.parquet of this version"
    ):
        baseline.read(tmp_path)


def test_two_pairs_are_too_few_to_learn_from() -> None:
    with pytest.raises(
        DataError, match="at least 3 pairs of tables 3 months apart from month 12 on, but got 2"
    ):
        learn({(12, 3): [shares(a, b, KINDS) for a, b in pairs(1, 2)]}, SIZE, source="two")


def test_what_is_shipped_knows_every_feature_from_each_month_on_for_a_year_and_the_policys_rate() -> None:
    shipped, features = baseline.read(baseline.SHIPPED), load_tiers().features()
    longest = pd.Series(dict(shipped.starts))
    assert sorted(longest.index) == list(range(1, 13))
    assert longest.min() >= 9
    assert len(shipped.starts) == longest.sum()
    assert shipped.floor == FLOOR
    assert sorted(shipped.pairs.columns) == sorted(features)
    assert set(shipped.moments.index.unique("feature")) == set(features)
    assert set(features) == set(shipped.common.index.unique("feature"))
    assert 3 < threshold(shipped, features, load_policy().drift.false_alarm_rate, 500) < 8
    assert sum(f.stat().st_size for f in baseline.SHIPPED.iterdir()) < 3_000_000


def test_windows_of_more_alarms_than_reports_are_refused() -> None:
    with pytest.raises(ValueError, match="4 of 3"):
        Windows(k=4, of=3)


# The page


SHOWN = {
    "version": "3",
    "dates": DATES,
    "customers": (SIZE, SIZE),
    "source": "made-up utilities",
    "rate": 0.01,
    "prediction": "Hardly.",
    "files": {"inputs": "drift-inputs.html"},
    "rows": "",
}


def test_the_page_escapes_what_comes_from_data(usual: Baseline) -> None:
    before, after = pairs(10, 1)[0]
    after.loc[after.index < 350, "channel"] = "<script>alert(1)</script>"
    divided = shares(before, after, KINDS)
    found = judge(divided, (SIZE, SIZE), DATES, usual, LIMITS)
    weighed = reports.weighed(found.effects, pd.Series({"channel": 0.5, "mood": 0.5}))
    weighed["words"] = "the value <script>"  # whichever part moved farthest
    told = replace(found, reasons=["<script>"])
    html = reports.html(told, weighed, reports.quality(divided, before, after, KINDS), SHOWN)
    assert html.count("&lt;script&gt;") >= 3  # a reason, a sentence, a new category
    assert "<script" not in html


def test_what_the_model_lives_on_comes_first_and_what_it_ignores_hardly_matters(usual: Baseline) -> None:
    before, after = pairs(11, 1)[0]
    after["dual"], after["channel"] = 1, "shop"
    found = judged(usual, before, after)
    weighed = reports.weighed(found.effects, pd.Series({"channel": 0.6, "price": 0.2}))
    assert weighed.index[0] == "channel"
    assert weighed.loc["channel", "weight"] == pytest.approx(0.75)
    assert weighed.loc["dual", "matters"] == 0
    html = reports.html(found, weighed, pd.DataFrame(), SHOWN)
    assert html.index("channel: ") < html.index("<td>channel</td>") < html.index("<td>dual</td>")
    assert 'href="drift-inputs.html"' in html


def test_the_page_lists_new_categories_and_missing_values_that_came() -> None:
    before, after = pairs(12, 1)[0]
    after.loc[:19, "channel"] = "stall"
    after.loc[:19, "tenure"] = np.nan
    found = reports.quality(shares(before, after, KINDS), before, after, KINDS).set_index("feature")
    assert found.loc["channel", "new"] == "stall (5.00%)"
    assert found.loc["tenure", ["before", "after"]].tolist() == [0.0, 0.05]


# Evidently's reports


def test_a_sample_holds_the_same_customers_whatever_their_order() -> None:
    frame = pd.DataFrame({"x": range(1000)}, index=[f"C{i:04d}" for i in range(1000)])
    found = reports.sampled(frame, 100)
    assert len(found) == 100
    assert set(reports.sampled(frame.sample(frac=1, random_state=1), 100).index) == set(found.index)
    assert reports.sampled(frame, 1000) is frame


@pytest.mark.slow
def test_reports_on_56_features_of_20_099_customers_take_less_than_a_minute_and_10_mb(tmp_path: Path) -> None:
    import time

    from spanishgas.config.experiment import load_experiment
    from tests.gold_frames import gold_frame

    tiers = load_tiers()
    kinds = {f: tiers.kind(f) for f in load_experiment("E5").features(tiers, linear=False)}
    assert len(kinds) == 56
    before, after = (gold_frame(20_099, seed=seed) for seed in (1, 2))
    began = time.process_time()  # a busy machine is no slow report
    for report in (reports.compare(before, after, kinds, 0.1), reports.summarise(before, after, kinds)):
        report.save_html(str(tmp_path / "full.html"))
        assert (tmp_path / "full.html").stat().st_size < 10_000_000
    assert time.process_time() - began < 60
