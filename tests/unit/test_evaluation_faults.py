"""Statistical faults of the replaced system that lie in how a model was judged, each with the faulty way beside it.

S5 an ablation that holds what it leaves out, S12 differences within noise and many looks, S15 rates of a handful,
S25 counts of two populations, S27 gain read as importance. S24 (predictions under their own customers) and S28 (no
training rows among those that judge) are in test_lifecycle; S6, S7, S13 and S23 lie in the data and are reported by the
card (test_card).
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.experiment import load_experiment
from spanishgas.config.search import XGBOOST
from spanishgas.evaluation import slices
from spanishgas.evaluation.importance import permutation
from spanishgas.evaluation.metrics import confusion, decisions
from spanishgas.features import load_tiers
from spanishgas.training.fitting import Training
from tests.labels import customers

Labels = NDArray[np.int64]
Array = NDArray[np.float64]


def test_s5_the_ablation_without_sentiment_reads_no_column_that_sentiment_goes_into() -> None:
    tiers = load_tiers()

    def moody(features: list[str]) -> set[str]:
        return {f for f in features if "sentiment" in f or "sentiment" in tiers.entry(f).definition}

    for linear in (True, False):
        assert moody(load_experiment("E8").features(tiers, linear=linear)) == set()
    faulty = [f for f in load_experiment("E6").features(tiers, linear=True) if tiers.tier_of(f) != "2B"]
    assert moody(faulty) == {"intent_x_sentiment", "sentiment_x_renewal_bucket"}


def test_s12_many_looks_at_slices_do_not_find_what_is_not_there() -> None:
    ours = faulty = 0
    for seed in range(3):
        y, p = customers(1500, seed)
        by = pd.Series(np.random.default_rng([seed, 1]).integers(0, 30, 1500)).astype(str)
        found = slices.measure(y, p, (p > 0.3).astype("int64"), {"part": by}, seed)
        ours += any(s.worse for s in found)
        faulty += any(min(s.p_ranking or 1, s.p_calibration or 1) < 0.05 for s in found)
    assert faulty >= 2
    assert ours <= 1


def test_s15_a_rate_of_one_in_five_is_not_called_a_finding() -> None:
    y, p = customers(400, 0)
    by = pd.Series(["many"] * 395 + ["corporate"] * 5)
    y[-5:] = [1, 0, 0, 0, 0]
    (few,) = [s for s in slices.measure(y, p, y, {"segment": by}, 0) if s.value == "corporate"]
    assert few.words == "too few to judge"
    (recall,) = slices.table([few])["recall"]
    low, high = (float(end) for end in re.findall(r"\d\.\d+", recall)[-2:])
    assert high - low > 0.7, recall


def test_s25_flags_are_counted_on_the_customers_that_they_are_compared_with() -> None:
    y, p = customers(5000, 0)
    flag, held = (p > 0.3).astype("int64"), np.arange(len(y)) % 5 == 0
    counts = confusion(y[held], flag[held])
    assert sum(counts.values()) == held.sum()
    precision = decisions(y[held], flag[held])["precision"]
    assert counts["churners flagged"] / int(flag[held].sum()) == precision
    mixed = counts["churners flagged"] / int(flag.sum())  # found among some, over those flagged among all
    assert mixed < precision / 3


def test_s27_a_column_of_noise_that_trees_like_loses_nothing_when_it_is_shuffled() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"signal": rng.integers(0, 2, 1200).astype(float), "noise": rng.normal(size=1200)})
    y = (rng.random(1200) < np.where(X["signal"] == 1, 0.5, 0.1)).astype("int64")
    kinds = dict.fromkeys(X, "numeric")
    training = Training(X, y, list(X), kinds, XGBOOST, 3, 0)
    params = {"n_estimators": 100, "max_depth": 6}
    gains = training.unfitted(params).fit(X, y)[-1].get_booster().get_score(importance_type="total_gain")
    lost = permutation(training, params, {name: [name] for name in X})
    assert gains["f1"] > gains["f0"]  # what the replaced system showed would put the noise first
    assert lost.loc["noise", "low"] <= 0.02
    assert lost.loc["signal", "low"] > lost.loc["noise", "drop"]
