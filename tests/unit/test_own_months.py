"""The alarm in utilities that nobody recorded: what befalls all their customers alike is learned from their own months.

The worlds are drawn here and judge only: no record, limit or constant of the project was made on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from spanishgas.config.policy import DriftLimits
from spanishgas.monitoring.alarm import AlarmJudgement, judge
from spanishgas.monitoring.baseline import Baseline
from spanishgas.monitoring.own_months import MONTHS, OwnMonths, described
from spanishgas.monitoring.parts import shares

INPUTS = 6
KINDS = {f"x{at}": "numeric" for at in range(INPUTS)} | {"dual": "flag", "channel": "category"}
LIMITS = DriftLimits(false_alarm_rate=0.01, min_effect=0.1)
NOWHERE = pd.MultiIndex.from_arrays([[], [], [], []], names=["month", "lag", "feature", "bin"])
UNRECORDED = Baseline(
    moments=pd.DataFrame({"expected": [], "spread": []}, index=NOWHERE, dtype="float64"),
    pairs=pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["month", "lag"])),
    customers=1_000,
    groups=50,
    floor=0.002,
    source="nobody",
)
Levels = Callable[[np.random.Generator, np.ndarray, int], np.ndarray]


def month_end(at: int) -> date:
    year, month = divmod(2023 * 12 + at + 1, 12)
    return date(year, month + 1, 1) - timedelta(days=1)


def _season(rng: np.random.Generator, sd: np.ndarray, months: int) -> np.ndarray:
    phase = rng.uniform(0, 2 * np.pi, INPUTS)
    return 2 * sd * np.sin(2 * np.pi * np.arange(months)[:, None] / 12 + phase)


WORLDS: dict[str, Levels] = {
    "nothing": lambda _rng, sd, months: np.zeros((months, len(sd))),
    "a draw a month": lambda rng, sd, months: sd * rng.normal(size=(months, INPUTS)),
    "one draw for all inputs": lambda rng, sd, months: sd * rng.normal(size=(months, 1)),
    "heavy tails": lambda rng, sd, months: sd * rng.standard_t(4, (months, INPUTS)) / 2**0.5,
    "a random walk": lambda rng, sd, months: sd * rng.normal(size=(months, INPUTS)).cumsum(axis=0),
    "a season": _season,
    "ageing": lambda rng, sd, months: (
        sd * (np.arange(months)[:, None] / 2 + rng.normal(size=(months, INPUTS)) / 5)
    ),
}
"""How the level of each input moves for all customers, in standard deviations between customers."""


def tables(world: str, rng: np.random.Generator, months: int, customers: int) -> list[pd.DataFrame]:
    """A utility's months: customers stay, change a little and are replaced, and the world moves all of them."""
    own, history = rng.normal(size=(customers, INPUTS)), []
    for level in WORLDS[world](rng, rng.uniform(0.02, 0.15, INPUTS), months):
        left = rng.random(customers) < 0.015
        own[left] = rng.normal(size=(left.sum(), INPUTS))
        own += 0.05 * rng.normal(size=own.shape)
        x = own + level
        channel = np.array(["shop", "phone", "web"], dtype=object)[np.digitize(x[:, 1], [-0.5, 0.8])]
        history.append(
            pd.DataFrame(
                {f"x{at}": x[:, at] for at in range(INPUTS)} | {"dual": x[:, 0] > 1, "channel": channel}
            )
        )
    return history


