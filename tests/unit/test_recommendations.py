"""What is recommended: within budget, never at a loss, in words, with an interval that holds and a control share."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import LinearConstraint, milp

from spanishgas.config.policy import Control, Offers, Policy, load_policy
from spanishgas.config.search import LOGISTIC, XGBOOST, families
from spanishgas.evaluation.budget import within_budget
from spanishgas.evaluation.value import NO_OFFER, option_values
from spanishgas.features import load_tiers
from spanishgas.lake import Lake
from spanishgas.lifecycle.version import TrainingTable
from spanishgas.scoring.campaign import campaign_value, page, scaled
from spanishgas.scoring.reasons import GENERIC, NOTHING_RAISES, phrase, reason_codes, reasons
from spanishgas.scoring.recommend import (
    Calibration,
    LearnedEffects,
    at_risk,
    choose,
    explained,
    recommendations,
    timing,
)
from spanishgas.scoring.score import expected_loss
from spanishgas.training.model import TIER, risk_tier
from spanishgas.training.sides import in_holdout
from tests.churn_models import churn_model, odd_gold
from tests.gold_frames import gold_frame, publish_gold

DAY = date(2024, 12, 31)
OFFERS = load_policy().offers
NONE_KNOWN = Calibration(np.empty(0), np.empty(0, dtype="int64"))


def offered(frame: pd.DataFrame, gold: pd.DataFrame, given: Policy) -> pd.DataFrame:
    """What a policy's offers and tiers choose."""
    beside = gold[["customer_id", "segment", "avg_monthly_margin", "months_to_renewal"]]
    return choose(frame.merge(beside, on="customer_id"), given.offers, at_risk(frame, given.risk_tiers))


def policy(**offers: object) -> Policy:
    return load_policy().model_copy(update={"offers": OFFERS.model_copy(update=offers)})


