"""Campaigns as experiments: the draw that a policy declares, what is pooled of it, and what may be read out of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError
from scipy.stats import binom
from typer.testing import CliRunner

from benchmarks import offers as bench
from spanishgas import power
from spanishgas.cli import app
from spanishgas.config.policy import ACTIONS, Control, Offers, load_policy
from spanishgas.contracts import contract
from spanishgas.errors import DataError, UsageError
from spanishgas.evaluation.effects import ALL, PROPENSITIES, average_effects, balance, comparable, worth
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.lake import Lake
from spanishgas.monitoring.campaigns import COLUMNS, Campaigns, OfferEffects, campaigns, faults, pooled
from spanishgas.power import required
from spanishgas.rendering import paragraphs
from spanishgas.scoring.design import assign
from spanishgas.scoring.recommend import at_risk, choose
from spanishgas.training.model import PROBABILITY, TIER, risk_tier
from tests.dashboard_lake import publish
from tests.gold_frames import gold_frame, publish_gold

DAY = date(2025, 3, 31)
POLICY = load_policy()
OFFERS = POLICY.offers
COSTS = np.array([0.0, *(offer.cost_eur for offer in OFFERS.menu.values())])


def designed(share: float = 0.1, minimum: int = 0, **offers: object) -> Offers:
    control = Control(share=share, minimum=minimum, salt="x")
    return OFFERS.model_copy(update={"control": control} | offers)


def people(rows: int, seed: int = 0, day: date = DAY) -> pd.DataFrame:
    """Scored customers as `choose` takes them."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1.2, 1.0, rows)
    frame = pd.DataFrame({"customer_id": [f"C{i:05d}" for i in range(rows)], PROBABILITY: p, "as_of": day})
    frame[TIER] = risk_tier(p, POLICY.risk_tiers)
    return frame.assign(
        segment=rng.choice(np.array(["Residential", "SME"], dtype=object), rows, p=[0.8, 0.2]),
        avg_monthly_margin=rng.normal(9, 5, rows),
        months_to_renewal=1.0,
        model_version="1",
    )


def chosen_of(frame: pd.DataFrame, offers: Offers) -> pd.DataFrame:
    """What the policy's tiers and these offers choose."""
    return choose(frame, offers, at_risk(frame, POLICY.risk_tiers))


def log_of(offers: Offers, rows: int = 6000, seed: int = 0, day: date = DAY) -> pd.DataFrame:
    chosen = chosen_of(people(rows, seed, day), offers)
    return chosen[chosen["arm"].notna()].reset_index(drop=True)


def labelled(log: pd.DataFrame, seed: int, effect: float = 0.3) -> pd.DataFrame:
    """The log as pooled rows; every offer keeps a share `effect` of those who would leave."""
    made = log["arm"].eq("offer")
    p = log["risk_score"] * (1 - effect * made)
    return log.rename(columns={"avg_monthly_margin": "margin"}).assign(
        treatment=log["offer"].where(made, NO_OFFER),
        churn=(np.random.default_rng(seed).random(len(log)) < p).astype("int64"),
        label_date=None,
        in_training=False,
    )


# --- the draw


def test_without_exploration_the_draw_is_a_control_share_and_its_probabilities_say_so() -> None:
    log = log_of(designed(0.2))
    control = log["arm"].eq("control")
    assert abs(control.sum() - 0.2 * len(log)) < 4 * np.sqrt(0.16 * len(log))
    assert (log["control_share"] == 0.2).all()
    assert (log["propensity_no_offer"] == 0.2).all()
    assert log["propensity"].to_numpy() == pytest.approx(np.where(control, 0.2, 0.8))
    assert (log["offer"] != NO_OFFER).all()


