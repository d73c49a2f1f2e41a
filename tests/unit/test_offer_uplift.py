"""Offers by learned effect beside offers by risk: what may pass, what must not, and what gives no number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from spanishgas import uplift
from spanishgas.config.policy import ACTIONS
from spanishgas.errors import DataError, TrackingError
from spanishgas.evaluation.effects import PROPENSITIES
from spanishgas.evaluation.offer_rules import LEARNED, RISK, OfferJudgement, brought, choices
from spanishgas.lake import Lake
from spanishgas.lifecycle import promotion, registry
from spanishgas.lifecycle.version import Version
from spanishgas.settings import of_offers
from spanishgas.uplift import learn
from tests.offer_world import FEATURE, inputs, judge, pooled_rows, registered_offers


@pytest.fixture(scope="module")
def shown() -> OfferJudgement:
    return judge(pooled_rows(4_000, 1, strength=0.8), inputs(8_000.0))


def test_where_one_column_tells_whom_offers_keep_learned_effects_pass(shown: OfferJudgement) -> None:
    assert shown.passed
    assert shown.gain[1] > 0
    assert shown.values["nobody"].value == 0
    assert shown.values[LEARNED].value > shown.values[RISK].value
    assert "they may decide" in shown.sentence
    assert set(shown.rankings) == set(ACTIONS[1:])
    for of in shown.rankings.values():
        assert of.qini.low > 0
        assert of.calibration["observed"].iloc[-1] > of.calibration["observed"].iloc[0] + 0.1


def test_a_gain_that_may_be_chance_does_not_pass(shown: OfferJudgement) -> None:
    doubtful = replace(shown, gain=(shown.gain[0], -0.01, shown.gain[2]))
    assert not doubtful.passed
    assert "the risk rule stays" in doubtful.sentence
    worse = {**shown.values, LEARNED: shown.values["nobody"], RISK: shown.values[LEARNED]}
    assert not replace(shown, values=worse).passed


@pytest.mark.slow
def test_where_no_offer_works_the_risk_rule_stays_though_saving_would_pay() -> None:
    passed = [judge(pooled_rows(3_000, seed, 0.0), inputs(6_000.0)).passed for seed in range(30)]
    assert sum(passed) <= 3  # more than that happens once in sixteen times where one in twenty passes


def test_learned_effects_spend_no_more_and_choose_only_what_chance_might_have_given() -> None:
    rows, given = pooled_rows(2_000, 5, 0.5), inputs(4_000.0).terms
    rows.loc[:99, PROPENSITIES] = [1.0, 0.0, 0.0, 0.0]
    rows.loc[:99, "treatment"] = "no_offer"
    effects = {name: np.where(rows[FEATURE] > 0.7, -0.4, 0.1) for name in ACTIONS[1:]}
    options = choices(rows, effects, given)
    costs = np.array([0.0, *(offer.cost_eur for offer in given.offers.menu.values())])
    assert costs[options[LEARNED]].sum() <= costs[options[RISK]].sum() <= 4_000 * 2 * given.holdout.share
    assert not any(option[:100].any() for option in options.values())
    assert not options[LEARNED][rows[FEATURE] <= 0.7].any()  # sleeping dogs lie
    free, net = (brought(rows, options, effects, given, free=f) for f in (True, False))
    assert (net["everyone"] <= free["everyone"]).mean() > 0.5
    assert net["nobody"].tolist() == [0.0] * 2_000


def test_campaigns_that_teach_nothing_give_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no campaign has labels yet"):
        uplift.customers((), ())
    rows = pooled_rows(300, 6, 0.5)
    with pytest.raises(DataError, match="no offer was made beside controls"):
        learn(rows[rows["treatment"] == "no_offer"], inputs())
    with pytest.raises(DataError, match="fewer than the 5 folds"):
        learn(rows[:30], inputs())
    pool = SimpleNamespace(rows=rows, refused={})
    monkeypatch.setattr(uplift, "pooled", lambda logs: pool)
    day = SimpleNamespace(manifest=SimpleNamespace(as_of=date(2024, 12, 31)))
    log: Any = SimpleNamespace(treatments=day, gold=None, rows=lambda: rows)
    with pytest.raises(DataError, match="gold of 2 campaigns is gone"):
        uplift.customers((log,), ())


@pytest.fixture(scope="module")
def offers_version(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Version]:
    """A version of learned offers in a store of its own, for as long as the tests of this file run."""
    with registered_offers(tmp_path_factory.mktemp("offers")) as version:
        yield version


def test_the_verdict_stands_with_a_version_of_its_own_and_is_not_made_twice(offers_version: Version) -> None:
    version = offers_version
    assert version.name == "spanishgas-churn-offers"
    again = uplift.uplift(Lake(Path("lake")), trials=3)
    assert (again.number, again.run_id) == (version.number, version.run_id)
    run = MlflowClient().get_run(version.run_id)
    assert run.data.tags["stage"] == "uplift"
    assert run.data.tags["gate"] == ("passed" if version.verdict.passed else "refused")
    assert run.data.metrics["uplift.gain_eur.low"] == pytest.approx(version.metrics["uplift.gain_eur.low"])
    assert {"uplift.qini.offer_small", "uplift.value_eur.risk_rule.high"} <= set(run.data.metrics)
    paths = {file.path for file in MlflowClient().list_artifacts(version.run_id)}
    assert {"uplift.png", "verdict.json", "calibration_offer_small.json"} <= paths
    assert "One is left out." in (version.entity.description or "")
    assert registry.versions() == []  # the churn model has no version of it


def test_the_version_of_offers_is_promoted_only_by_its_verdict_and_rolled_back_alone(
    offers_version: Version,
) -> None:
    assert promotion.scorable_offers() is None
    with of_offers():
        if not offers_version.verdict.passed:
            with pytest.raises(TrackingError, match="is not promoted"):
                promotion.promote("1", "to try it")
        promotion.promote("1", "to try it", override=None if offers_version.verdict.passed else "a test")
    found = promotion.scorable_offers()
    assert found is not None
    assert found.number == "1"
    assert registry.aliases() == {}  # the churn model's are its own
    with pytest.raises(TrackingError, match="says what offers change, and not who leaves"):
        _ = found.record


def test_a_rollback_of_the_first_version_ends_with_the_risk_rule_and_is_not_made_twice(
    offers_version: Version,
) -> None:
    with of_offers():
        if registry.aliases().get("champion") is None:
            promotion.promote(offers_version.number, "to try it", override="a test")
        with pytest.raises(TrackingError, match="no previous champion"):
            promotion.rollback("complaints")
        made = promotion.rollback("complaints", to_none=True)
        assert (made.version, made.replaced) == (None, offers_version.number)
        assert promotion.rollback("complaints", to_none=True).number == made.number
        with pytest.raises(TrackingError, match="has no version 'champion'"):
            promotion.rollback("another reason", to_none=True)
        assert registry.resolve("1").fault == "was rolled back (complaints)"
    assert promotion.scorable_offers() is None


def test_the_artefact_of_offers_holds_no_row_and_answers_as_it_was_judged(offers_version: Version) -> None:
    rows = pooled_rows(50, 9, 0.8)
    told = offers_version.offer_model.predict(rows)
    assert list(told) == list(ACTIONS[1:])
    assert told.loc[rows[FEATURE] > 0.8].mean().max() < told.loc[rows[FEATURE] < 0.6].mean().min()
    for effect in offers_version.offer_model.effects.values():
        held = [len(one.rows) for one in effect.learners_]
        assert held == [0] * len(held)
        assert not hasattr(effect, "pseudo_outcomes_")
    with pytest.raises(DataError, match=FEATURE):
        offers_version.offer_model.predict(rows.drop(columns=FEATURE))


def test_other_inputs_make_another_key() -> None:
    one = inputs()
    others = replace(one, trials=4), replace(one, terms=one.terms.model_copy(update={"lowest": "Medium"}))
    keys = {uplift.UPLIFT.key(i) for i in (one, *others)}
    assert len(keys) == 3
