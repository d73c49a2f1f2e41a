"""The gate's rules, one by one: what passes, what is refused, and what a verdict says."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score

from benchmarks.gate_curve import blurred
from spanishgas.config.policy import TOO_GOOD, Policy, Waiver, load_policy
from spanishgas.config.tiers import read_tiers
from spanishgas.evaluation import inference
from spanishgas.evaluation.inference import Difference, Predictions, calibration_by_chance, differences
from spanishgas.evaluation.leakage import LeakageFinding
from spanishgas.evaluation.metrics import ranking
from spanishgas.evaluation.slices import Slice
from spanishgas.lifecycle import gate as gathered
from spanishgas.lifecycle.gate import Against, Evidence, judge
from spanishgas.lifecycle.records import Check, Verdict
from tests.gold_frames import gold_frame

METRICS = {
    f"holdout.{name}{end}": value + shift
    for name, value in {"average_precision": 0.76, "ece": 0.02, "recall": 0.72, "value_eur": 900.0}.items()
    for end, shift in (("", 0.0), (".low", -0.05), (".high", 0.05))
}
CLEAN = LeakageFinding(
    name="duplicates", value=0, limit=0, words="held-out customers twice", way_out="one id each"
)
SLICE = Slice(
    dimension="segment",
    value="SME",
    rows=100,
    churners=10,
    flagged=20,
    caught=7,
    average_precision=0.7,
    interval=(0.6, 0.8),
    expected=0.7,
    mean_probability=0.1,
    p_ranking=0.5,
    p_calibration=0.5,
)
AGAINST = Against(
    champion="3",
    differences={
        "average_precision": Difference(0.01, -0.01, 0.03),
        "value_eur": Difference(20.0, -10.0, 50.0),
    },
    champion_value=900.0,
    signature_changes=0,
)
GOOD = Evidence(
    metrics=METRICS,
    churn_rate=0.1,
    calibration_by_chance=0.03,
    contract_faults=0,
    findings=[CLEAN],
    slices=[SLICE],
    megabytes=1.0,
    seconds_per_thousand=0.1,
    dirty=False,
    against=AGAINST,
)


def verdict(policy: Policy | None = None, **changes: Any) -> Verdict:
    return judge(replace(GOOD, **changes), policy or load_policy())


def refused(found: Verdict) -> list[str]:
    return [c.name for c in found.checks if not c.passed]


def metrics(**changes: float) -> dict[str, float]:
    return METRICS | {f"holdout.{name.replace('__', '.')}": value for name, value in changes.items()}


def test_a_good_version_passes_every_check() -> None:
    assert refused(verdict()) == []
    assert verdict().passed


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (
            {"metrics": {}},
            {"holdout.average_precision", "holdout.ece", "holdout.recall", "holdout.value_eur"},
        ),
        ({"metrics": metrics(average_precision=float("nan"))}, {"holdout.average_precision"}),
        ({"calibration_by_chance": None}, {"holdout.ece"}),
        ({"contract_faults": None}, {"input.contract"}),
        ({"findings": None}, {"leakage"}),
        ({"findings": []}, {"leakage"}),
        ({"slices": None}, {"slices.worse"}),
        ({"megabytes": None}, {"artefact.megabytes"}),
        ({"seconds_per_thousand": None}, {"artefact.seconds_per_1000"}),
        (
            {"against": None},
            {"champion.average_precision.difference", "champion.value_eur.difference", "signature"},
        ),
        ({"first": True, "churn_rate": None}, {"first champion"}),
        ({"first": True, "metrics": {}}, {"first champion"}),
    ],
)
def test_what_cannot_be_computed_is_refused(changes: dict[str, Any], names: set[str]) -> None:
    found = verdict(**changes)
    assert names <= set(refused(found))
    assert all(f"{name} is missing" in found.words for name in names)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"metrics": metrics(average_precision=0.699)}, "holdout.average_precision"),
        ({"metrics": metrics(average_precision=0.95, average_precision__low=0.91)}, "leakage.too_good"),
        ({"metrics": metrics(ece=0.051)}, "holdout.ece"),
        ({"metrics": metrics(value_eur=-1.0)}, "holdout.value_eur"),
        ({"contract_faults": 1}, "input.contract"),
        ({"findings": [CLEAN.model_copy(update={"value": 1.0})]}, "leakage.duplicates"),
        ({"findings": [CLEAN.model_copy(update={"value": float("nan")})]}, "leakage.duplicates"),
        ({"slices": [SLICE.model_copy(update={"ranks_worse": True})] * 3}, "slices.worse"),
        ({"megabytes": 51.0}, "artefact.megabytes"),
        ({"seconds_per_thousand": 1.1}, "artefact.seconds_per_1000"),
        ({"against": replace(AGAINST, signature_changes=1)}, "signature"),
        ({"first": True, "metrics": metrics(average_precision__low=0.19)}, "first champion"),
    ],
)
def test_one_bad_figure_alone_refuses(changes: dict[str, Any], name: str) -> None:
    assert refused(verdict(**changes)) == [name]
    assert not verdict(**changes).passed


def test_the_floor_of_average_precision_is_a_point_and_the_limit_itself_passes() -> None:
    assert verdict(metrics=metrics(average_precision=0.70, average_precision__low=0.5)).passed


def test_a_model_is_too_good_by_the_lower_end_and_passes_where_that_is_declared() -> None:
    high = metrics(average_precision=0.95, average_precision__low=0.9)
    assert verdict(metrics=high).passed
    best = metrics(average_precision=1.0, average_precision__low=1.0)
    waiver = Waiver(check=TOO_GOOD, reason="the data say so", date=date(2026, 1, 2))
    assert verdict(load_policy().model_copy(update={"waivers": [waiver]}), metrics=best).passed
    assert refused(verdict(metrics=best)) == ["leakage.too_good"]


def test_recall_is_refused_only_where_its_upper_end_misses_the_floor() -> None:
    below = {"recall": 0.60, "recall__low": 0.5}
    assert verdict(metrics=metrics(**below, recall__high=0.70)).passed
    assert refused(verdict(metrics=metrics(**below, recall__high=0.69))) == ["holdout.recall"]


def test_a_calibration_error_that_chance_alone_reaches_is_not_refused() -> None:
    assert verdict(metrics=metrics(ece=0.08), calibration_by_chance=0.09).passed
    assert not verdict(metrics=metrics(ece=0.08), calibration_by_chance=0.07).passed


@pytest.mark.parametrize(
    ("value", "limit"), [(0.0792, 0.0791), (0.0791, 0.0792), (0.69996, 0.7), (0.081, 0.08)]
)
def test_the_words_of_a_check_leave_the_value_on_its_side_of_the_limit(value: float, limit: float) -> None:
    check = Check(name="x", value=value, limit=limit, interval=None, passed=False, way_out="")
    shown, edge = map(float, re.findall(r"\d\.\d+", check.words))
    assert (shown < edge, shown > edge) == (value < limit, value > limit)


def test_a_worse_challenger_is_refused_with_the_interval_that_says_so() -> None:
    worse = replace(
        AGAINST, differences=AGAINST.differences | {"average_precision": Difference(-0.05, -0.07, -0.03)}
    )
    found = verdict(against=worse)
    assert refused(found) == ["champion.average_precision.difference"]
    assert "is -0.050 (-0.070 to -0.030), the limit is at least -0.0" in found.words
    assert "against version 3" in found.table()


def test_not_surely_worse_is_not_enough_the_lower_end_must_lie_above_the_margin() -> None:
    unsure = replace(
        AGAINST, differences=AGAINST.differences | {"average_precision": Difference(0.0, -0.2, 0.2)}
    )
    assert refused(verdict(against=unsure)) == ["champion.average_precision.difference"]


def test_the_margin_of_value_is_a_share_of_what_the_champion_brought() -> None:
    share = load_policy().gate.champion.value_margin
    lowest = {"value_eur": Difference(0.0, -share * 900, 10.0)}
    against = replace(AGAINST, differences=AGAINST.differences | lowest)
    assert verdict(against=against).passed
    assert not verdict(against=replace(against, champion_value=899.0)).passed


def passes(holdouts: int) -> tuple[int, int]:
    """How often the margin lets an equal challenger pass, and one that is worse by 0.05, on 4,000 customers each.

    Models state the true log odds with noise, the worse one with more.
    """
    margin, passed = load_policy().gate.champion.average_precision_margin, [0, 0]
    for seed in range(holdouts):
        rng = np.random.default_rng(seed)
        odds = rng.normal(-4.3, 2.6, 4000)
        y = (rng.random(4000) < expit(odds)).astype("int64")
        champion, same = (expit(odds + 0.4 * rng.normal(size=4000)) for _ in range(2))
        for number, probability in enumerate((same, blurred(same, y, rng))):
            ours, theirs = (Predictions(p, np.zeros(4000)) for p in (probability, champion))
            passed[number] += differences(y, ours, theirs, seed)["average_precision"].low >= -margin
    return passed[0], passed[1]


def test_the_margin_of_the_policy_tells_an_equal_challenger_from_one_that_is_worse_by_a_twentieth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "DRAWS", 100)
    assert passes(1) == (1, 0)


@pytest.mark.slow
def test_the_margin_of_the_policy_errs_in_one_of_ten_holdouts_at_most() -> None:
    equal, worse = passes(20)
    assert equal >= 18
    assert worse <= 2


def test_a_first_champion_is_held_against_chance_and_not_against_a_champion() -> None:
    found = verdict(first=True, against=None)
    assert found.passed
    assert "first champion" in [c.name for c in found.checks]
    assert not [c for c in found.checks if c.name.startswith("champion.")]


def test_the_lower_end_of_a_first_champion_must_be_twice_what_chance_reaches() -> None:
    enough, short = (metrics(average_precision__low=low) for low in (0.2, 0.199))
    assert verdict(first=True, against=None, metrics=enough).passed
    assert refused(verdict(first=True, against=None, metrics=short)) == ["first champion"]


def test_a_declared_leak_passes_and_is_shown_with_its_waiver() -> None:
    declared = CLEAN.model_copy(update={"value": 1.0, "declared": True})
    waiver = Waiver(check="duplicates", reason="twins", date=date(2026, 1, 2))
    policy = load_policy().model_copy(update={"waivers": [waiver]})
    found = verdict(policy, findings=[declared])
    assert found.passed
    assert "declared, waived" in found.table()
    assert "Waived (2026-01-02): duplicates. twins" in found.table()


def test_a_changed_signature_passes_once_it_is_declared() -> None:
    waiver = Waiver(check="signature", reason="two new features", date=date(2026, 1, 2))
    policy = load_policy().model_copy(update={"waivers": [waiver]})
    assert verdict(policy, against=replace(AGAINST, signature_changes=2)).passed
    assert refused(verdict(policy, against=None))[-1] == "signature"


def test_a_dirty_work_tree_is_refused_where_the_policy_says_so() -> None:
    assert verdict(dirty=True).passed
    policy = load_policy()
    strict = policy.model_copy(update={"gate": policy.gate.model_copy(update={"clean_work_tree": True})})
    assert refused(verdict(strict, dirty=True)) == ["code.dirty"]
    assert verdict(strict).passed


def test_a_verdict_without_checks_has_not_passed() -> None:
    assert not Verdict(checks=[], waivers=[]).passed


def test_a_verdict_survives_json() -> None:
    assert Verdict.model_validate_json(verdict().model_dump_json()) == verdict()


def test_a_gold_table_that_breaks_its_contract_is_counted() -> None:
    gold, tiers = gold_frame(50), read_tiers()
    assert gathered.contract_faults(gold, tiers) == 0
    assert gathered.contract_faults(gold.assign(stray=1, churn=gold["churn"].astype("string")), tiers) == 2


# Differences on the same customers


def drawn(seed: int = 0, rows: int = 2000) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.4, 3, rows)
    return (rng.random(rows) < probability).astype("int64"), probability, rng


def test_a_model_beside_itself_differs_by_nothing() -> None:
    y, probability, _ = drawn()
    same = Predictions(probability, probability * 10)
    for found in differences(y, same, same, 1).values():
        assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_differences_are_those_of_scikit_learn_and_of_the_sums() -> None:
    y, probability, rng = drawn()
    noisy = np.clip(probability + rng.normal(0, 0.1, len(y)), 0, 1)
    found = differences(y, Predictions(noisy, noisy), Predictions(probability, probability), 1)
    expected = average_precision_score(y, noisy) - average_precision_score(y, probability)
    assert found["average_precision"].value == pytest.approx(expected)
    assert found["value_eur"].value == pytest.approx(noisy.sum() - probability.sum())
    for one in found.values():
        assert one.low < one.value < one.high


def test_the_paired_interval_is_narrower_than_one_that_forgets_the_shared_customers() -> None:
    y, probability, rng = drawn()
    near = Predictions(np.clip(probability + rng.normal(0, 0.01, len(y)), 0, 1), probability)
    paired = differences(y, near, Predictions(probability, probability), 1)["average_precision"]
    alone = differences(y, near, Predictions(rng.random(len(y)), probability), 1)["average_precision"]
    assert paired.high - paired.low < (alone.high - alone.low) / 3


def test_right_probabilities_exceed_the_calibration_error_of_chance_once_in_twenty() -> None:
    beyond = 0
    for seed in range(200):
        y, probability, _ = drawn(seed, 300)
        beyond += ranking(y, probability)["ece"] > calibration_by_chance(probability, seed)
    assert 2 <= beyond <= 22


def test_columns_that_came_went_or_changed_their_type_are_counted() -> None:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    def signature(**columns: str) -> ModelSignature:
        outputs = Schema([ColSpec("double", "p")])
        return ModelSignature(Schema([ColSpec(kind, name) for name, kind in columns.items()]), outputs)

    ours, theirs = (
        signature(a="double", b="string", c="double"),
        signature(a="double", b="double", d="double"),
    )
    assert gathered._changes(ours, theirs) == 3
    assert gathered._changes(ours, ours) == 0


def test_scoring_time_is_that_of_a_thousand_customers() -> None:
    class Counting:
        rows = 0

        def predict(self, frame: pd.DataFrame) -> None:
            Counting.rows = len(frame)

    assert gathered.seconds_per_thousand(Counting(), gold_frame(30)) >= 0  # type: ignore[arg-type]
    assert Counting.rows == 1000


def relative() -> Policy:
    """The policy of a table from elsewhere: no absolute floor, but one above the churn rate and a baseline."""
    policy = load_policy()
    gate = policy.gate.model_copy(
        update={"min_average_precision": 0.0, "min_skill": 0.05, "beside_baseline": True}
    )
    return policy.model_copy(update={"gate": gate})


@pytest.mark.parametrize(
    ("rate", "low", "passes"), [(0.1, 0.15, True), (0.1, 0.14, False), (0.6, 0.63, True)]
)
def test_a_relative_floor_is_a_share_of_the_way_from_the_churn_rate_to_one(
    rate: float, low: float, passes: bool
) -> None:
    values = METRICS | {"holdout.average_precision": low + 0.02, "holdout.average_precision.low": low}
    even = Difference(0.0, -0.01, 0.01)
    judged = verdict(relative(), metrics=values, churn_rate=rate, first=True, against=None, baseline=even)
    assert refused(judged) == ([] if passes else ["first champion"])


@pytest.mark.parametrize(
    ("baseline", "passes"),
    [(Difference(-0.02, -0.05, 0.001), True), (Difference(-0.02, -0.03, -0.001), False), (None, False)],
)
def test_a_version_that_is_surely_worse_than_a_baseline_is_refused_and_one_that_nobody_compared_too(
    baseline: Difference | None, passes: bool
) -> None:
    names = [] if passes else ["baseline.average_precision.difference"]
    assert refused(verdict(relative(), baseline=baseline)) == names
    assert "baseline.average_precision.difference" not in [c.name for c in verdict(baseline=baseline).checks]