def scored(rows: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    gold = gold_frame(rows, seed, labelled=False)
    p = np.random.default_rng(seed + 1).random(rows)
    frame = pd.DataFrame({"customer_id": gold["customer_id"], "churn_probability": p})
    frame[TIER] = risk_tier(p, load_policy().risk_tiers)
    frame["expected_monthly_loss"] = p * gold["avg_monthly_margin"].clip(lower=0)
    return frame.assign(model_version="1", as_of=DAY), gold


# --- by learned effects


def fifths(low: float, high: float) -> pd.DataFrame:
    middle = np.linspace(-0.2, 0.2, 5)
    return pd.DataFrame({"predicted": middle, "low": middle + low, "high": middle + high})


def by_effects(share: float) -> tuple[pd.DataFrame, pd.DataFrame, LearnedEffects]:
    """A campaign of a world in which offers keep `share` of the customers, drawn by a coin, and drive the rest away."""
    frame, gold = scored(600)
    effect = np.where(np.random.default_rng(3).random(len(gold)) < share, -0.3, 0.2)
    learned = LearnedEffects({"offer_large": effect}, {"offer_large": fifths(-0.05, 0.05)})
    beside = gold[["customer_id", "segment", "avg_monthly_margin", "months_to_renewal"]]
    given = policy(explore=0.0, control=Control(share=0.0, salt="x")).offers
    risky = at_risk(frame, load_policy().risk_tiers)
    customers = frame.merge(beside, on="customer_id")
    return choose(customers, given, risky), choose(customers, given, risky, learned), learned


def test_learned_effects_reach_only_those_whom_offers_keep_for_no_more_money() -> None:
    by_risk, chosen, learned = by_effects(0.5)
    kept = learned.effects["offer_large"] < 0
    made = chosen["offer"].eq("offer_large")
    assert set(chosen["offer"]) == {NO_OFFER, "offer_large"}  # of the others nothing was learned
    assert made.any()
    assert not made[~kept].any()
    assert not made[chosen[TIER].eq("Low")].any()
    assert chosen["offer_cost"].sum() <= by_risk["offer_cost"].sum()
    assert (chosen["avg_monthly_margin"][made] > 0).all()


def test_learned_effects_spend_no_more_where_an_offer_would_keep_everybody() -> None:
    by_risk, chosen, _ = by_effects(1.0)
    open_to = chosen[TIER].ne("Low") & chosen["avg_monthly_margin"].gt(0)
    assert 0 < chosen["offer_cost"].sum() <= by_risk["offer_cost"].sum() < 40 * open_to.sum()


def test_what_an_offer_is_expected_to_change_is_told_with_the_interval_of_customers_alike() -> None:
    _, chosen, _ = by_effects(0.5)
    made = chosen["offer"].eq("offer_large")
    assert chosen["expected_effect"][made].unique().tolist() == [0.3]
    assert chosen["effect_low"][made].unique() == pytest.approx(
        [0.15]
    )  # the nearest fifth is the highest, 0.2
    assert chosen["effect_high"][made].unique() == pytest.approx([0.25])
    assert chosen["expected_effect"][~made].isna().all()
    protected = chosen["avg_monthly_margin"][made] * OFFERS.horizon_months
    worth = 0.3 * protected - OFFERS.menu["offer_large"].expected_cost
    assert chosen["expected_margin_impact"][made].to_numpy() == pytest.approx(worth.to_numpy())


def test_who_would_be_driven_away_is_said_to_be_better_left_alone() -> None:
    by_risk, chosen, _ = by_effects(0.0)
    assert chosen["offer"].eq(NO_OFFER).all()
    alone = chosen["better_left_alone"]
    assert alone.any()
    assert not alone[chosen[TIER].eq("Low")].any()
    assert alone[by_risk["offer"].eq("offer_large")].all()
    assert not set(by_risk) & {"expected_effect", "better_left_alone"}  # the risk rule measures nothing


# --- the budget


def best_possible(values: np.ndarray, costs: np.ndarray, budget: float) -> float:
    """The exact optimum, by mixed-integer programming."""
    options, customers = values.shape
    allowed = np.isfinite(values)
    gain = np.where(allowed, values, 0.0).ravel()
    one_each = np.kron(np.ones(options), np.eye(customers))
    spent = np.repeat(costs, customers)
    done = milp(
        -gain,
        integrality=np.ones(gain.size),
        bounds=(0, allowed.ravel().astype(float)),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(spent[None, :], 0, budget)],
    )
    assert done.success
    return float(-done.fun)


@pytest.mark.parametrize("seed", range(30))
def test_a_budget_is_kept_and_misses_the_optimum_by_less_than_one_offer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    customers = int(rng.integers(1, 9))
    if seed % 2:  # any menu at all
        costs = np.r_[0.0, np.sort(rng.integers(1, 60, 3)).astype(float)]
        values = np.vstack([np.zeros(customers), rng.normal(5, 10, (3, customers))])
        values[1:][rng.random((3, customers)) < 0.2] = -np.inf
    else:
        costs = np.array([0.0, *(o.cost_eur for o in OFFERS.menu.values())])
        values = option_values(rng.random(customers), rng.normal(8, 8, customers), OFFERS)
    budget = float(rng.integers(0, 150))
    option = within_budget(values, costs, budget)
    reached = values[option, np.arange(customers)].sum()
    best = best_possible(values, costs, budget)
    assert costs[option].sum() <= budget
    assert best - max(0.0, values[np.isfinite(values)].max()) <= reached + 1e-9
    assert reached <= best + 1e-9
    assert (values[option, np.arange(customers)] >= 0).all()


def test_without_a_budget_everybody_gets_what_pays_most() -> None:
    values = option_values(np.array([0.9, 0.9, 0.01]), np.array([20.0, -5.0, 20.0]), OFFERS)
    costs = np.array([0.0, 10.0, 20.0, 40.0])
    assert within_budget(values, costs, None).tolist() == values.argmax(axis=0).tolist() == [3, 0, 0]
    assert within_budget(values, costs, 1e9).tolist() == [3, 0, 0]
    assert within_budget(values, costs, 0.0).tolist() == [0, 0, 0]


