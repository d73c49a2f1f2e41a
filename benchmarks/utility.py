"""A simulated utility taken to gold, with the true probability of churn of each of its customers."""

from __future__ import annotations

import tempfile
from datetime import date
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks import period_sums
from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST
from spanishgas.etl.build import build
from spanishgas.lake import Lake
from spanishgas.lifecycle.experiments import kinds_of, training_side
from spanishgas.simulate import write_extract
from spanishgas.training.fitting import Training

AS_OF, PUBLISHED_SIZE = date(2024, 12, 31), 20_099


class Utility(NamedTuple):
    """Gold, and the true probabilities by customer."""

    gold: pd.DataFrame
    true: pd.Series


class DatedUtility(NamedTuple):
    """Gold of labels with dates, and the true probability of leaving by month of each customer."""

    gold: pd.DataFrame
    hazards: pd.DataFrame


@cache
def drawn(customers: int, seed: int, as_of: date = AS_OF, shift: str = "none") -> Utility:
    """A utility of its own per size and seed, as of a later date if wanted."""
    gold, truth = _taken(customers, seed, as_of, shift, "churn_probability.parquet")
    return Utility(gold, truth["churn_probability"])


@cache
def dated(customers: int, seed: int, as_of: date = AS_OF) -> DatedUtility:
    """The same customers with the dates on which they left."""
    return DatedUtility(*_taken(customers, seed, as_of, "none", "churn_hazards.parquet"))


def _taken(
    customers: int, seed: int, as_of: date, shift: str, file: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    with tempfile.TemporaryDirectory() as folder:
        raw, truth = Path(folder) / "raw", Path(folder) / "truth"
        with period_sums.drawn(as_of):
            write_extract(
                raw,
                customers=customers,
                seed=seed,
                as_of=as_of,
                labelled=True,
                dated="hazards" in file,
                shift=shift,
                truth=truth,
            )
        gold = build(raw, Lake(Path(folder) / "lake"), as_of).snapshots["gold_master"].pandas()
        true = pd.read_parquet(truth / file).set_index("customer_id")
    return gold, true


def e5(customers: int, seed: int, model: str = XGBOOST) -> Training:
    """The training side of the full feature set."""
    return training_side(
        drawn(customers, seed).gold,
        kinds_of(load_experiment("E5"), model),
        model,
        load_policy(),
        seed,
    )