def test_each_option_is_met_as_often_as_its_probability_says() -> None:
    offers = designed(0.15, explore=0.3, strata=["risk_tier", "segment"], minimum=120)
    shares, met = np.zeros(len(ACTIONS)), np.zeros(len(ACTIONS))
    variance = np.zeros(len(ACTIONS))
    for repeat in range(25):
        log = log_of(offers, 2000, seed=repeat, day=DAY + timedelta(repeat))
        chances = log[PROPENSITIES].to_numpy()
        made = log["offer"].where(log["arm"].eq("offer"), NO_OFFER)
        assert chances.sum(axis=1) == pytest.approx(1)
        assert log["propensity"].to_numpy() == pytest.approx(
            chances[np.arange(len(log)), [ACTIONS.index(name) for name in made]]
        )
        shares += chances.sum(axis=0)
        met += [made.eq(name).sum() for name in ACTIONS]
        variance += (chances * (1 - chances)).sum(axis=0)
    assert (np.abs(met - shares) < 4 * np.sqrt(variance)).all()


def test_every_offer_open_to_a_customer_has_a_chance_where_the_policy_explores() -> None:
    frame = people(3000)
    chosen = chosen_of(frame, designed(0.1, explore=0.2))
    risky, margin = frame[TIER].ne("Low").to_numpy(), frame["avg_monthly_margin"].to_numpy()
    for name, offer in OFFERS.menu.items():
        open_to = risky & (margin > 0) & (offer.cost_eur <= 0.5 * OFFERS.horizon_months * margin)
        assert (chosen.loc[open_to, f"propensity_{name}"] >= 0.2 / 3 - 1e-12).all()
        assert (chosen.loc[~open_to, f"propensity_{name}"] == 0).all()
    assert (chosen.loc[chosen["arm"].isna(), "propensity_no_offer"] == 1).all()
    unchosen = chosen[chosen["arm"].eq("control") & chosen["offer"].eq(NO_OFFER)]
    assert (unchosen["propensity_no_offer"] == 0.8).all()


def test_a_stratum_with_too_few_controls_gets_its_minimum_and_never_more_than_half() -> None:
    log = log_of(designed(0.05, minimum=60, strata=["risk_tier", "segment"]))
    counts = log.groupby("stratum")["arm"].agg(["size", lambda arm: arm.eq("control").sum()])
    assert len(counts) == 6
    for size, controls in counts.to_numpy():
        assert controls >= min(60, size // 2)
    small = log_of(designed(0.05, minimum=60, strata=["risk_tier"]), rows=100)
    assert (small.groupby("stratum")["arm"].agg(lambda arm: arm.eq("offer").mean()) >= 0.5).all()


def test_the_probability_of_a_control_is_the_share_of_draws_in_which_it_is_one() -> None:
    offers, often = designed(0.1, minimum=12, strata=[]), np.zeros(60)
    values = np.vstack([np.zeros(60), np.ones((3, 60))])
    for repeat in range(200):
        frame = people(60, day=DAY + timedelta(repeat))
        drawn = assign(values, COSTS, frame, np.full(60, "all", dtype=object), offers)
        often += drawn.made == 0
        stated = drawn.propensities[0]
    exact = np.maximum(np.arange(61), 12) @ binom.pmf(np.arange(61), 60, 0.1) / 60
    assert stated == pytest.approx(exact)
    assert abs(often.mean() / 200 - exact) < 4 * np.sqrt(exact * (1 - exact) / (200 * 60))


def test_money_that_controls_leave_is_spent_on_others_within_the_budget() -> None:
    spent, customers = dict[float, float](), dict[float, int]()
    for share in (0.0, 0.5):
        log = log_of(designed(share, total_budget_eur=8_000.0))
        made = log["arm"].eq("offer")
        spent[share], customers[share] = float(log["offer_cost"][made].sum()), len(log)
    assert 7_960 <= spent[0.5] <= 8_000
    assert 7_960 <= spent[0.0] <= 8_000
    assert customers[0.5] > 1.6 * customers[0.0]
    tried = log_of(designed(0.2, total_budget_eur=8_000.0, explore=0.05))
    assert tried["offer_cost"][tried["arm"].eq("offer")].sum() <= 8_000


def test_exploration_that_the_budget_does_not_bear_is_refused() -> None:
    with pytest.raises(UsageError, match=r"offers.explore 0.3 tries out .*total_budget_eur 500: lower"):
        log_of(designed(0.1, total_budget_eur=500.0, explore=0.3))


def test_the_same_date_draws_the_same_campaign_and_another_one_another() -> None:
    offers = designed(0.3, explore=0.2)
    first, again, later = (log_of(offers, day=day) for day in (DAY, DAY, DAY + timedelta(30)))
    pd.testing.assert_frame_equal(first, again)
    assert not first["arm"].equals(later["arm"])
    assert first["propensity_no_offer"].equals(later["propensity_no_offer"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"explore": 1.0}, "explore"),
        ({"strata": ["risk_tier", "risk_tier"]}, "risk_tier twice"),
        ({"strata": ["postcode"]}, "strata"),
        ({"control": {"share": 0.0, "minimum": 5, "salt": " "}}, "salt"),
        ({"control": {"share": 0.0, "salt": ""}, "explore": 0.1}, "explore is above 0"),
    ],
)
def test_a_design_that_cannot_be_drawn_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Offers.model_validate(OFFERS.model_dump() | change)