# --- the table


def test_guardrails_hold_for_every_customer() -> None:
    frame, gold = scored(500)
    chosen = offered(frame, gold, policy(total_budget_eur=900.0))
    table = recommendations(chosen, NONE_KNOWN, [["because"]] * 500)
    made = (table["action"] != NO_OFFER).to_numpy()
    margin = gold["avg_monthly_margin"].to_numpy()
    assert 0 < made.sum() < 500
    assert not made[margin <= 0].any()
    assert not made[frame[TIER] == "Low"].any()
    assert (table.loc[made, "expected_margin_impact"] > 0).all()
    assert (table.loc[~made, ["offer_budget", "expected_margin_impact"]] == 0).all(axis=None)
    assert 0 < table["offer_budget"].sum() <= 900


def test_the_lowest_tier_gets_no_offer_even_where_one_would_pay() -> None:
    frame, gold = scored(500)
    low = frame[TIER].eq("Low").to_numpy()
    values = option_values(
        frame["churn_probability"].to_numpy(), gold["avg_monthly_margin"].to_numpy(), OFFERS
    )
    assert (values[1:, low].max(axis=0) > 0).sum() > 5
    assert (offered(frame, gold, policy(total_budget_eur=None))["offer"][low] == NO_OFFER).all()


def test_the_control_share_is_drawn_by_chance_from_those_an_offer_was_chosen_for() -> None:
    frame, gold = scored(6000)
    chosen = offered(frame, gold, policy(control=Control(share=0.2, salt="x")))
    log, table = chosen[chosen["arm"].notna()], recommendations(chosen, NONE_KNOWN, [["because"]] * 6000)
    control = log["arm"] == "control"
    expected = 0.2 * len(log)
    assert abs(control.sum() - expected) < 4 * np.sqrt(expected * 0.8)
    risk = log["risk_score"]
    apart = risk[control].mean() - risk[~control].mean()
    assert abs(apart) < 4 * risk.std() * np.sqrt(1 / control.sum() + 1 / (~control).sum())
    given = table.set_index("customer_id")["action"]
    assert (given.loc[log["customer_id"][control]] == NO_OFFER).all()
    assert given.loc[log["customer_id"][~control]].tolist() == log["offer"][~control].tolist()
    assert set(given.index[given != NO_OFFER]) == set(log["customer_id"][~control])


def test_the_same_campaign_draws_the_same_controls_and_a_later_one_others() -> None:
    frame, gold = scored(2000)
    drawn = policy(control=Control(share=0.5, salt="x"))
    first = offered(frame, gold, drawn)["arm"].tolist()
    assert offered(frame, gold, drawn)["arm"].tolist() == first
    assert offered(frame.assign(as_of=date(2025, 3, 31)), gold, drawn)["arm"].tolist() != first


# --- reasons

WORDS = {name: load_tiers().words(name) for name in load_tiers().features()}


def test_a_renewal_on_the_last_day_of_a_window_is_within_it() -> None:
    offers = OFFERS.model_copy(update={"timing_days": {"now": 30, "soon": 90, "later": 180}})
    months = pd.Series([-2.0, np.nan, 0.0, 1.0, 1.01, 3.0, 6.0, 40.0])
    assert timing(months, offers) == ["now", "now", "now", "now", "soon", "soon", "later", "later"]


