"""Which inputs count otherwise than they did: reasons, unfamiliar values, and the season that a year before had too."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import binom

from spanishgas.config.search import LOGISTIC
from spanishgas.lake import Lake
from spanishgas.monitoring.concept import Concept
from spanishgas.monitoring.outcomes import outcomes
from spanishgas.monitoring.season import STANDS, differing, year_before
from spanishgas.training.model import PROBABILITY
from tests.churn_models import churn_model
from tests.gold_frames import gold_frame
from tests.scored_cohorts import LATER, drawn, reference, score, version_of, write_labels
from tests.tracked import own_model, own_store

MODEL = churn_model(LOGISTIC)


def said(rows: pd.DataFrame) -> np.ndarray:
    return logit(MODEL.predict_proba(rows)[:, 1])


def sample(
    rows: int, seed: int, *, odds: float = 0.0, reason: float = 0.0, older: float = 0.0
) -> pd.DataFrame:
    """Customers who leave as the model says, but for `odds` of all and `reason` per deviation of their tenure."""
    frame = gold_frame(rows, seed=seed, labelled=False)
    frame["tenure_months"] += older
    tenure = frame["tenure_months"].rank(pct=True).to_numpy() - 0.5
    truth = expit(said(frame) + odds + reason * tenure * np.sqrt(12))
    return frame.assign(churn=drawn(truth, seed + 100))


def found(seed: int, **later: float) -> Concept:
    return differing(MODEL, sample(1500, seed), sample(1500, seed + 50, **later), 0.01)


def test_an_input_that_counts_otherwise_is_a_reason_by_its_name_and_asks_for_a_retrain() -> None:
    concept = found(1, reason=0.8)
    assert concept.reasons[0] == "tenure_months"
    assert (concept.unfamiliar, concept.remedy) == ([], "retrain")
    assert concept.metrics()["concept.reasons"] == len(concept.reasons)


def test_an_input_that_moved_is_unfamiliar_and_no_reason() -> None:
    concept = found(1, reason=0.8, older=60)
    assert "tenure_months" in concept.unfamiliar
    assert "tenure_months" not in concept.reasons


def test_a_level_that_moved_asks_for_a_recalibration() -> None:
    concept = found(3, odds=0.8)
    assert concept.gap["level"] < 0.001
    assert (concept.reasons, concept.unfamiliar, concept.remedy) == ([], [], "recalibrate")


def test_where_nothing_changed_reasons_ring_no_more_often_than_their_level() -> None:
    quiet = [found(seed) for seed in range(10, 22)]
    assert sum(bool(concept.reasons) for concept in quiet) <= binom.ppf(0.999, len(quiet), 0.01)
    assert all(concept.by_input for concept in quiet)


def test_customers_who_stand_for_others_count_so_often() -> None:
    before, after = sample(1500, 1), sample(1500, 51)
    half = np.arange(len(after)) % 2 == 0
    weighed = differing(MODEL, before, after[half].reset_index(drop=True).assign(**{STANDS: 2.0}), 0.01)
    assert weighed.churners == pytest.approx(2 * after["churn"][half].sum())


def test_what_was_the_same_a_year_before_is_the_season(tmp_path: Path) -> None:
    before = LATER - timedelta(364)
    with own_store(tmp_path), own_model("season"):
        lake = Lake(tmp_path / "lake")
        version = version_of(MODEL, reference(lake), tmp_path / "model")
        for day, seed in ((before, 31), (LATER, 32)):
            scored = score(lake, version, day)
            left = drawn(expit(logit(scored[PROBABILITY].to_numpy()) + 1.0), seed)
            study = outcomes(write_labels(scored, left, tmp_path / f"{day}.csv"), day, lake=lake)
            assert study.concept_drift
            if day == before:
                assert study.remedy == "recalibrate"
                assert any("spanishgas recalibrate" in line for line in study.findings)
        assert study.remedy is None
        assert any("the season does it" in line for line in study.findings)
        near = year_before(LATER, lake)
        assert near is not None
        assert near.outcomes.manifest.as_of == before
        assert year_before(date(2025, 5, 31), lake) is None
