"""Pooled campaigns of a world in which one column alone tells whom an offer keeps; drawn here, not by the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from spanishgas import uplift
from spanishgas.config.policy import ACTIONS, OfferTerms, load_policy
from spanishgas.evaluation.effects import PROPENSITIES
from spanishgas.evaluation.offer_rules import OfferJudgement
from spanishgas.lake import Lake
from spanishgas.lifecycle.version import Version
from spanishgas.training.model import TIER
from spanishgas.uplift import UpliftInputs, learn, on_held_out
from tests.tracked import own_store

FEATURE = "peak_share"
CHANCES = np.array([0.4, 0.2, 0.2, 0.2])


def inputs(budget: float | None = None, trials: int = 3, seed: int = 0) -> UpliftInputs:
    """The policy's offers, with EUR to spend in each campaign."""
    policy = load_policy()
    offers = policy.offers.model_copy(update={"total_budget_eur": budget})
    return UpliftInputs(
        (), (FEATURE,), OfferTerms(offers=offers, lowest="Low", holdout=policy.holdout), trials, seed
    )


def judge(rows: pd.DataFrame, inputs: UpliftInputs) -> OfferJudgement:
    """Learn from the customers on the training side, judge on the others; `rows` are those of `customers`."""
    return on_held_out(rows, learn(rows, inputs), inputs)


@contextmanager
def registered_offers(folder: Path) -> Iterator[Version]:
    """A version of learned offers in a tracking store of its own in `folder`, which is the work folder meanwhile."""
    rows = pooled_rows(1_500, 7, strength=0.8)
    with pytest.MonkeyPatch.context() as patch, own_store(folder):
        patch.setattr(uplift, "customers", lambda logs, features: (rows, ["One is left out."]))
        patch.setattr(uplift, "read_tiers", lambda: SimpleNamespace(features=lambda: [FEATURE]))
        yield uplift.uplift(Lake(folder / "lake"), trials=3)


def pooled_rows(rows: int, seed: int, strength: float, campaigns: int = 2) -> pd.DataFrame:
    """Customers above the lowest tier; offers keep a share `strength` of those whose FEATURE is above 0.7."""
    rng = np.random.default_rng(seed)
    risk, margin = rng.uniform(0.4, 0.95, rows), rng.gamma(4, 10, rows)
    feature, option = rng.uniform(size=rows), rng.choice(4, rows, p=CHANCES)
    churn = risk * (1 - strength * (feature > 0.7) * (option > 0))
    days = [date(2024, 12, 31) + timedelta(90 * int(n)) for n in rng.integers(0, campaigns, rows)]
    return pd.DataFrame(
        {
            "customer_id": [f"C{i:05d}" for i in range(rows)],
            "as_of": days,
            "stratum": "all",
            "treatment": np.array(ACTIONS, dtype=object)[option],
            "propensity": CHANCES[option],
            **dict(zip(PROPENSITIES, np.repeat(CHANCES[:, None], rows, axis=1), strict=True)),
            "churn": (rng.random(rows) < churn).astype("int64"),
            "risk_score": risk,
            "margin": margin,
            TIER: np.where(risk < 0.6, "Medium", np.where(risk < 0.8, "High", "Critical")),
            "segment": "Residential",
            "in_training": False,
            FEATURE: feature,
        }
    )