def test_the_expected_loss_is_what_the_customer_brings_and_never_a_gain() -> None:
    margin = pd.Series([10.0, -10.0, np.nan])
    assert expected_loss(pd.Series([0.5] * 3), margin).tolist() == [5.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        ("months_to_renewal", 41 / 30, "renewal in 41 days"),
        ("months_to_renewal", -0.5, "contract expired 15 days ago"),
        ("months_to_renewal", np.nan, "renewal date not known"),
        ("complaint_near_renewal", 1, "complaint near renewal"),
        ("sentiment_label", "negative", "last contact was negative"),
        ("sentiment_label", None, "no contact on record"),
        ("elec_price_trend_12m", 0.124, "electricity price up 12 % in twelve months"),
        ("is_second_residence", 0, "does not apply: second residence"),
        ("is_price_sensitive", 1, "asked about prices"),
        ("renewal_bucket", "0-3m", "renewal in 0-3 months"),
        ("intent_x_renewal_bucket", "none_x_3-6m", "subject of contact and time to renewal: none and 3-6m"),
        ("std_margin", 3.14159, "swings in margin: 3.142"),
    ],
)
def test_a_fact_is_told_as_an_agent_would(feature: str, value: object, words: str) -> None:
    assert phrase(feature, value, WORDS[feature]) == words


def test_every_feature_has_words_for_every_value_it_can_have() -> None:
    frame = odd_gold(100)
    for name in load_tiers().features():
        told = [phrase(name, value, WORDS[name]) for value in frame[name].astype(object)]
        assert all(told)
        assert not any(re.search(r"\bnan\b|None|_x_", text) for text in told), name


def test_facts_that_say_the_same_are_told_once_and_weigh_together() -> None:
    added = {"months_to_renewal": 0.5, "renewal_bucket": 0.4, "std_margin": 0.6, "tenure_months": -9.0}
    customer = {"months_to_renewal": 1.0, "renewal_bucket": "0-3m", "std_margin": 2.0, "tenure_months": 5.0}
    assert reason_codes(added, customer, WORDS) == ["renewal in 30 days", "swings in margin: 2"]


def test_where_nothing_raises_the_risk_that_is_said() -> None:
    assert reason_codes({"std_margin": -1.0}, {"std_margin": 2.0}, WORDS) == [NOTHING_RAISES]


@pytest.mark.parametrize("kind", families())
def test_every_customer_has_one_to_three_reasons(kind: str) -> None:
    found = reasons(churn_model(kind), odd_gold(50), WORDS)
    assert len(found) == 50
    assert all(1 <= len(why) <= 3 and all(why) for why in found)


def test_each_customer_from_medium_up_has_their_own_reasons_and_the_others_the_generic_one(
    tmp_path: Path,
) -> None:
    model, frame = churn_model(XGBOOST), odd_gold(60)
    gold = publish_gold(Lake(tmp_path), frame, DAY)
    order = np.random.default_rng(2).permutation(60)
    table = pd.DataFrame(
        {"customer_id": frame["customer_id"], TIER: np.where(np.arange(60) % 3 == 0, "Low", "High")}
    )
    asked = table.iloc[order].reset_index(drop=True)
    found = explained(model, gold, asked, at_risk(asked, load_policy().risk_tiers), WORDS)
    own = reasons(model, frame, WORDS)
    assert found == [[GENERIC] if i % 3 == 0 else own[i] for i in order]
    nobody = np.zeros(60, dtype=bool)
    assert explained(model, gold, table, nobody, WORDS) == [[GENERIC]] * 60


# --- intervals


def test_venn_abers_intervals_hold_what_happens_even_where_the_model_is_wrong() -> None:
    rng = np.random.default_rng(11)
    truth = rng.beta(0.8, 4, 42_000)
    happened = (rng.random(42_000) < truth).astype("int64")
    claimed = truth**3  # in the right order, but far too low
    low, high = Calibration(claimed[:2000], happened[:2000]).intervals(pd.Series(claimed[2000:]))
    y, p = happened[2000:], claimed[2000:]
    assert (low <= high).all()
    assert (high - low).mean() < 0.05
    for part in np.array_split(np.argsort(p), 10):
        error = 4 * np.sqrt(y[part].mean() * (1 - y[part].mean()) / len(part)) + 0.035
        assert low[part].mean() - error <= y[part].mean() <= high[part].mean() + error
    top = np.argsort(p)[-4000:]
    assert y[top].mean() > p[top].mean() + 0.1  # the model itself is far off where the interval is not


