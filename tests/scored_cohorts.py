"""A labelled table, a version trained on it, and later cohorts that it scored: small, and true by construction.

Labels are drawn from the model's own probabilities, so it is calibrated on every side.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io
from numpy.typing import NDArray

from spanishgas.config.policy import load_policy
from spanishgas.config.search import LOGISTIC
from spanishgas.evaluation.value import NO_OFFER, best_offer
from spanishgas.lake import Lake, Snapshot
from spanishgas.training.artefact import FILE
from spanishgas.training.calibration import fit_final
from spanishgas.training.fitting import Training
from spanishgas.training.matrix import matrix
from spanishgas.training.model import PROBABILITY, ChurnModel
from spanishgas.training.sides import in_holdout, labelled
from tests.churn_models import churn_model
from tests.dashboard_lake import publish
from tests.gold_frames import gold_frame, publish_gold
from tests.versions import add_version, made_up_record

DAY, LATER = date(2024, 12, 31), date(2025, 3, 31)
CUSTOMERS, NEWCOMERS = 1200, 900


def drawn(probability: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Labels by chance."""
    labels: NDArray[np.int64] = (np.random.default_rng(seed).random(len(probability)) < probability).astype(
        "int64"
    )
    return labels


def reference(lake: Lake, as_of: date = DAY) -> Snapshot:
    """The labelled table that versions were trained on."""
    frame = gold_frame(CUSTOMERS, seed=1, labelled=False)
    truth = churn_model(LOGISTIC).predict_proba(frame)[:, 1]
    frame["churn"] = pd.array(drawn(truth, 2), dtype="Int64")
    return publish_gold(lake, frame, as_of)


def version_of(model: ChurnModel, trained: Snapshot, folder: Path) -> str:
    """A version with a model; gives its number."""
    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model, folder / FILE)
    manifest = trained.manifest
    tags = {"data.digest": manifest.digest, "data.as_of": manifest.as_of.isoformat()}
    return add_version(0.75, folder.as_uri(), made_up_record(manifest.digest, manifest.as_of), **tags)


@cache
def poor_model() -> ChurnModel:
    """A model that sees nothing of why these customers leave."""
    gold = labelled(gold_frame(400, seed=3))
    kinds = dict.fromkeys(("std_margin", "tenure_months"), "numeric")
    y = gold["churn"].to_numpy(dtype="int64")
    training = Training(matrix(gold, list(kinds), kinds), y, list(kinds), kinds, LOGISTIC, folds=3, seed=1)
    return fit_final(training, {"C": 1.0, "max_iter": 1000}, 0.3, load_policy())


def score(lake: Lake, number: str, as_of: date = LATER) -> pd.DataFrame:
    """Publish the scores and the treatment log of a later table by the logistic model; gives the scores."""
    gold = gold_frame(CUSTOMERS + NEWCOMERS, seed=as_of.toordinal(), labelled=False)
    held = publish_gold(lake, gold, as_of)
    scored: pd.DataFrame = churn_model(LOGISTIC).predict(gold)
    scored.insert(0, "customer_id", gold["customer_id"])
    scored["expected_monthly_loss"] = scored[PROBABILITY] * gold["avg_monthly_margin"].clip(lower=0)
    known = gold["customer_id"].isin([f"C{i:05d}" for i in range(1, CUSTOMERS + 1)]).to_numpy()
    scored["in_training"] = known & ~in_holdout(gold["customer_id"], load_policy().holdout)
    scored = scored.assign(model_version=number, as_of=as_of)
    publish(lake, "scores", scored, as_of, gold_master=held)
    publish(
        lake, "treatments", treated(scored, gold["avg_monthly_margin"].to_numpy()), as_of, gold_master=held
    )
    return scored


def treated(scored: pd.DataFrame, margin: NDArray[np.float64], share: float = 0.3) -> pd.DataFrame:
    """Everybody an offer pays for gets one, but for a share of controls."""
    offers = load_policy().offers
    offer, value = best_offer(scored[PROBABILITY].to_numpy(), margin, offers)
    rows = offer != NO_OFFER
    control = np.random.default_rng(5).random(len(scored)) < share
    log = pd.DataFrame(
        {
            "customer_id": scored["customer_id"],
            "arm": np.where(control, "control", "offer"),
            "offer": offer,
            "offer_cost": 10.0,
            "timing_window": "immediate",
            "risk_score": scored[PROBABILITY],
            "expected_margin_impact": value,
            "control_share": share,
            "stratum": "all",
            "propensity": np.where(control, share, 1 - share),
            "propensity_no_offer": share,
            **{f"propensity_{name}": np.where(offer == name, 1 - share, 0.0) for name in offers.menu},
            "model_version": scored["model_version"],
            "as_of": scored["as_of"],
        }
    )
    typed: pd.DataFrame = log[rows].astype({"arm": "str", "offer": "str", "timing_window": "str"})
    return typed.reset_index(drop=True)


def write_labels(scored: pd.DataFrame, y: NDArray[np.int64], file: Path) -> Path:
    """A labels file as a utility would hand it in: those who left with the day."""
    left = scored["as_of"].map(lambda day: day + timedelta(60)).where(y == 1, None)
    pd.DataFrame({"customer_id": scored["customer_id"], "churn": y, "label_date": left}).to_csv(
        file, index=False
    )
    return file