def judged(history: list[pd.DataFrame], now: pd.DataFrame, baseline: Baseline = UNRECORDED) -> AlarmJudgement:
    """`now` against the middle month of a history that ended the month before."""
    middle, rows = (
        len(history) // 2,
        [shares(history[len(history) // 2], month, KINDS)["after"] for month in history],
    )
    own = OwnMonths(pd.DataFrame(rows, index=[month_end(at) for at in range(len(history))]).fillna(0.0))
    dates = month_end(middle), month_end(len(history))
    return judge(
        shares(history[middle], now, KINDS), (len(history[middle]), len(now)), dates, baseline, LIMITS, own
    )


def rung(world: str, repeats: int, customers: int, months: int = MONTHS) -> int:
    rng, alarms = np.random.default_rng([len(world), customers]), 0
    for _ in range(repeats):
        *history, now = tables(world, rng, months + 1, customers)
        alarms += judged(history, now).alarm
    return alarms


@pytest.mark.slow
@pytest.mark.parametrize("customers", [400, 4_000])
@pytest.mark.parametrize("world", WORLDS)
def test_after_a_year_of_own_months_no_world_rings_more_often_than_the_policy_says(
    world: str, customers: int
) -> None:
    """Divided at random, one history said nothing of such shocks: with 10,000 customers every report rang."""
    repeats = 200
    assert rung(world, repeats, customers) <= binom.ppf(0.975, repeats, LIMITS.false_alarm_rate)


@pytest.mark.parametrize("world", ["a draw a month", "a season"])
def test_a_shock_as_large_as_those_of_the_months_before_rings_no_alarm(world: str) -> None:
    assert rung(world, 5, 400) == 0


def test_what_rings_in_a_quiet_utility_is_ordinary_where_months_always_differ_so_much() -> None:
    rng = np.random.default_rng(3)
    quiet, restless = (tables(world, rng, MONTHS + 1, 1_000) for world in ("nothing", "a draw a month"))
    shock = {"x2": 0.2}
    assert judged(quiet[:-1], quiet[-1].assign(x2=quiet[-1]["x2"] + shock["x2"])).alarm
    assert not judged(restless[:-1], restless[-1].assign(x2=restless[-1]["x2"] + shock["x2"] / 4)).alarm


def test_the_first_reason_says_how_many_months_were_seen_until_there_are_enough() -> None:
    *history, now = tables("nothing", np.random.default_rng(4), MONTHS + 1, 400)
    young, grown = judged(history[-3:], now), judged(history, now)
    assert young.reasons[0].startswith("Not calibrated for this utility yet: 3 of 12 months seen.")
    assert (young.calibrated, grown.calibrated) == (False, True)
    assert "Not calibrated" not in " ".join(grown.reasons)


def test_before_own_months_the_bound_of_the_record_holds_back_what_common_shocks_do() -> None:
    before, now = tables("nothing", np.random.default_rng(5), 2, 1_000)
    risen = now.assign(x2=now["x2"] + 0.6)
    bounded = replace(UNRECORDED, common=pd.Series(0.2, index=shares(before, now, KINDS).index))
    assert judged([before], risen).alarm
    assert not judged([before], risen, bounded).alarm


def test_an_alarm_says_whether_it_holds_over_a_year_of_reports() -> None:
    *history, now = tables("nothing", np.random.default_rng(6), MONTHS + 1, 1_000)
    reasons = judged(history, now.assign(channel="web")).reasons
    assert any(
        "Counting 12 monthly reports a year, the alarm holds at the same rate" in line for line in reasons
    )


def test_the_table_for_people_names_the_restless_input_first() -> None:
    rng = np.random.default_rng(7)
    history = [
        table.assign(x4=table["x4"] + 0.4 * rng.normal()) for table in tables("nothing", rng, MONTHS, 1_000)
    ]
    rows = [shares(history[0], month, KINDS)["after"] for month in history]
    own = OwnMonths(pd.DataFrame(rows, index=[month_end(at) for at in range(MONTHS)]).fillna(0.0))
    table = described(own, UNRECORDED, 1_000)
    assert table["input"].iloc[0] == "x4"
    assert (table["measured"] <= table["all alike"]).all()


def flat(moves: list[float]) -> OwnMonths:
    """One part whose share is at a half and moves so each month."""
    part = pd.MultiIndex.from_tuples([("x", "= 1")], names=["feature", "bin"])
    shares_of_part = 0.5 + np.cumsum([0.0, *moves])
    index = [month_end(at) for at in range(len(shares_of_part))]
    return OwnMonths(pd.DataFrame(shares_of_part[:, None], columns=part, index=index))


def test_the_variance_of_neighbouring_months_grows_with_the_lag() -> None:
    own = flat([0.01, -0.01] * 6)
    one, six = (own.variation(UNRECORDED, own.shares.columns, 1_000, lag)["own"].iloc[0] for lag in (1, 6))
    assert six / one == pytest.approx(6 * (1 + 6 / 12) / (1 + 1 / 12))


def test_the_bound_of_the_record_fades_with_own_months() -> None:
    part = flat([0.0]).shares.columns
    bounded = replace(UNRECORDED, common=pd.Series(0.2, index=part))
    bounds = [
        flat([0.0] * moves).variation(bounded, part, 1_000, 3)["variance"].iloc[0] for moves in (1, 6, 12)
    ]
    assert bounds == pytest.approx([0.04, 0.02, 0.0])


def test_a_deviation_of_few_months_counts_for_less_than_one_of_many() -> None:
    table = pd.DataFrame({"before": [0.5], "after": [0.9], "words": ["x"]}, index=flat([]).shares.columns)
    customers, counted = (10**7, 10**7), []
    for half in (6, 60):
        own = flat([0.01, -0.01] * half)
        variance = own.variation(UNRECORDED, table.index, 10**7, 12)["variance"].iloc[0]
        effect = judge(table, customers, (month_end(0), month_end(12)), UNRECORDED, LIMITS, own).statistic
        counted.append(effect / (0.4 / variance**0.5))
    assert counted[0] < 0.6 < 0.8 < counted[1]