def test_the_held_out_customers_of_the_models_own_table_calibrate_and_nobody_else(tmp_path: Path) -> None:
    gold, model, holdout = gold_frame(300), churn_model(LOGISTIC), load_policy().holdout
    gold.loc[::7, "churn"] = pd.NA
    found = Calibration.of(model, TrainingTable(publish_gold(Lake(tmp_path), gold, DAY), holdout))
    rows = gold[in_holdout(gold["customer_id"], holdout) & gold["churn"].notna()]
    assert found.labels.tolist() == rows["churn"].tolist()
    assert found.scores == pytest.approx(model.predict_proba(rows)[:, 1])


def test_fewer_known_customers_give_wider_intervals() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(3000)
    y = (rng.random(3000) < p).astype("int64")
    asked = pd.Series(np.linspace(0.05, 0.95, 50))
    few, many = (np.subtract(*Calibration(p[:n], y[:n]).intervals(asked)[::-1]).mean() for n in (30, 3000))
    assert few > 3 * many


def test_nobody_to_calibrate_on_leaves_everything_possible() -> None:
    low, high = NONE_KNOWN.intervals(pd.Series([0.2, 0.9]))
    assert (low.tolist(), high.tolist()) == ([0, 0], [1, 1])


# --- the campaign on one page


def numbers_of(html: str, row: str) -> list[float]:
    (found,) = re.findall(rf"<tr>\s*<td>{re.escape(row)}</td>(.*?)</tr>", html, re.S)
    return [float(cell.replace(",", "").rstrip("%")) for cell in re.findall(r"<td>(.*?)</td>", found)]


def test_the_page_compares_the_campaign_with_the_other_ways() -> None:
    frame, gold = scored(800)
    given = policy(control=Control(share=0.0, salt=""))
    chosen = offered(frame, gold, given)
    table = recommendations(chosen, NONE_KNOWN, [["because"]] * 800)
    margin = gold["avg_monthly_margin"]
    told = {"probability": frame["churn_probability"], "margin": margin, "tier": frame[TIER]}
    html = page(pd.DataFrame(told).assign(action=table["action"]), given.offers, DAY)
    count, cost, value = numbers_of(html, "these recommendations")
    assert count == (table["action"] != NO_OFFER).sum()
    assert cost == pytest.approx(table["offer_budget"].sum(), abs=1)
    assert value == pytest.approx(table["expected_margin_impact"].sum(), abs=1)
    assert numbers_of(html, "nobody") == [0, 0, 0]
    everyone, rule = (
        numbers_of(html, row) for row in ("an offer to everyone", "the tier rule of the replaced system")
    )
    assert everyone[0] == 800
    assert value > max(everyone[2], rule[2])
    for name in ("uplift", "acceptance"):
        less, as_assumed, more = numbers_of(html, name)
        assert less < as_assumed == value < more
    less, as_assumed, more = numbers_of(html, "cost of an offer")
    assert less > as_assumed == value > more
    assert gold["customer_id"].iloc[0] not in html


def test_sensitivity_is_the_same_offers_under_other_assumptions() -> None:
    frame, gold = scored(300)
    p, margin = frame["churn_probability"].to_numpy(), gold["avg_monthly_margin"].to_numpy()
    action = offered(frame, gold, policy(control=Control(share=0.0, salt="")))["offer"].to_numpy()

    def value(offers: Offers) -> float:
        return campaign_value(p, margin, action, offers)

    assert value(scaled(OFFERS, "acceptance", 0.5)) == pytest.approx(value(OFFERS) / 2)
    assert value(scaled(OFFERS, "uplift", 0.5)) < value(OFFERS) < value(scaled(OFFERS, "cost_eur", 0.5))
    assert scaled(OFFERS, "uplift", 99).menu["offer_large"].uplift == 1