# --- what is pooled


def sound() -> pd.DataFrame:
    return labelled(log_of(designed(0.2), 1500), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: pd.concat([r, r[:2]]), "2 customers are in two arms at once .'C0"),
        (lambda r: r.assign(label_date=date(2025, 3, 1)), "labels are dated before it .'C0.* more"),
        (lambda r: r.assign(propensity=np.nan), "does not say with which probability"),
        (lambda r: r.assign(propensity=0.5), "contradict what was done"),
        (
            lambda r: r[r["treatment"] != NO_OFFER].pipe(
                lambda o: o.assign(propensity=1.0, propensity_no_offer=0.0)
                .assign(**{f"propensity_{name}": o["treatment"].eq(name) * 1.0 for name in ACTIONS[1:]})
            ),
            "the score alone decided",
        ),
        (lambda r: r[r["treatment"] != NO_OFFER], "customers got no offer, so there is nobody"),
        (lambda r: r[r["treatment"] == NO_OFFER], "customers got an offer, so there is nobody"),
    ],
)  # fmt: skip
def test_a_campaign_that_says_nothing_of_effects_is_left_out_and_told_why(
    change: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    assert list(faults(sound())) == []
    pool = pooled([change(sound())])
    assert pool.rows.empty
    assert list(pool.refused) == [DAY]
    assert re.search(words, pool.refused[DAY])
    effects = OfferEffects.of(pool, OFFERS)
    assert effects.table.empty
    told = " ".join(told_of(effects))
    assert pool.refused[DAY] in told
    assert "What offers do is not known" in told
    assert not any(word in told for word in ("fewer left than", "worth", "because of the offer"))
    assert "uplift.avoided" not in effects.metrics


def told_of(effects: OfferEffects) -> list[str]:
    """The paragraphs of the page that speak of offers."""
    values = dict.fromkeys(("unseen", "seen", "offered", "promised", "estimated"), 0)
    return paragraphs(
        "spanishgas.monitoring", "outcomes.md.jinja", as_of=DAY, figures={}, concept=None, fewest=20, overall="",
        tiers=[], effects=effects, fewest_arm=10, **values,
    )  # fmt: skip


def test_campaigns_of_the_lake_are_pooled_and_those_before_propensities_named(tmp_path: Path) -> None:
    lake, days = Lake(tmp_path), [DAY + timedelta(30 * n) for n in range(3)]
    for number, day in enumerate(days):
        campaign(lake, day, number, old=number == 0)
    pool = campaigns(lake)
    assert tuple(pool.rows.columns) == COLUMNS
    assert sorted(pool.rows["as_of"].unique()) == days[1:]
    assert list(pool.refused) == days[:1]
    assert "does not say with which probability" in pool.refused[days[0]]
    gold = lake.current("gold_master", days[1]).pandas().set_index("customer_id")
    rows = pool.rows[pool.rows["as_of"] == days[1]]
    assert rows["margin"].tolist() == gold.loc[rows["customer_id"], "avg_monthly_margin"].tolist()
    assert rows["segment"].tolist() == gold.loc[rows["customer_id"], "segment"].tolist()
    log = lake.current("treatments", days[1]).pandas().set_index("customer_id")
    assert len(rows) == len(log)
    assert (rows["treatment"].eq(NO_OFFER).to_numpy() == log["arm"].eq("control")[rows["customer_id"]]).all()


def campaign(lake: Lake, day: date, seed: int, *, old: bool = False) -> None:
    """Scores, log and labels of one campaign; an old log has no probabilities."""
    gold = gold_frame(1500, seed=seed, labelled=False)
    master = publish_gold(lake, gold, day)
    frame = people(1500, seed, day)
    frame = frame.assign(customer_id=gold["customer_id"], churn_flag=0, in_training=False)
    frame["expected_monthly_loss"] = 1.0
    publish(lake, "scores", frame[list_of("scores")], day, gold_master=master)
    beside = gold[["customer_id", "segment", "avg_monthly_margin", "months_to_renewal"]]
    bare = frame.drop(columns=["segment", "avg_monthly_margin", "months_to_renewal"])
    chosen = chosen_of(bare.merge(beside, on="customer_id"), designed(0.3))
    log = chosen[chosen["arm"].notna()].reset_index(drop=True)
    told = bare.assign(churn=np.random.default_rng(seed).integers(0, 2, len(bare)), label_date=None)
    told["label_date"] = told["label_date"].astype(pd.ArrowDtype(pa.date32()))
    told = told.merge(log[["customer_id", "arm"]], on="customer_id", how="left")
    publish(lake, "outcomes", told[list_of("outcomes")], day, gold_master=master)
    columns = list_of("treatments")
    if not old:
        publish(lake, "treatments", log[columns], day, gold_master=master)
        return
    before = log[[c for c in columns if c != "stratum" and not c.startswith("propensity")]]
    lake.publish(
        "treatments", day, lambda folder: before.to_parquet(folder / "part-0.parquet", index=False),
        built_from={}, fingerprint="old", code={},
    )  # fmt: skip


def list_of(table: str) -> list[str]:
    return list(contract(table).fields)


# --- what may be read out of it


def test_several_campaigns_pooled_say_more_than_one_and_a_customer_in_all_counts_once() -> None:
    offers = designed(0.2)
    logs = [labelled(log_of(offers, day=DAY + timedelta(30 * n)), n) for n in range(3)]
    one, three = (average_effects(pd.concat(some), offers).iloc[0] for some in (logs[:1], logs))
    assert three["high"] - three["low"] < 0.7 * (one["high"] - one["low"])
    truth = 0.3 * pd.concat(logs)["risk_score"].mean()
    assert three["low"] < truth < three["high"]
    copies = average_effects(pd.concat([logs[0]] * 3, ignore_index=True), offers).iloc[0]
    assert copies["high"] - copies["low"] == pytest.approx(one["high"] - one["low"], rel=0.05)


def test_effects_are_told_by_offer_tier_and_segment_beside_what_policy_assumes() -> None:
    offers = designed(0.2, explore=0.3)
    rows = labelled(log_of(offers), 4)
    effects = OfferEffects.of(Campaigns(rows, {}), offers)
    told = " ".join(told_of(effects))
    for name in OFFERS.menu:
        line = effects.table[effects.table["value"] == name].iloc[0]
        both = comparable(rows, name)
        terms = OFFERS.menu[name]
        assert line["assumed"] == pytest.approx(
            terms.acceptance * terms.uplift * rows["risk_score"][both].mean()
        )
        assert line["low"] < 0.3 * rows["risk_score"][both].mean() < line["high"]
        assert f"{name} {100 * line['avoided']:.1f} points" in told
    assert {"Critical", "SME"} <= set(effects.table["value"])
    assert "which is less" in told
    assert effects.metrics["uplift.avoided"] == effects.table["avoided"].iloc[0]
    assert (
        effects.metrics["uplift.segment.sme.avoided.low"] < effects.metrics["uplift.segment.sme.avoided.high"]
    )


def test_effects_follow_the_probabilities_of_the_draw_where_they_differ_between_customers() -> None:
    off = list[float]()
    for seed in range(12):
        frame = people(3000, seed)
        rng, p = np.random.default_rng(seed), frame[PROBABILITY].to_numpy()
        chance = np.where(p > 0.6, 0.9, 0.2)
        made = rng.random(len(p)) < chance
        avoided = np.where(p > 0.6, 0.3, 0.0)
        rows = frame.rename(columns={PROBABILITY: "risk_score", "avg_monthly_margin": "margin"}).assign(
            risk_score=0.5,
            treatment=np.where(made, "offer_small", NO_OFFER),
            churn=(rng.random(len(p)) < p - avoided * made).astype("int64"),
            **dict(zip(PROPENSITIES, (1 - chance, chance, 0.0, 0.0), strict=True)),
        )
        line = average_effects(rows, OFFERS).iloc[0]
        off.append((line["avoided"] - avoided.mean()) / (line["high"] - line["low"]) * 3.92)
    assert abs(np.mean(off)) < 4 / np.sqrt(12)


def test_too_few_customers_give_no_number() -> None:
    rows = labelled(log_of(designed(0.2), 40), 5)
    effects = OfferEffects.of(Campaigns(rows, {}), OFFERS)
    assert effects.table.empty
    assert any("Uplift was not measured" in line for line in told_of(effects))


def test_arms_that_were_unlike_before_give_no_number() -> None:
    rows = labelled(log_of(designed(0.2)), 6)
    assert balance(rows)[1] > 0.01
    likely = rows["risk_score"] > rows["risk_score"].median()
    turned = (rows["treatment"] == NO_OFFER) & likely & (np.arange(len(rows)) % 3 > 0)
    chosen = rows.assign(treatment=rows["treatment"].mask(turned, rows["offer"]))
    table, p = balance(chosen)
    assert p < 1e-4
    gap = table[table["offer"].eq(ALL) & table["covariate"].eq("risk_score")]["difference"].iloc[0]
    assert gap > 0.1
    effects = OfferEffects.of(Campaigns(chosen, {}), OFFERS)
    assert effects.table.empty
    assert any("were unlike before the campaign" in line for line in told_of(effects))


@pytest.mark.slow
def test_sound_draws_seldom_look_unbalanced() -> None:
    offers = designed(0.1, explore=0.2)
    p = [balance(labelled(log_of(offers, 800, seed=n), n))[1] for n in range(60)]
    assert sum(value < 0.1 for value in p) <= binom.ppf(0.999, 60, 0.1)
    assert min(p) > 1e-4


@pytest.mark.slow
def test_the_estimate_is_unbiased_where_the_score_is_worthless() -> None:
    offers, off = designed(0.3), list[float]()
    for seed in range(20):
        rows = labelled(log_of(offers, 1200, seed=seed), seed)
        truth = 0.3 * rows["risk_score"].mean()
        line = average_effects(rows.assign(risk_score=0.5), offers).iloc[0]
        off.append((line["avoided"] - truth) / (line["high"] - line["low"]) * 3.92)
    assert abs(np.mean(off)) < 4 / np.sqrt(20)
    assert 0.5 < np.std(off) < 1.6


def test_worth_falls_with_what_offers_cost() -> None:
    rows = labelled(log_of(designed(0.2)), 8)
    dear = OFFERS.model_copy(
        update={
            "menu": {n: o.model_copy(update={"cost_eur": 2 * o.cost_eur}) for n, o in OFFERS.menu.items()}
        }
    )
    cost = sum(OFFERS.menu[n].expected_cost for n in rows["treatment"] if n != NO_OFFER)
    assert worth(rows, OFFERS)[0] - worth(rows, dear)[0] == pytest.approx(cost)


@pytest.mark.slow
@pytest.mark.parametrize("design", bench.DESIGNS)
@pytest.mark.parametrize("where", [bench.simulated, bench.elsewhere])
def test_intervals_of_average_effects_hold_the_truth_as_often_as_they_say(
    where: Callable[[], bench.Population], design: str
) -> None:
    offers, repeats = bench.DESIGNS[design], 200
    n = bench.CUSTOMERS if where is bench.simulated else 4_000
    told, p = bench.repeated(where(), offers, 3, repeats, seed=9, n=n)
    table = bench.held(told, bench.truth(where(), offers))
    held = int((table["holds"] * table["n"]).iloc[0])
    assert binom.ppf(0.001, repeats, 0.93) <= held <= binom.ppf(0.999, repeats, 0.97)
    often = table[table["n"] >= repeats // 2]
    assert (often["holds"] >= binom.ppf(0.0002, often["n"], 0.93) / often["n"]).all()
    assert (p < 0.01).sum() <= binom.ppf(0.999, repeats, 0.01)


# --- how many it takes


@pytest.mark.slow
def test_as_many_customers_as_power_asks_for_see_the_effect_four_times_out_of_five() -> None:
    offers = designed(0.3)
    chosen = chosen_of(people(4000), offers)
    needed = required(chosen, offers, 20.0, 1.0, 1).iloc[0]
    rows, share = int(needed["customers_needed"]), 20.0 / 100
    seen, repeats = 0, 120
    for seed in range(repeats):
        log = log_of(offers, rows, seed=seed + 1)
        relative = share / log["risk_score"].mean()
        seen += average_effects(labelled(log, seed, relative), offers).iloc[0]["low"] > 0
    assert 100 < rows < 2_000
    assert binom.ppf(0.001, repeats, 0.8) - 4 <= seen <= binom.ppf(0.999, repeats, 0.8) + 4


def test_more_campaigns_see_smaller_effects_and_larger_ones_need_fewer() -> None:
    chosen = chosen_of(people(4000), OFFERS)
    one, four = (required(chosen, OFFERS, None, 1.0, planned) for planned in (1, 4))
    assert four["smallest_effect"].to_numpy() == pytest.approx(one["smallest_effect"] / 2)
    assert (four["power"] > one["power"]).all()
    small, large = (required(chosen, OFFERS, points, 1.0, 1) for points in (2.0, 8.0))
    assert (small["customers_needed"] > 10 * large["customers_needed"]).all()
    twice = required(chosen, OFFERS, 2.0, 2.0, 1)
    assert (abs(2 * twice["campaigns_needed"] - small["campaigns_needed"]) <= 1).all()
    assert (abs(twice["customers_needed"] - small["customers_needed"]) <= 2).all()


def test_the_verb_counts_the_controls_of_the_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign(Lake(tmp_path), DAY, 0)
    words = ["power", "--lake", str(tmp_path), "--customers", "20000"]
    done = CliRunner().invoke(app, [*words, "--effect", "10", "--campaigns", "2", "--json"])
    assert done.exit_code == 0, done.output
    lines = {line["offer"]: line for line in json.loads(done.output)}
    log = Lake(tmp_path).current("treatments").pandas()
    assert lines[ALL]["controls_so_far"] == log["arm"].eq("control").sum()
    assert lines[ALL]["enough"] == (lines[ALL]["controls_so_far"] >= lines[ALL]["controls_needed"])
    table = CliRunner().invoke(app, [*words, "--effect", "0.1"])
    assert "not yet enough for all offers" in table.output
    assert "| all offers |" in table.output
    assert CliRunner().invoke(app, [*words, "--effect", "-3"]).exit_code == 2


def test_a_design_without_chance_has_no_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign(Lake(tmp_path), DAY, 0)
    never = SimpleNamespace(offers=designed(0.0), risk_tiers=POLICY.risk_tiers)
    monkeypatch.setattr(power, "load_policy", lambda: never)
    with pytest.raises(DataError, match="the design leaves nothing to chance for the 1,500 customers"):
        power.power(Lake(tmp_path))
